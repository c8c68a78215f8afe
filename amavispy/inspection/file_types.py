"""File types - amavis' short types of a part, from its octets alone: ("exe", "exe-ms"), ("zip",), ("asc",).

Cheapest first: text is told from its characters; tables of signatures know what mail mostly carries and what attackers
disguise; only the rest is shown to libmagic, whose description another table maps. A file that several readers would
open has the types of all of them: a program with an archive inside is ("exe", "exe-ms", "rar"), a picture with a zip
behind it ("image", "png", "zip"). Names and declared types are not looked at: they are the banned rules' matter.

libmagic costs up to 0.3 ms a part and 30 ms to start, so a `FileTypes` is made once, before the workers are forked.

**Failures:** none; what nobody knows is "dat".
"""

from __future__ import annotations

import re
import struct

import magic

from amavispy.inspection.file_signatures import DESCRIPTIONS, EMBEDDED, EXE_MS, EXE_UNIX, NEAR_STARTS, STARTS, Types
from amavispy.inspection.text_types import started_types, text_types
from amavispy.mail.message import Octets

_HEAD = 65_536
_NEAR = 1024
_PROBE = 256
_TAIL = 65_536 + 22  # a zip's end record with the longest comment
_PROGRAM = 1 << 20  # readers of RAR look so far for an archive behind a program
_BLANKS = b" \t\r\n\f"

# Lower case, and every octet that is in no text becomes NUL.
_FOLDED = bytes(c if c > 127 or c in b"\x07\b\t\n\f\r\x1b" or 32 <= c < 127 else 0 for c in bytes(range(256)).lower())
_CONTROLS = bytes(c for c in range(256) if not _FOLDED[c])

_MACH_O = {
    b"\xfe\xed\xfa\xce": ">I",
    b"\xfe\xed\xfa\xcf": ">I",
    b"\xce\xfa\xed\xfe": "<I",
    b"\xcf\xfa\xed\xfe": "<I",
}
_FIRST_JAVA = 45  # a universal Mach-O file has fewer programs than any Java class file's version


class FileTypes:
    """Classifies octets. Holds libmagic's open database; harmless to fork with."""

    def __init__(self) -> None:
        self._magic = magic.Magic()

    def of(self, octets: Octets | memoryview) -> tuple[str, ...]:
        """The short types, most general first: () never, ("dat",) when unknown."""
        size = len(octets)
        if size < 2:
            return ("dat",) if size else ("empty",)
        head = bytes(octets[:_HEAD])
        if 0 in head[:_PROBE].translate(_FOLDED):
            return self._of_binary(octets, head)
        low = head.translate(_FOLDED)
        if 0 in low or (not (is_ascii := head.isascii()) and _start(head)):
            return self._of_binary(octets, head)
        types = text_types(low, "asc" if is_ascii else "txt")
        return (*types, "zip") if size > _HEAD and _has_zip_end(octets) else types

    def _of_binary(self, octets: Octets | memoryview, head: bytes) -> Types:
        """By signature, as a text that is one in spite of its control characters, or by libmagic."""
        types = _program_types(head) or _start(head) or _wide_text_types(head) or _placed_types(head)
        types = types or _disguised_text_types(head)
        behind = tuple(short for short in _hidden_types(octets, head, types) if short not in types)
        return types + behind or self._by_magic(head)

    def _by_magic(self, head: bytes) -> Types:
        description: str = self._magic.from_buffer(head)
        return next((types for pattern, types in DESCRIPTIONS if pattern.search(description)), ("dat",))


def _start(head: bytes) -> Types:
    return next((_of_zip(types, head) for start, types in STARTS.get(head[0], ()) if head.startswith(start)), ())


def _of_zip(types: Types, head: bytes) -> Types:
    """What a zip file is the package of; its first members' names stand near its beginning."""
    if types != ("zip",):
        return types
    near = head[:_NEAR]
    if b"[Content_Types].xml" in near:
        return ("zip", "doc")
    if b"META-INF/" in near and b".MF" in near:
        return ("zip", "jar")
    return ("zip", "kmz") if b"doc.kml" in near else types


def _program_types(head: bytes) -> Types:
    """Programs, libraries and objects of Windows, Unix, macOS and Java."""
    if head.startswith(b"MZ"):
        return _windows_types(head)
    if head.startswith(b"\x7fELF") and len(head) > 18:
        return _elf_types(head)
    if (order := _MACH_O.get(head[:4])) and len(head) >= 16:
        kind = struct.unpack_from(order, head, 12)[0]
        return {1: ("o",), 6: ("so",), 8: ("so",)}.get(kind, EXE_UNIX)
    if head.startswith(b"\xca\xfe\xba\xbe") and len(head) >= 8:
        return ("java",) if struct.unpack_from(">I", head, 4)[0] >= _FIRST_JAVA else EXE_UNIX
    return ()


def _windows_types(head: bytes) -> Types:
    if len(head) < 64:
        return EXE_MS if len(head) >= 28 else ()
    at = struct.unpack_from("<I", head, 60)[0]
    if head[at : at + 4] == b"PE\0\0" and len(head) >= at + 24:
        return (*EXE_MS, "dll") if struct.unpack_from("<H", head, at + 22)[0] & 0x2000 else EXE_MS
    return EXE_MS


def _elf_types(head: bytes) -> Types:
    kind = head[16] if head[5] == 1 else head[17]
    if kind == 3:  # libraries, and the position-independent programs of today
        return EXE_UNIX if _has_interpreter(head) else ("so",)
    return ("o",) if kind == 1 else EXE_UNIX


def _has_interpreter(head: bytes) -> bool:
    """Whether a program header names one (PT_INTERP): who has one wants to be run."""
    order = "<" if head[5] == 1 else ">"
    layout, offset, sizes = ("Q", 32, 54) if head[4] == 2 else ("I", 28, 42)
    if len(head) < sizes + 4:
        return False
    start = struct.unpack_from(order + layout, head, offset)[0]
    size, count = struct.unpack_from(order + "HH", head, sizes)
    places = (start + n * size for n in range(min(count, 64)))
    return any(struct.unpack_from(order + "I", head, at)[0] == 3 for at in places if at + 4 <= len(head))


def _placed_types(head: bytes) -> Types:
    """Files whose signature does not stand at their start. A disk image may be a CD and a disk at once."""
    types: Types = ()
    if head[257:262] == b"ustar":
        types = ("tar",)
    elif head[2:5] in (b"-lh", b"-lz", b"-pm") and head[6:7] == b"-":
        types = ("lha",)
    elif b"**ACE**" in head[:_NEAR]:
        types = ("ace",)
    elif head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        types = ("image", "webp")
    if head[32769:32774] in (b"CD001", b"BEA01", b"CDW02"):
        types += ("iso",)
    return (*types, "img") if _has_file_system(head) else types


def _has_file_system(head: bytes) -> bool:
    """An ext, HFS or APFS file system; or a boot sector: a FAT or NTFS file system, or a table of partitions."""
    if head[1080:1082] == b"\x53\xef" and not any(head[:1024]):
        return True
    if head[1024:1028] in (b"H+\0\4", b"HX\0\5") or head[32:36] == b"NXSB":
        return True
    if head[510:512] != b"\x55\xaa":
        return False
    if b"FAT" in (head[54:57], head[82:85]) or head[3:7] in (b"NTFS", b"EXFA") or head[512:520] == b"EFI PART":
        return True
    partitions = [head[at : at + 16] for at in range(446, 510, 16)]
    if any(partition[0] not in (0, 0x80) for partition in partitions):
        return False
    return any(partition[4] and any(partition[12:]) for partition in partitions)


def _wide_text_types(head: bytes) -> Types:
    """UTF-16, with a byte order mark or without."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        charset = "utf-16"
    elif head[1:8:2] == b"\0\0\0\0" and 0 not in head[:8:2]:
        charset = "utf-16-le"
    elif head[:8:2] == b"\0\0\0\0" and 0 not in head[1:8:2]:
        charset = "utf-16-be"
    else:
        return ()
    low = head[: len(head) & ~1].decode(charset, "replace").encode("utf-8", "replace").translate(_FOLDED)
    return text_types(low, "txt") if charset == "utf-16" or 0 not in low else ()


def _disguised_text_types(head: bytes) -> Types:
    """Pages and documents whose readers do not mind control characters in them."""
    low = head.translate(_FOLDED, _CONTROLS)
    return started_types(low[:_NEAR].lstrip(_BLANKS), low, "txt")


def _hidden_types(octets: Octets | memoryview, head: bytes, types: Types) -> list[str]:
    """Archives and documents behind the start of something else, disk images known by their end."""
    near = head[:_NEAR]
    found = [short for mark, short in NEAR_STARTS if mark in near]
    where = bytes(octets[:_PROGRAM]) if "exe" in types else near
    found += [short for mark, pattern, short in EMBEDDED if mark in where and _is_embedded(mark, pattern, where)]
    last = bytes(octets[-512:])
    if last.startswith(b"conectix"):
        found.append("vhd")
    elif last.startswith(b"koly"):
        found.append("dmg")
    if "zip" not in types and "zip" not in found and _has_zip_end(octets):
        found.append("zip")
    return found


def _is_embedded(mark: bytes, pattern: re.Pattern[bytes], where: bytes) -> bool:
    at = where.find(mark)
    while at >= 0 and not pattern.match(where, at):
        at = where.find(mark, at + 1)
    return at >= 0


def _has_zip_end(octets: Octets | memoryview) -> bool:
    """Readers of zip files look for the directory from the end, whatever stands before it."""
    tail = bytes(octets[max(0, len(octets) - _TAIL) :])
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) < at + 22:
        return False
    return tail[at + 4 : at + 8] == b"\0\0\0\0" or b"PK\x01\x02" in tail

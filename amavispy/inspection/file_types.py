"""File types - amavis' short types of a part, from its octets alone: ("exe", "exe-ms"), ("zip",), ("asc",).

Three steps, cheapest first: text is told from its characters; a table of signatures knows what mail mostly carries
and what attackers disguise (a PDF behind junk, a program with a zip at its end); only the rest is shown to libmagic,
whose description a second table maps. Names and declared types are not looked at: they are the banned rules' matter.

libmagic costs up to 0.3 ms a part and 30 ms to start, so a `FileTypes` is made once, before the workers are forked.

**Failures:** none; what nobody knows is "dat".
"""

from __future__ import annotations

import re
import struct

import magic

from amavispy.mail.message import Octets

_HEAD = 65_536
_NEAR = 1024
_PROBE = 256
_TAIL = 65_536 + 22  # a zip's end record with the longest comment
_TEXT = bytes({7, 8, 9, 10, 12, 13, 27, *range(32, 127)})
_HIGH = bytes(range(128, 256))

_EXE_MS = ("exe", "exe-ms")
_EXE_UNIX = ("exe", "exe-unix")

# Signatures at the very start of a binary file.
_SIGNATURES: tuple[tuple[bytes, tuple[str, ...]], ...] = (
    (b"\xff\xd8\xff", ("image", "jpg")),
    (b"\x89PNG\r\n\x1a\n", ("image", "png")),
    (b"GIF8", ("image", "gif")),
    (b"II*\x00", ("image", "tif")),
    (b"MM\x00*", ("image", "tif")),
    (b"PK\x03\x04", ("zip",)),
    (b"PK\x05\x06", ("zip",)),
    (b"PK00PK\x03\x04", ("zip",)),
    (b"%PDF-", ("pdf",)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ("doc", "cdf-ms")),
    (b"\x1f\x8b", ("gz",)),
    (b"BZh", ("bz2",)),
    (b"\xfd7zXZ\x00", ("xz",)),
    (b"\x28\xb5\x2f\xfd", ("zst",)),
    (b"\x04\x22\x4d\x18", ("lz4",)),
    (b"\x1f\x9d", ("Z",)),
    (b"\x89LZO\x00\r\n\x1a\n", ("lzo",)),
    (b"LRZI", ("lrz",)),
    (b"7z\xbc\xaf\x27\x1c", ("7z",)),
    (b"Rar!\x1a\x07", ("rar",)),
    (b"MSCF\x00\x00\x00\x00", ("cab",)),
    (b"ISc(", ("installshield",)),
    (b"\x78\x9f\x3e\x22", ("tnef",)),
    (b"\xed\xab\xee\xdb", ("rpm",)),
    (b"!<arch>\ndebian-binary", ("deb",)),
    (b"!<arch>\n", ("a",)),
    (b"070707", ("cpio",)),
    (b"070701", ("cpio",)),
    (b"070702", ("cpio",)),
    (b"\xc7\x71", ("cpio",)),
    (b"\x71\xc7", ("cpio",)),
    (b"\x60\xea", ("arj",)),
    (b"ZOO ", ("zoo",)),
    (b"\xca\xfe\xba\xbe\x00\x00\x00", ("java",)),
    (b"L\x00\x00\x00\x01\x14\x02\x00", ("lnk",)),
    (b"ITSF\x03\x00\x00\x00", ("chm",)),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", ("one",)),
    (b"FWS", ("swf",)),
    (b"CWS", ("swf",)),
    (b"ZWS", ("swf",)),
    (b"\x99\x01", ("pgp", "pgp.asc")),
    (b"OggS", ("audio", "ogg")),
    (b"fLaC", ("audio", "flac")),
    (b"ID3", ("audio", "mpa", "mp3")),
)
_BY_FIRST: dict[int, tuple[tuple[bytes, tuple[str, ...]], ...]] = {
    first: tuple(s for s in _SIGNATURES if s[0][0] == first) for first in {s[0][0] for s in _SIGNATURES}
}

# What a text starts with, blanks and a byte order mark skipped, in lower case.
_MARKUP = re.compile(
    rb"(?P<html><!doctype html|<(?:html|head|title|body|script|style|table|a href=|h1)[\s>])|(?P<svg><svg[\s>])"
    rb"|(?P<xml><\?xml[\s?])|(?P<sgml><!doctype|<!entity)|(?P<rtf>\{\\rt)|(?P<ps>%!)|(?P<pdf>%pdf-)|(?P<script>#!)"
    rb"|(?P<uue>begin [0-7]{3,4} )|(?P<hqx>\(this file must be converted)"
    rb"|(?P<pgpe>-----begin pgp message)|(?P<pgpa>-----begin pgp (?:signature|public|signed))"
    rb"|(?P<deb>!<arch>\ndebian-binary)|(?P<a>!<arch>\n)|(?P<cpio>07070[127][0-9a-f]{20})"
    rb"|(?P<mail>(?:return-path|received|delivered-to|x-original-to|message-id):[ \t])"
)
_HTML_LATER = re.compile(rb"<(?:html|body|script)[\s>]")
_MARKUP_TYPES: dict[str, tuple[str, ...]] = {
    "html": ("html",),
    "svg": ("image", "svg"),
    "xml": ("xml",),
    "sgml": ("sgml",),
    "rtf": ("rtf",),
    "ps": ("ps",),
    "pdf": ("pdf",),
    "script": ("txt",),
    "uue": ("uue",),
    "hqx": ("hqx",),
    "pgpe": ("pgp", "pgp.enc"),
    "pgpa": ("pgp", "pgp.asc"),
    "mail": ("mail",),
    "deb": ("deb",),
    "a": ("a",),
    "cpio": ("cpio",),
}

# libmagic's descriptions of what the signatures above leave over; the first that matches counts.
_DESCRIPTIONS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = tuple(
    (re.compile(pattern), types)
    for pattern, types in (
        (r"^(?:empty|directory)", ("empty",)),
        (r"^data$|^very short file", ("dat",)),
        (r"^PGP .*(?:encrypted|Encrypted)", ("pgp", "pgp.enc")),
        (r"^PGP |^OpenPGP ", ("pgp", "pgp.asc")),
        (r"\bPE32\+? executable.*\(DLL\)", ("exe", "dll")),
        (r"\b(?:PE32\+? executable|MS-DOS executable|MS Windows|DOS executable|COM executable)", _EXE_MS),
        (r"^ELF .*(?:shared object)", ("so",)),
        (r"^ELF .*relocatable", ("o",)),
        (r"^ELF |\bMach-O\b|executable.*not stripped", _EXE_UNIX),
        (r"\b(?:JPEG|JFIF|Exif)\b", ("image", "jpg")),
        (r"\bGIF image", ("image", "gif")),
        (r"\bPNG image", ("image", "png")),
        (r"\bTIFF image", ("image", "tif")),
        (r"^PC bitmap|^PCX\b", ("image", "bmp")),
        (r"\bSVG\b", ("image", "svg")),
        (r"\bRIFF.*\bAVI\b", ("movie", "avi")),
        (r"\bRIFF.*\bWAVE\b", ("audio", "wav")),
        (r"\bRIFF.*animated cursor", ("movie", "ani")),
        (r"^ISO Media.*(?:M4A|M4B)", ("audio", "mpa", "m4a", "m4b")),
        (r"^ISO Media", ("movie", "mpv")),
        (r"^Matroska|^WebM", ("movie", "mkv")),
        (r"\bMPEG.*layer III\b", ("audio", "mpa", "mp3")),
        (r"\bMPEG.*(?:audio|layer)", ("audio", "mpa", "mp2")),
        (r"\bMPEG\b", ("movie", "mpg")),
        (r"^Microsoft ASF", ("movie", "wmv")),
        (r"\bHTML document", ("html",)),
        (r"\bXML\b", ("xml",)),
        (r"\bPDF document", ("pdf",)),
        (r"Rich Text Format", ("rtf",)),
        (r"^Composite Document|Microsoft Office Document", ("doc", "cdf-ms")),
        (r"\bZip\b.*archive|^Java archive|Microsoft (?:Word|Excel|PowerPoint|OOXML)|^OpenDocument", ("zip",)),
        (r"\btar archive", ("tar",)),
        (r"\bcpio archive", ("cpio",)),
        (r"^LHa\b|^LHarc", ("lha",)),
        (r"\bARC archive", ("arc",)),
        (r"\bACE archive", ("ace",)),
        (r"\bLZMA compressed", ("lzma",)),
        (r"^bzip compressed", ("bz",)),
        (r"^StuffIt", ("sit",)),
        (r"^frozen", ("F",)),
        (r"ISO 9660|UDF filesystem", ("iso",)),
        (r"^TeX DVI", ("dvi",)),
        (r"^compiled Java class", ("java",)),
        (r"^Windows metafile|Windows Enhanced Metafile", ("wmf",)),
        (r"^GNU message catalog", ("mo",)),
        (r"\bASCII text", ("asc",)),
        (r"UTF-(?:8|16|32)|Unicode text|ISO-8859|\btext\b", ("txt",)),
    )
)


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
        if head[:_PROBE].translate(None, _TEXT + _HIGH):
            return _binary_types(octets, head) or self._by_magic(head)
        rest = head.translate(None, _TEXT)
        if not rest:
            return _text_types(head, "asc")
        if not rest.translate(None, _HIGH) and not _signature(head):
            return _text_types(head, "txt")
        return _binary_types(octets, head) or self._by_magic(head)

    def _by_magic(self, head: bytes) -> tuple[str, ...]:
        if head.startswith((b"\xff\xfe", b"\xfe\xff")):
            return _wide_text_types(head)
        description: str = self._magic.from_buffer(head)
        return next((types for pattern, types in _DESCRIPTIONS if pattern.search(description)), ("dat",))


def _text_types(head: bytes, plain: str) -> tuple[str, ...]:
    start = head[:_NEAR].lstrip(b"\xef\xbb\xbf \t\r\n\f").lower()
    if match := _MARKUP.match(start):
        kind = match.lastgroup or ""
        if kind in ("xml", "sgml"):  # a page or a picture may begin with any declaration
            kind = "html" if _HTML_LATER.search(start) else "svg" if b"<svg" in start else kind
        return _MARKUP_TYPES[kind]
    if b"<" in start and _HTML_LATER.search(start):
        return ("html",)
    return ("pdf",) if b"%pdf-" in start else (plain,)


def _wide_text_types(head: bytes) -> tuple[str, ...]:
    """UTF-16 with a byte order mark."""
    text = head[: 2 * _NEAR].decode("utf-16", "replace").encode("utf-8", "replace")
    return _text_types(text, "txt")


def _binary_types(octets: Octets | memoryview, head: bytes) -> tuple[str, ...]:
    """By signature: at the start, and those that readers also accept further down."""
    types = _program_types(head) or _signature(head)
    near = head[:_NEAR]
    if "pdf" not in types and b"%PDF-" in near:
        types += ("pdf",)
    if not types and head[257:262] == b"ustar":
        types = ("tar",)
    if not types and head[2:5] in (b"-lh", b"-lz") and head[6:7] == b"-":
        types = ("lha",)
    if not types and b"**ACE**" in near:
        types = ("ace",)
    if not types and head[32769:32774] == b"CD001":
        types = ("iso",)
    if types == ("zip",) and b"[Content_Types].xml" in near:
        types = ("zip", "doc")
    if "zip" not in types and (b"PK\x03\x04" in near or _has_zip_end(octets, types)):
        types += ("zip",)
    return types


def _signature(head: bytes) -> tuple[str, ...]:
    return next((types for start, types in _BY_FIRST.get(head[0], ()) if head.startswith(start)), ())


def _program_types(head: bytes) -> tuple[str, ...]:
    """Windows and Unix programs and libraries."""
    if head.startswith(b"MZ"):
        return _windows_types(head)
    if head.startswith(b"\x7fELF") and len(head) > 18:
        kind = head[16] if head[5] == 1 else head[17]
        return {1: ("o",), 2: _EXE_UNIX}.get(kind, ())  # 3: libmagic tells programs from libraries
    return ()


def _windows_types(head: bytes) -> tuple[str, ...]:
    if len(head) < 64:
        return _EXE_MS if len(head) >= 28 else ()
    at = struct.unpack_from("<I", head, 60)[0]
    if head[at : at + 4] == b"PE\0\0" and len(head) >= at + 24:
        return (*_EXE_MS, "dll") if struct.unpack_from("<H", head, at + 22)[0] & 0x2000 else _EXE_MS
    return _EXE_MS


def _has_zip_end(octets: Octets | memoryview, types: tuple[str, ...]) -> bool:
    """A program or picture may carry a whole zip behind itself; readers of zip look from the end."""
    if not types or types[0] not in ("exe", "image", "pdf"):
        return False
    tail = bytes(octets[max(0, len(octets) - _TAIL) :])
    return b"PK\x05\x06" in tail

"""zip_directory - what a zip file says of its members, in both of the places where it says so.

Some readers go by the central directory at the end, others walk along the local headers from the front, and an
attacker lets the two differ. So both are read: `central` follows every end record that it finds (zip64 too, behind a
self-extractor or not), `LocalHeader` is one step of the walk. Both give an `Entry` with absolute offsets.

Source: APPNOTE.TXT 6.3, chapter 4.3.

**Failures:** LimitExceeded when a directory lists too many members; damage ends a directory early.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from amavispy.inspection.budget import Budget
from amavispy.inspection.packed import Searchable, unique

_END = struct.Struct("<4s4H2IH")
_END64 = struct.Struct("<4sQ2H2I4Q")
_LOCATOR = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4s2B5H3I5H2I")
_LOCAL = struct.Struct("<4s2B4HI2I2H")
_ENDS = 8  # end records that are followed
_MAX32, _MAX16 = 0xFFFFFFFF, 0xFFFF
METHODS = frozenset((0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 14, 16, 18, 19, 20, 93, 94, 95, 96, 97, 98, 99))

ENCRYPTED, DESCRIPTOR, STRONG, MASKED = 1, 8, 64, 8192
_UTF8 = 0x800
_CP437 = codecs.lookup("cp437")


@dataclass(slots=True)
class Entry:
    """A member as one of the two places describes it. `offset` is its local header's, `size` the packed one."""

    name: bytes
    flags: int
    method: int
    crc: int
    size: int
    full_size: int
    offset: int
    extra: bytes = b""
    mode: int = 0

    @property
    def end(self) -> int:
        """Behind its data, at least: the local header's extra field is not known here."""
        return self.offset + _LOCAL.size + len(self.name) + self.size

    def names(self) -> tuple[str, ...]:
        """Every name that a reader may show: by both character sets, cut at a NUL and whole, and the Unicode field."""
        try:
            utf8 = self.name.decode()
        except UnicodeDecodeError:
            utf8 = ""
        listed: tuple[str, ...]
        if self.name.isascii():
            listed = (utf8,)
        else:
            cp437 = _CP437.decode(self.name)[0]
            listed = (utf8, "") if self.flags & _UTF8 and utf8 else (cp437, utf8)
        cut = [name.partition("\0")[0] for name in listed]
        return unique(*cut, *listed, self._unicode_path())

    def _unicode_path(self) -> str:
        """The Info-ZIP Unicode Path field, 0x7075 (APPNOTE 4.6.9)."""
        field = field_of(self.extra, 0x7075)
        return field[5:].decode("utf-8", "replace") if len(field) > 5 else ""


def field_of(extra: bytes, wanted: int) -> bytes:
    """One field of the extra data, b"" when there is none."""
    at = 0
    while at + 4 <= len(extra):
        kind, size = struct.unpack_from("<HH", extra, at)
        if kind == wanted:
            return extra[at + 4 : at + 4 + size]
        at += 4 + size
    return b""


def central(octets: Searchable, budget: Budget) -> list[Entry]:
    """The members that the central directories list, each once: of the last end record first."""
    found: dict[tuple[int, bytes, int], Entry] = {}
    at, listed = len(octets), 0
    for _ in range(_ENDS):
        at = octets.rfind(b"PK\x05\x06", 0, at)
        if at < 0:
            break
        # An end record inside of a member is that of a zip in this zip.
        if at + _END.size > len(octets) or any(entry.offset < at < entry.end for entry in found.values()):
            continue
        for start, base in sorted(_starts(octets, at)):
            for entry in _entries(octets, start, base):
                found.setdefault((entry.offset, entry.name, entry.size), entry)
                listed += 1
                budget.foresee_files(listed)
    return list(found.values())


def _starts(octets: Searchable, end: int) -> set[tuple[int, int]]:
    """Where directories begin, and what their offsets count from: by the end record's word, and by where it stands."""
    size, offset = _END.unpack_from(octets, end)[5:7]
    return _checked(octets, end, size, offset) | _locator(octets, end)


def _checked(octets: Searchable, end: int, size: int, offset: int) -> set[tuple[int, int]]:
    nominal, actual = (offset, 0), (end - size, end - size - offset)
    return {
        (at, base) for at, base in (nominal, actual) if 0 <= at < end and base >= 0 and octets[at : at + 4] == b"PK\1\2"
    }


def _locator(octets: Searchable, end: int) -> set[tuple[int, int]]:
    """The directory by the zip64 end record (APPNOTE 4.3.14), where its locator says or right before that."""
    at = end - _LOCATOR.size
    if at < 0 or octets[at : at + 4] != b"PK\6\7":
        return set()
    starts = set()
    for record in {_LOCATOR.unpack_from(octets, at)[2], at - _END64.size}:
        if 0 <= record <= len(octets) - _END64.size and octets[record : record + 4] == b"PK\6\6":
            size, offset = _END64.unpack_from(octets, record)[8:10]
            starts |= _checked(octets, record, size, offset)
    return starts


def _entries(octets: Searchable, at: int, base: int) -> Iterator[Entry]:
    while at + _CENTRAL.size <= len(octets) and octets[at : at + 4] == b"PK\1\2":
        fields = _CENTRAL.unpack_from(octets, at)
        _, _, system, _, flags, method, _, _, crc, size, full, name, extra, comment, _, _, external, offset = fields
        at += _CENTRAL.size
        if offset == _MAX32 or size == _MAX32 or full == _MAX32:
            full, size, offset = _zip64(octets[at + name : at + name + extra], full, size, offset)
        mode = external >> 16 if system == 3 else 0
        yield Entry(
            octets[at : at + name],
            flags, method, crc, size, full, base + offset, octets[at + name : at + name + extra], mode,
        )  # fmt: skip
        at += name + extra + comment


def _zip64(extra: bytes, full: int, size: int, offset: int) -> tuple[int, int, int]:
    """The numbers that do not fit into 32 bits, from the zip64 field (APPNOTE 4.5.3)."""
    field = field_of(extra, 1)
    numbers = iter(struct.unpack(f"<{len(field) // 8}Q", field[: len(field) // 8 * 8]))
    return tuple(next(numbers, n) if n == _MAX32 else n for n in (full, size, offset))  # type: ignore[return-value]


def local_header(octets: Searchable, at: int) -> tuple[Entry, int] | None:
    """The local header at `at` and the offset of its data; None when there is none that makes sense."""
    if not 0 <= at <= len(octets) - _LOCAL.size or octets[at : at + 4] != b"PK\3\4":
        return None
    _, version, _, flags, method, _, _, crc, size, full, name, extra = _LOCAL.unpack_from(octets, at)
    start = at + _LOCAL.size
    if version > 99 or method not in METHODS or not name or start + name > len(octets):
        return None
    more = octets[start + name : start + name + extra]
    if _MAX32 in (size, full):
        full, size, _ = _zip64(more, full, size, 0)
    return Entry(octets[start : start + name], flags, method, crc, size, full, at, more), start + name + extra

"""zip_files - the members of a zip file, by every reading of it.

The central directory's members come first, under the names of both places. Then the local headers that no directory
knows, or that contradict it: readers that walk along the file show those. When the two differ, or members share
octets, the zip is marked B.

Stored, deflated and bzip2 members are read here; LZMA, xz, zstd, PPMd and decrypting with given passwords are
libarchive's; the older methods are left to the tools (`U` without octets).

**Failures:** CannotUnpack when there is neither a directory nor a local header.
"""

from __future__ import annotations

import bz2
import stat
import zlib
from collections.abc import Iterator

from amavispy.inspection import libarchive_formats
from amavispy.inspection.budget import Budget
from amavispy.inspection.compressed import Inflating, decompressing
from amavispy.inspection.packed import (
    CHUNK,
    CannotUnpack,
    Chunk,
    Damaged,
    Found,
    Packed,
    Remark,
    Searchable,
    slices,
    unique,
)
from amavispy.inspection.zip_directory import (
    DESCRIPTOR,
    ENCRYPTED,
    MASKED,
    STRONG,
    Entry,
    central,
    local_header,
)

_OWN = frozenset((0, 8, 12))
_LIBARCHIVE = frozenset((14, 93, 95, 98))
_SMALL = 65_536
_UNDEFINED = 0xC780  # bits of the flags that mean nothing (APPNOTE 4.4.4)
_MACROS = ("vbaproject.bin", "/macrosheets/", "basic/script-lc.xml", "vbadata.xml")


def unpack_zip(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """The members of a zip, wherever in the part it begins."""
    reading = _Reading(packed, budget)
    yield from reading.by_directory()
    yield from reading.by_local_headers()
    yield from reading.by_libarchive()
    if not reading.members:
        raise CannotUnpack("zip: neither a directory nor a member", "U")
    if reading.has_macros:
        yield Remark(types=("doc-macro",), text="macros")
    if reading.is_ambiguous:
        yield Remark("B", text="the central directory and the local headers differ")


class _Reading:
    """One zip being read."""

    def __init__(self, packed: Packed, budget: Budget) -> None:
        self.packed = packed
        self.octets: Searchable = packed.searchable()
        self.budget = budget
        self.members = 0
        self.is_ambiguous = False
        self.has_macros = False
        self._known: dict[int, Entry] = {}
        self._left: list[Entry] = []  # to be tried by libarchive

    def by_directory(self) -> Iterator[Found]:
        entries = central(self.octets, self.budget)
        end = 0
        for entry in sorted(entries, key=lambda e: e.offset):
            self.is_ambiguous |= entry.offset < end
            end = max(end, entry.offset + entry.size)
        for entry in entries:
            self._known[entry.offset] = entry
            yield from self._listed(entry)

    def _listed(self, entry: Entry) -> Iterator[Found]:
        """A member by the directory, with what its local header says otherwise."""
        header = local_header(self.octets, entry.offset)
        if header is None:
            yield from self._found(entry, None)
            return
        local, start = header
        names = entry.names()
        if local.name != entry.name and _plain(local.name) != _plain(entry.name):
            self.is_ambiguous = True
            names = unique(*names, *local.names())
        yield from self._found(entry, start, names)
        if _differs(entry, local):
            self.is_ambiguous = True
            yield from self._found(local, start, names)

    def by_local_headers(self) -> Iterator[Found]:
        """Members that no directory knows, walking along the file."""
        at = self.octets.find(b"PK\3\4")
        while at >= 0:
            if entry := self._known.get(at):
                header = local_header(self.octets, at)
                end = (header[1] if header else at) + entry.size
            elif (header := local_header(self.octets, at)) and self._is_plausible(*header):
                local, start = header
                self.is_ambiguous |= bool(self._known)
                self._finish_header(local, start)
                yield from self._found(local, start)
                end = start + local.size
            else:
                end = at + 4
            at = self.octets.find(b"PK\3\4", max(at + 4, end if end <= len(self.octets) else 0))

    def _is_plausible(self, local: Entry, start: int) -> bool:
        """Programs that read zip files contain the signature too, with code behind it."""
        if local.flags & _UNDEFINED:
            return False
        return start + local.size <= len(self.octets) or min(local.name) >= 32

    def _finish_header(self, local: Entry, start: int) -> None:
        """The size of a member that has it behind itself (APPNOTE 4.3.9) is where its data end."""
        if not local.flags & DESCRIPTOR or local.size:
            return
        if local.method == 8 and not local.flags & ENCRYPTED:
            content = Inflating(self.octets, start)
            try:
                for chunk in content:
                    self.budget.foresee(len(chunk), "do_unzip")
                    self.budget.check_time()
            except Damaged:
                pass
            local.size = content.end - start
        else:
            ends = [self.octets.find(sign, start) for sign in (b"PK\7\10", b"PK\3\4", b"PK\1\2")]
            local.size = min((end for end in ends if end >= 0), default=len(self.octets)) - start
        local.crc = 0

    def _found(self, entry: Entry, start: int | None, names: tuple[str, ...] | None = None) -> Iterator[Found]:
        names = entry.names() if names is None else names
        self.members += 1
        lowered = entry.name.lower().decode("latin-1")
        self.has_macros |= any(mark in lowered for mark in _MACROS)
        if entry.name.endswith(b"/") and not entry.full_size:
            yield Found(names, attributes="D")
        elif stat.S_ISLNK(entry.mode):
            yield Found(names, attributes="L")
        elif entry.flags & (ENCRYPTED | STRONG | MASKED) or entry.method == 99:
            yield from self._later(entry, Found(names, attributes="UC"), bool(self.packed.passwords))
        elif start is None or entry.method not in _OWN:
            yield from self._later(entry, Found(names, attributes="U"), entry.method in _LIBARCHIVE)
        else:
            yield Found(names, _content(self.octets, start, entry), declared=entry.full_size)

    def _later(self, entry: Entry, found: Found, is_worth_it: bool) -> Iterator[Found]:
        if is_worth_it:
            self._left.append(entry)
        else:
            yield found

    def by_libarchive(self) -> Iterator[Found]:
        """What only libarchive can read; whatever it cannot either is named and marked."""
        if not self._left:
            return
        wanted = {entry.names()[0]: entry for entry in self._left if entry.names()}
        for found in libarchive_formats.members(self.packed, "zip", frozenset(wanted)):
            if found.names and found.names[0] in wanted:
                del wanted[found.names[0]]
                yield found
        for entry in wanted.values():
            yield Found(entry.names(), attributes="UC" if entry.flags & ENCRYPTED else "U")


def _inflated(packed: memoryview) -> bytes | None:
    """The usual case at once: a small member, whole and sound. None when there is more to it."""
    inflater = zlib.decompressobj(-15)
    try:
        chunk = inflater.decompress(packed, CHUNK)
    except zlib.error:
        return None
    return chunk if inflater.eof else None


def _plain(name: bytes) -> bytes:
    return name.replace(b"\\", b"/").strip(b"/")


def _differs(entry: Entry, local: Entry) -> bool:
    """Would a reader of local headers get other octets? Sizes may be left for behind the data."""
    if local.method != entry.method or (local.flags ^ entry.flags) & ENCRYPTED:
        return True
    return not local.flags & DESCRIPTOR and local.size != entry.size


def _content(octets: Searchable, start: int, entry: Entry) -> Iterator[Chunk]:
    """A member's octets. A wrong checksum marks it, but it is inspected all the same."""
    end = start + entry.size
    view = memoryview(octets)
    if end > len(octets):
        end = len(octets)
    crc = 0
    if entry.method == 8 and entry.size <= _SMALL and (whole := _inflated(view[start:end])) is not None:
        crc = zlib.crc32(whole)
        yield whole
    elif entry.method == 8:
        inflating = Inflating(view, start, end)
        yield from inflating
        crc = inflating.crc
    else:
        source = slices(view, start, end) if not entry.method else decompressing(view[start:end], bz2.BZ2Decompressor)
        for chunk in source:
            crc = zlib.crc32(chunk, crc)
            yield chunk
    if entry.crc and crc != entry.crc:
        raise Damaged("wrong checksum")

"""Archives - what lies inside a packed part: one unpacker a short type, all with the same small face.

An unpacker takes a `Packed` part and the mail's `Budget` and yields `Member`s one after the other. It touches no file
name, no process and no other part, so that a confined child can run the same table one day. Octets are charged as
they come out, before they are kept; what an archive declares of itself is used only to stop earlier.

A member that cannot be looked into is yielded without octets but with its name (banned rules want it) and its
attributes: UC encrypted, U unsupported or damaged, D directory, L link, S special.

**Failures:** LimitExceeded when the quota is used up, CannotUnpack when this is no archive after all: the decoder then
leaves the part as it is. Damage in the middle is no failure: what came out before it is inspected.
"""

from __future__ import annotations

import bz2
import io
import lzma
import mmap
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import libarchive
from libarchive.exception import ArchiveError

from amavispy.inspection.budget import Budget, LimitExceeded
from amavispy.mail.message import Octets

_INPUT = 65_536  # octets of packed data fed at once
_OUTPUT = 1 << 20  # octets taken out at once
_IN_MEMORY = 8 << 20  # a member larger than this goes to an unlinked file
_STREAMS = 4096  # compressed streams one after the other in a file
_LZMA_MEMORY = 128 << 20

_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_UTF8_NAME = 0x800
_ZIP_FAULTS = (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, OSError, struct.error, IndexError)
_STREAM_FAULTS = (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError)


class CannotUnpack(Exception):
    """This is not what its signature promised; `attributes` are to be noted on the part."""

    def __init__(self, text: str, attributes: str = "") -> None:
        super().__init__(text)
        self.attributes = attributes


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed part: its octets and the names it is known by."""

    octets: bytes | memoryview
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Member:
    """Something found inside. `octets` is None when there is nothing to look into."""

    names: tuple[str, ...]
    octets: bytes | memoryview | None = None
    attributes: str = ""


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


Unpacker = Callable[[Packed, Budget], Iterator[Member]]


def unpack_zip(packed: Packed, budget: Budget) -> Iterator[Member]:
    """The members of a zip by its central directory, wherever in the part it begins."""
    octets = bytes(packed.octets)
    budget.foresee_files(octets.count(b"PK\x01\x02"))
    try:
        entries = zipfile.ZipFile(io.BytesIO(octets)).infolist()
    except _ZIP_FAULTS as fault:
        raise CannotUnpack(f"zip: {fault}") from fault
    view = memoryview(octets)  # members may overlap: slices of bytes would copy the same megabytes again and again
    for entry in entries:
        yield from _zip_member(view, entry, budget)


def _zip_member(octets: memoryview, entry: zipfile.ZipInfo, budget: Budget) -> Iterator[Member]:
    names = tuple(dict.fromkeys((entry.filename, entry.orig_filename)))
    mode = entry.external_attr >> 16
    if entry.filename.endswith("/"):
        yield Member(names, attributes="D")
    elif stat.S_ISLNK(mode) and entry.create_system == 3:
        yield Member(names, attributes="L")
    elif entry.flag_bits & 1:
        yield Member(names, attributes="UC")
    elif (start := _zip_content(octets, entry)) is None or entry.compress_type not in (0, 8, 12):
        yield Member(names, attributes="U")
    else:
        try:
            budget.foresee(entry.file_size, "do_unzip")
        except LimitExceeded:
            yield Member(names)
            raise
        chunks = _zip_chunks(octets[start : start + entry.compress_size], entry.compress_type)
        yield from _member(names, chunks, budget, "do_unzip")


def _zip_content(octets: memoryview, entry: zipfile.ZipInfo) -> int | None:
    """Where a member's data start, by its local header; None when there is none."""
    at = entry.header_offset
    if not 0 <= at <= len(octets) - _LOCAL_HEADER.size:
        return None
    fields = _LOCAL_HEADER.unpack_from(octets, at)
    return at + _LOCAL_HEADER.size + fields[9] + fields[10] if fields[0] == b"PK\x03\x04" else None


def _zip_chunks(data: memoryview, method: int) -> Iterator[bytes | memoryview]:
    if method == 0:
        return iter((data,))
    return _inflate(data) if method == 8 else _stream(data, bz2.BZ2Decompressor)


def _inflate(data: bytes | memoryview, window: int = -15) -> Iterator[bytes | memoryview]:
    """One or more deflate streams (gzip's members), in chunks; ends where the data stop making sense."""
    inflater, streams = zlib.decompressobj(window), 1
    for at in range(0, len(data), _INPUT):
        rest = bytes(data[at : at + _INPUT])
        while rest:
            chunk = inflater.decompress(rest, _OUTPUT)
            if chunk:
                yield chunk
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = inflater.unused_data
                if window < 0 or not rest.startswith(b"\x1f\x8b"):
                    return
                inflater, streams = zlib.decompressobj(window), _one_more(streams)


def _stream(data: bytes | memoryview, new: Callable[[], _Decompressor]) -> Iterator[bytes | memoryview]:
    """bzip2 or xz streams one after the other, in chunks."""
    decompressor, streams = new(), 1
    for at in range(0, len(data), _INPUT):
        rest = bytes(data[at : at + _INPUT])
        while True:
            chunk = decompressor.decompress(rest, _OUTPUT)
            if chunk:
                yield chunk
            rest = b""
            if decompressor.eof:
                rest = decompressor.unused_data.lstrip(b"\0")
                decompressor, streams = new(), _one_more(streams)
                if not rest:
                    break
            elif len(chunk) < _OUTPUT:
                break


def _one_more(streams: int) -> int:
    # Each stream's end copies the input behind it: a file of nothing but empty streams would cost its square.
    if streams >= _STREAMS:
        raise ValueError("too many compressed streams in one file")
    return streams + 1


def _member(names: tuple[str, ...], chunks: Iterator[bytes | memoryview], budget: Budget, by: str) -> Iterator[Member]:
    """The member that `chunks` make. Beyond the quota it is yielded by name only, and decoding ends."""
    content = _Content()
    attributes = ""
    try:
        for chunk in chunks:
            budget.charge(len(chunk), by)
            content.add(chunk)
    except LimitExceeded:
        yield Member(names)
        raise
    except _STREAM_FAULTS:
        attributes = "U"
    yield Member(names, content.octets(), attributes)


class _Content:
    """The octets of a growing member: in memory while small, then in an unlinked file that is mapped."""

    def __init__(self) -> None:
        self._chunks: list[bytes | memoryview] = []
        self._size = 0
        self._file: io.BufferedRandom | None = None

    def add(self, chunk: bytes | memoryview) -> None:
        self._size += len(chunk)
        if self._file is None and self._size > _IN_MEMORY:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as its mapping
            self._file.writelines(self._chunks)
            self._chunks.clear()
        if self._file:
            self._file.write(chunk)
        else:
            self._chunks.append(chunk)

    def octets(self) -> bytes | memoryview:
        if not self._file:
            return b"".join(self._chunks)
        self._file.flush()
        mapped: Octets = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        self._file.close()
        return memoryview(mapped)


def unpack_gzip(packed: Packed, budget: Budget) -> Iterator[Member]:
    """What a gzip file holds, under its derived name and the one that it stores."""
    names = _derived(packed.names, {".gz": "", ".tgz": ".tar", ".svgz": ".svg", ".z": ""})
    stored = _gzip_name(bytes(packed.octets[:1024]))
    yield from _member(_unique(*names, stored), _inflate(packed.octets, 31), budget, "do_gunzip")


def _gzip_name(head: bytes) -> str:
    """The original file's name in a gzip header (RFC 1952 2.3), "" when there is none."""
    if len(head) < 12 or not head[3] & 8:
        return ""
    at = 12 + int.from_bytes(head[10:12], "little") if head[3] & 4 else 10
    return head[at:].partition(b"\0")[0].decode("latin-1")


def unpack_bzip2(packed: Packed, budget: Budget) -> Iterator[Member]:
    names = _derived(packed.names, {".bz2": "", ".tbz": ".tar", ".tbz2": ".tar", ".bz": ""})
    yield from _member(names, _stream(packed.octets, bz2.BZ2Decompressor), budget, "do_bunzip2")


def unpack_xz(packed: Packed, budget: Budget) -> Iterator[Member]:
    names = _derived(packed.names, {".xz": "", ".txz": ".tar", ".lzma": "", ".tlz": ".tar"})
    chunks = _stream(packed.octets, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY))
    yield from _member(names, chunks, budget, "do_unxz")


def _derived(names: tuple[str, ...], endings: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the content of a packed single file: `x.gz` holds `x`, `x.tgz` holds `x.tar`."""
    found = []
    for name in names:
        for ending, instead in endings.items():
            if name.lower().endswith(ending):
                found.append(name[: -len(ending)] + instead)
    return _unique(*found)


def _unique(*names: str) -> tuple[str, ...]:
    return tuple(name for name in dict.fromkeys(names) if name)


def _libarchive_unpacker(format_name: str, by: str) -> Unpacker:
    """An unpacker that streams one of libarchive's formats."""

    def unpack(packed: Packed, budget: Budget) -> Iterator[Member]:
        try:
            with libarchive.memory_reader(bytes(packed.octets), format_name, "none") as archive:
                for entry in archive:
                    yield from _archive_member(entry, budget, by)
        except ArchiveError as fault:
            raise CannotUnpack(f"{format_name}: {fault}") from fault

    return unpack


def _archive_member(entry: libarchive.entry.ArchiveEntry, budget: Budget, by: str) -> Iterator[Member]:
    pathname = entry.pathname
    name = pathname.decode("utf-8", "replace") if isinstance(pathname, bytes) else str(pathname or "")
    if entry.isdir:
        yield Member((name,), attributes="D")
    elif entry.issym or entry.islnk:
        yield Member((name,), attributes="L")
    elif entry.isfile:
        yield from _member((name,), entry.get_blocks(), budget, by)
    else:
        yield Member((name,), attributes="S")


UNPACKERS: Mapping[str, Unpacker] = MappingProxyType(
    {
        "zip": unpack_zip,
        "gz": unpack_gzip,
        "bz2": unpack_bzip2,
        "xz": unpack_xz,
        "lzma": unpack_xz,
        "tar": _libarchive_unpacker("tar", "do_pax_cpio"),
        "cpio": _libarchive_unpacker("cpio", "do_pax_cpio"),
        "a": _libarchive_unpacker("ar", "do_ar"),
        "deb": _libarchive_unpacker("ar", "do_ar"),
    }
)

"""compressed - single files in a compressed form: gz, bz2, xz, lzma.

Streams one after the other are one file, as the decompressors of this world read them. What follows the last stream
is a member of its own, for a reader of another format may find something in it. The rest of this family (zst, lz4, lz,
Z) is read by libarchive.

**Failures:** a stream that ends or breaks early gives its beginning, marked U.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from amavispy.inspection.budget import Budget
from amavispy.inspection.packed import CHUNK, Buffer, Chunk, Damaged, Found, Packed, Remark, derived, unique

_INPUT = 65_536  # octets of packed data fed at once
_STREAMS = 4096  # compressed streams one after the other in a file
_LZMA_MEMORY = 128 << 20
_FAULTS = (zlib.error, OSError, EOFError, lzma.LZMAError, ValueError, MemoryError)
_LEAST_REST = 22  # octets behind the last stream that may be something: a zip's end record


class _Decompressor(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...


class Inflating:
    """One deflate stream, or gzip's streams one after the other, as chunks.

    After the last chunk `end` is the offset behind the last stream and `crc` the checksum of what came out.
    `window` is zlib's: -15 raw, 15 zlib, 31 gzip.
    """

    def __init__(self, data: Buffer, start: int = 0, stop: int | None = None, window: int = -15) -> None:
        self._data = memoryview(data)
        self._at = start
        self._stop = len(data) if stop is None else stop
        self._window = window
        self.end = start
        self.crc = 0

    def __iter__(self) -> Iterator[bytes]:
        streams = 0
        while self._at < self._stop:
            streams = _one_more(streams)
            yield from self._stream()
            self.end = self._at
            if self._window != 31 or bytes(self._data[self._at : self._at + 2]) != b"\x1f\x8b":
                return

    def _stream(self) -> Iterator[bytes]:
        inflater = zlib.decompressobj(self._window)
        try:
            while not inflater.eof:
                fed = bytes(self._data[self._at : min(self._at + _INPUT, self._stop)])
                chunk = inflater.decompress(fed, CHUNK)
                self._at += len(fed) - len(inflater.unconsumed_tail) - len(inflater.unused_data)
                if chunk:
                    self.crc = zlib.crc32(chunk, self.crc)
                    yield chunk
                elif not fed:
                    raise Damaged("the stream ends early")
        except zlib.error as fault:
            raise Damaged(str(fault)) from fault


def decompressing(data: Buffer, new: Callable[[], _Decompressor], rest: list[int] | None = None) -> Iterator[Chunk]:
    """bzip2 or xz streams one after the other, as chunks. `rest` gets the offset behind the last of them."""
    view, at, streams = memoryview(data), 0, 0
    try:
        while at < len(view):
            decompressor, streams, begin = new(), _one_more(streams), at
            while not decompressor.eof:
                fed = bytes(view[at : at + _INPUT]) if decompressor.needs_input else b""
                at += len(fed)
                if chunk := decompressor.decompress(fed, CHUNK):
                    yield chunk
                elif not fed and decompressor.needs_input:
                    raise Damaged("the stream ends early")
            at -= len(decompressor.unused_data)
            at += _zeros(view, at)
            if at == begin:
                return
    except _FAULTS as fault:
        if at == 0 or streams == 1 or rest is None:
            raise Damaged(str(fault) or "broken stream") from fault
        rest.append(begin)


def _zeros(view: memoryview, at: int) -> int:
    """Padding between streams."""
    piece = bytes(view[at : at + _INPUT])
    return len(piece) - len(piece.lstrip(b"\0"))


def _one_more(streams: int) -> int:
    # Each stream's end copies the input behind it: a file of nothing but empty streams would cost its square.
    if streams >= _STREAMS:
        raise Damaged("too many compressed streams in one file")
    return streams + 1


def unpack_gzip(packed: Packed, _budget: Budget) -> Iterator[Found | Remark]:
    """What a gzip file holds, under its derived name and the one that it stores."""
    names = derived(packed.names, {".gz": "", ".tgz": ".tar", ".svgz": ".svg", ".z": ""})
    stored = _gzip_name(bytes(memoryview(packed.octets)[:1024]))
    content = Inflating(packed.octets, window=31)
    yield Found(unique(*names, stored), content)
    yield from _behind(packed, content.end)


def _gzip_name(head: bytes) -> str:
    """The original file's name in a gzip header (RFC 1952 2.3), "" when there is none."""
    if len(head) < 12 or not head[3] & 8:
        return ""
    at = 12 + int.from_bytes(head[10:12], "little") if head[3] & 4 else 10
    return head[at:].partition(b"\0")[0].decode("latin-1")


def unpack_bzip2(packed: Packed, _budget: Budget) -> Iterator[Found | Remark]:
    names = derived(packed.names, {".bz2": "", ".tbz": ".tar", ".tbz2": ".tar", ".bz": ""})
    rest: list[int] = []
    yield Found(names, decompressing(packed.octets, bz2.BZ2Decompressor, rest))
    yield from _behind(packed, *rest)


def unpack_xz(packed: Packed, _budget: Budget) -> Iterator[Found | Remark]:
    names = derived(packed.names, {".xz": "", ".txz": ".tar", ".lzma": "", ".tlz": ".tar"})
    rest: list[int] = []
    yield Found(names, decompressing(packed.octets, lambda: lzma.LZMADecompressor(memlimit=_LZMA_MEMORY), rest))
    yield from _behind(packed, *rest)


def _behind(packed: Packed, end: int = 0) -> Iterator[Found]:
    """What stands behind the compressed file, when it is more than padding."""
    rest = memoryview(packed.octets)[end:] if end else b""
    if len(rest) >= _LEAST_REST and bytes(rest[:CHUNK]).strip(b"\0"):
        yield Found((), (rest[at : at + CHUNK] for at in range(0, len(rest), CHUNK)), declared=len(rest))

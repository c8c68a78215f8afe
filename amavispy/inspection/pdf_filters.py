"""pdf_filters - the stream filters of PDF that hold data rather than pictures, undone one after the other.

Source: ISO 32000-1, 7.4. Pictures' filters (DCT, JPX, CCITT, JBIG2) end the chain: what they hold is passed as it is.

**Failures:** Damaged, behind what could be decoded.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterable, Iterator

from amavispy.inspection.compressed import Inflating
from amavispy.inspection.packed import Buffer, Chunk, Damaged, slices

_FILTER = re.compile(rb"/Filter\s*(?:\[([^\]]{0,400})\]|/([A-Za-z0-9]{1,30}))")
_BETWEEN = 32 << 20  # octets between two filters
_CLEAR, _END, _FIRST = 256, 257, 258

_NOT_HEX = bytes(c for c in range(256) if c not in b"0123456789abcdefABCDEF")
_NOT_BASE85 = bytes(c for c in range(256) if not (33 <= c <= 117 or c == 122))


def filters_of(head: bytes) -> list[str]:
    """The names in a stream dictionary's Filter entry, in the order in which they are to be undone."""
    match = _FILTER.search(head)
    if not match:
        return []
    names = match[1].replace(b"/", b" ").split() if match[1] is not None else [match[2]]
    return [name.decode("latin-1") for name in names[:8]]


def decoded(data: Buffer, filters: list[str]) -> Iterator[Chunk]:
    """The octets behind all filters, as chunks."""
    chunks: Iterable[Chunk] = slices(data)
    for index, name in enumerate(filters):
        undo = _UNDO.get(name)
        if undo is None:
            break
        if index:
            data = _joined(chunks)
        chunks = undo(data)
    yield from chunks


def _joined(chunks: Iterable[Chunk]) -> bytes:
    octets = bytearray()
    try:
        for chunk in chunks:
            octets += chunk
            if len(octets) > _BETWEEN:
                raise Damaged("too much between two filters")
    except Damaged:
        if not octets or len(octets) > _BETWEEN:
            raise
    return bytes(octets)


def _inflate(data: Buffer) -> Iterator[Chunk]:
    """zlib, or bare deflate when its header is broken, as readers do."""
    view = memoryview(data)
    if len(view) > 1 and (view[0] & 15 == 8) and (view[0] * 256 + view[1]) % 31 == 0:
        yield from Inflating(view, window=15)
    else:
        yield from Inflating(view, min(2, len(view)))


def _hexadecimal(data: Buffer) -> Iterator[Chunk]:
    digits = bytes(data).partition(b">")[0].translate(None, _NOT_HEX)
    yield from slices(bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii")))


def _base85(data: Buffer) -> Iterator[Chunk]:
    text = bytes(data).partition(b"~>")[0].removeprefix(b"<~").translate(None, _NOT_BASE85)
    try:
        yield from slices(base64.a85decode(text))
    except ValueError as fault:
        raise Damaged("broken ASCII85") from fault


def _run_lengths(data: Buffer) -> Iterator[Chunk]:
    view, at, out = memoryview(data), 0, bytearray()
    while at < len(view) and view[at] != 128:
        length = view[at]
        if length < 128:
            out += view[at + 1 : at + 2 + length]
            at += 2 + length
        else:
            out += bytes(view[at + 1 : at + 2]) * (257 - length)
            at += 2
        if len(out) > 1 << 19:
            yield bytes(out)
            out.clear()
    yield bytes(out)


def _lzw(data: Buffer) -> Iterator[Chunk]:
    """LZW with early change (7.4.4)."""
    table = [bytes((n,)) for n in range(256)] + [b"", b""]
    out, bits, held, width, last = bytearray(), 0, 0, 9, b""
    for octet in memoryview(data):
        held, bits = (held << 8) | octet, bits + 8
        if bits < width:
            continue
        bits -= width
        code, held = held >> bits, held & ((1 << bits) - 1)
        if code == _END:
            break
        if code == _CLEAR:
            del table[_FIRST:]
            width, last = 9, b""
            continue
        if code > len(table) or (code == len(table) and not last):
            yield bytes(out)
            raise Damaged("broken LZW")
        entry = table[code] if code < len(table) else last + last[:1]
        out += entry
        if last and len(table) < 4096:
            table.append(last + entry[:1])
        last = entry
        width = min(12, max(9, (len(table) + 1).bit_length()))
        if len(out) > 1 << 19:
            yield bytes(out)
            out.clear()
    yield bytes(out)


_UNDO: dict[str, Callable[[Buffer], Iterator[Chunk]]] = {
    "FlateDecode": _inflate,
    "Fl": _inflate,
    "LZWDecode": _lzw,
    "LZW": _lzw,
    "ASCIIHexDecode": _hexadecimal,
    "AHx": _hexadecimal,
    "ASCII85Decode": _base85,
    "A85": _base85,
    "RunLengthDecode": _run_lengths,
    "RL": _run_lengths,
    "Crypt": slices,
}

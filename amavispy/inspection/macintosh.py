"""Macintosh - what is inside of the wrappings that Macs put around files: AppleSingle, AppleDouble, MacBinary.

In: the octets of a part. Out: the forks in it, with the file's real name. BinHex, which is text, stands in
`text_encodings`.

**Failures:** none; broken headers give nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SINGLE, _DOUBLE = b"\x00\x05\x16\x00", b"\x00\x05\x16\x07"
_DATA_FORK, _RESOURCE_FORK, _REAL_NAME = 1, 2, 3
_ENTRY = struct.Struct(">III")
_ENTRIES_AT = 26
_ENTRIES = 32
_MACBINARY_HEADER = 128

Fork = tuple[bytes, bytes]


def is_apple_file(octets: bytes | memoryview) -> bool:
    """AppleSingle or AppleDouble, by its magic number (RFC 1740, appendix A)."""
    return bytes(octets[:4]) in (_SINGLE, _DOUBLE)


def apple_forks(octets: bytes) -> Iterator[Fork]:
    """The file's name and the octets of each fork that is not empty; only the name when there is no fork."""
    entries = dict(_entries(octets))
    name = entries.get(_REAL_NAME, b"")
    forks = [entries[kind] for kind in (_DATA_FORK, _RESOURCE_FORK) if entries.get(kind)]
    for content in forks or ([b""] if name else []):
        yield name, content


def _entries(octets: bytes) -> Iterator[tuple[int, bytes]]:
    count = int.from_bytes(octets[24:26], "big")
    for number in range(min(count, _ENTRIES)):
        at = _ENTRIES_AT + number * _ENTRY.size
        if at + _ENTRY.size > len(octets):
            return
        kind, offset, length = _ENTRY.unpack_from(octets, at)
        yield kind, octets[offset : offset + length]


def is_macbinary(octets: bytes | memoryview) -> bool:
    """The zero octets and the lengths that MacBinary's header must have."""
    head = bytes(octets[:_MACBINARY_HEADER])
    return len(head) == _MACBINARY_HEADER and not (head[0] or head[74] or head[82]) and 0 < head[1] < 64


def macbinary_forks(octets: bytes) -> Iterator[Fork]:
    """The file's name and its forks; each begins at a multiple of 128."""
    name = octets[2 : 2 + octets[1]]
    at = _MACBINARY_HEADER
    for length in (int.from_bytes(octets[83:87], "big"), int.from_bytes(octets[87:91], "big")):
        if content := octets[at : at + length]:
            yield name, content
        at += -(-length // 128) * 128

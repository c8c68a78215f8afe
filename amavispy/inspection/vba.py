"""vba - the source of a macro module, unpacked.

Source: MS-OVBA 2.4.1 (compression), 2.3.4.3 (module streams).

**Failures:** none: what cannot be unpacked is left out.
"""

from __future__ import annotations

import struct

_MARK = b"\x00Attribut"  # how every module's source begins, three octets behind the beginning of its container
_CHUNK = 4096


def source_of(stream: bytes) -> bytes:
    """The source in a module stream, b"" when there is none."""
    at = stream.find(_MARK)
    return decompressed(stream, at - 3) if at >= 3 and stream[at - 3] == 1 else b""


def decompressed(octets: bytes, at: int) -> bytes:
    """A compressed container that begins at `at`; as much of it as makes sense."""
    out = bytearray()
    at += 1
    while at + 2 <= len(octets):
        (header,) = struct.unpack_from("<H", octets, at)
        end = min(at + (header & 0xFFF) + 3, len(octets))
        if header >> 12 & 7 != 3:
            break
        if header & 0x8000:
            out += _chunk(octets, at + 2, end)
        else:
            out += octets[at + 2 : at + 2 + _CHUNK]
        at = end
    return bytes(out)


def _chunk(octets: bytes, at: int, end: int) -> bytes:
    out = bytearray()
    while at < end:
        flags = octets[at]
        at += 1
        for bit in range(8):
            if at >= end:
                break
            if not flags >> bit & 1:
                out.append(octets[at])
                at += 1
            elif at + 2 <= end and out:
                (token,) = struct.unpack_from("<H", octets, at)
                at += 2
                bits = max(4, (len(out) - 1).bit_length())
                offset, length = (token >> (16 - bits)) + 1, (token & (0xFFFF >> bits)) + 3
                for _ in range(length):
                    out.append(out[-offset] if offset <= len(out) else 0)
            else:
                return bytes(out)
        if len(out) > _CHUNK:
            break
    return bytes(out)

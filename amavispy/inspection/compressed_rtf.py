"""compressed_rtf - the RTF body of an Outlook message, unpacked.

Source: MS-OXRTFCP.

**Failures:** Damaged, behind what could be unpacked.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from amavispy.inspection.packed import CHUNK, Damaged

_HEADER = struct.Struct("<IIII")
_COMPRESSED, _PLAIN = 0x75465A4C, 0x414C454D
_DICTIONARY = (
    rb"{\rtf1\ansi\mac\deff0\deftab720{\fonttbl;}{\f0\fnil \froman \fswiss \fmodern \fscript \fdecor "
    b"MS Sans SerifSymbolArialTimes New RomanCourier"
    b"{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"
)


def rtf_of(octets: bytes) -> Iterator[bytes]:
    """The text, as chunks."""
    if len(octets) < _HEADER.size:
        raise Damaged("compressed RTF without a header")
    _, size, kind, _ = _HEADER.unpack_from(octets)
    if kind == _PLAIN:
        yield octets[_HEADER.size : _HEADER.size + size]
    elif kind == _COMPRESSED:
        yield from _unpacked(octets, _HEADER.size)
    else:
        raise Damaged("RTF in an unknown form")


def _unpacked(octets: bytes, at: int) -> Iterator[bytes]:
    window = bytearray(_DICTIONARY.ljust(4096, b" "))
    write, out = len(_DICTIONARY), bytearray()
    while at < len(octets):
        control = octets[at]
        at += 1
        for bit in range(8):
            if control >> bit & 1:
                if at + 2 > len(octets):
                    break
                reference = octets[at] << 8 | octets[at + 1]
                at += 2
                offset, length = reference >> 4, (reference & 15) + 2
                if offset == write:
                    yield bytes(out)
                    return
                piece = bytearray()
                for step in range(length):
                    octet = window[(offset + step) & 4095]
                    window[(write + step) & 4095] = octet
                    piece.append(octet)
            else:
                piece = bytearray(octets[at : at + 1])
                window[write : write + len(piece)] = piece
                at += 1
            write = (write + len(piece)) & 4095
            out += piece
        if len(out) > CHUNK // 2:
            yield bytes(out)
            out.clear()
    yield bytes(out)

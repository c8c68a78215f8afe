"""A gzip file that unpacks to itself, built after Russ Cox's idea ("Zip Files All The Way Down").

It is a program in the language of deflate, whose instructions are all five octets long: L(n) prints the next n
instructions as they stand, R(n) prints the last n instructions once more. The head and the tail are twelve
instructions long, so that R(13) fits into five octets. The checksum of the whole, which is part of the whole, is found
by linear algebra: every bit of it changes the checksum in its own fixed way.
"""

from __future__ import annotations

import struct
import zlib


def literal(count: int) -> bytes:
    """A stored block of `count` instructions."""
    return b"\0" + struct.pack("<HH", 5 * count, 5 * count ^ 0xFFFF)


def repeat(*copies: tuple[int, int, str]) -> bytes:
    """A block with fixed codes: (length code, its extra bits, the distance's bits), then empty blocks up to 40 bits."""
    bits = "010"  # not the last block; type 1, its lowest bit first
    for code, extra, distance in copies:
        bits += f"{code - 256:07b}" + _extra(extra) + distance
    bits += "0" * 7
    while len(bits) < 40:
        bits += "010" + "0" * 7
    assert len(bits) == 40
    return bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, 40, 8))


def _extra(value: tuple[int, int] | int) -> str:
    """Extra bits stand with the lowest first."""
    count, number = value if isinstance(value, tuple) else (0, 0)
    return "".join(str(number >> bit & 1) for bit in range(count))


def _distance(code: int, count: int, number: int) -> str:
    return f"{code:05b}" + _extra((count, number))


# 10 + 10 octets from 20 before; 65 octets from 65 before.
REPEAT_4 = repeat(*[(264, 0, _distance(8, 3, 20 - 17))] * 2)
REPEAT_13 = repeat((276, (3, 65 - 59), _distance(12, 5, 65 - 65)))


def _file(checksum: int) -> bytes:
    head = b"\x1f\x8b\x08\x04" + bytes(6) + struct.pack("<H", 48) + bytes(48)
    tail = literal(0) * 10 + b"\x03\0" + struct.pack("<I", checksum)
    one, four, whole, nothing = literal(1), literal(4), literal(13), literal(0)
    program = [head, whole, head, whole, REPEAT_13, one, REPEAT_13, one, one, four, REPEAT_13, one, one, four]
    program += [REPEAT_4, four] * 4 + [REPEAT_4, nothing, nothing, whole] * 2 + [REPEAT_13, tail] * 2
    size = struct.pack("<I", sum(map(len, program)) + 8)
    return b"".join(piece + size if piece is tail else piece for piece in program)


def gzip_quine() -> bytes:
    base = zlib.crc32(_file(0))
    # What flips in (checksum of the file) ^ (checksum in the file) with each bit of the latter.
    rows = [(zlib.crc32(_file(1 << bit)) ^ base ^ 1 << bit, 1 << bit) for bit in range(32)]
    solution = 0
    for bit in range(32):
        pivot = next((row for row in rows if row[0] >> bit & 1), None)
        if pivot is None:
            continue
        rows.remove(pivot)
        rows = [(flips ^ pivot[0], bits ^ pivot[1]) if flips >> bit & 1 else (flips, bits) for flips, bits in rows]
        if base >> bit & 1:
            base, solution = base ^ pivot[0], solution ^ pivot[1]
    assert base == 0
    return _file(solution)

"""self_extracting - archives inside of programs: what a self-extracting program carries.

Every archive in it whose head makes sense (its checksum, where it has one) is carved out from there to the end of the
program and looked at as a file of its own; a zip at the end is found as a type of the program already. Installers
whose format is their own (NSIS) are left to the tools.

**Failures:** CannotUnpack for such an installer, without any mark: a program that nobody unpacks is still a program.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator

from amavispy.inspection.budget import Budget
from amavispy.inspection.packed import Buffer, CannotUnpack, Found, Packed, Remark, slices

_ARCHIVES = re.compile(rb"7z\xbc\xaf\x27\x1c\x00|Rar!\x1a\x07[\x00\x01]|MSCF\x00{4}|\x60\xea[\x22-\xff]|-lh[0-9d]-")
_NSIS = b"\xef\xbe\xad\xdeNullsoftInst"
_MOST = 16


def unpack_program(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """The archives that a program carries."""
    octets = packed.searchable()
    at = 64
    for _ in range(_MOST):
        start = _next(octets, at)
        if start is None:
            break
        budget.check_time()
        yield Found((), slices(octets, start), declared=len(octets) - start)
        if octets[start : start + 4] != b"MSCF":  # cabinets may follow one another, the others end the program
            break
        at = start + int.from_bytes(octets[start + 8 : start + 12], "little")
    if octets.find(_NSIS) >= 0:
        raise CannotUnpack("an installer of its own format")


def _next(octets: Buffer, at: int) -> int | None:
    """Where the next archive begins."""
    while match := _ARCHIVES.search(octets, at):
        start = match.start() - 2 * match[0].startswith(b"-")
        if start > 0 and _CHECKS[match[0][:2]](bytes(memoryview(octets)[start : start + 4096])):
            return start
        at = match.start() + 1
    return None


def _is_seven_zip(head: bytes) -> bool:
    return len(head) >= 32 and zlib.crc32(head[12:32]) == int.from_bytes(head[8:12], "little")


def _is_rar(head: bytes) -> bool:
    return head[6:8] == b"\x01\x00" or (head[6] == 0 and head[9:10] == b"\x73")


def _is_cabinet(head: bytes) -> bool:
    return head[24:26] == b"\x03\x01" and int.from_bytes(head[8:12], "little") > 36


def _is_arj(head: bytes) -> bool:
    size = int.from_bytes(head[2:4], "little")
    return 30 <= size <= 2600 and zlib.crc32(head[4 : 4 + size]) == int.from_bytes(head[4 + size : 8 + size], "little")


def _is_lha(head: bytes) -> bool:
    """A level 0 or 1 header with its checksum; level 2 by its size."""
    if len(head) < 24 or head[20] > 2:
        return False
    if head[20] == 2:
        return int.from_bytes(head[:2], "little") in range(26, 4096)
    return sum(head[2 : 2 + head[0]]) & 255 == head[1] and head[0] > 20


_CHECKS: dict[bytes, Callable[[bytes], bool]] = {
    b"7z": _is_seven_zip,
    b"Ra": _is_rar,
    b"MS": _is_cabinet,
    b"\x60\xea": _is_arj,
    b"-l": _is_lha,
}

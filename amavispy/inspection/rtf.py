"""rtf - the objects that are embedded in an RTF text as hexadecimal digits.

Word skips nearly everything that stands between the digits, and attackers put a lot there: blanks, control words,
groups, stray characters. So do we. Every `objdata` is read, whatever group it stands in.

Source: RTF Specification 1.9.1, objects and \\bin.

**Failures:** none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from amavispy.inspection.budget import Budget
from amavispy.inspection.ole_package import old_object
from amavispy.inspection.packed import Buffer, Found, Packed, Remark

_OBJECT_DATA = re.compile(rb"\\objdata(?![a-z])")
_TOKEN = re.compile(
    rb"(?P<hex>[0-9a-fA-F]+)|\\bin *(?P<bin>\d{1,9}) ?|\\'[0-9a-fA-F]{0,2}|\\[a-zA-Z]{1,250}(?:-?\d{1,250})? ?"
    rb"|\\.|(?P<open>\{)|(?P<close>\})|[^0-9a-fA-F\\{}]+",
    re.S,
)
_TOKENS = 2_000_000


def holds_objects(octets: Buffer) -> bool:
    """Whether there is an object in it at all."""
    return _OBJECT_DATA.search(octets) is not None


def unpack_rtf(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """The embedded objects."""
    octets = packed.searchable()
    at = 0
    while match := _OBJECT_DATA.search(octets, at):
        data, at = _data(octets, match.end(), budget)
        if data:
            yield from old_object(data)


def _data(octets: Buffer, at: int, budget: Budget) -> tuple[bytes, int]:
    """The octets that the digits spell, up to the end of their group, and where that is."""
    digits, out, depth = bytearray(), bytearray(), 0
    for count in range(_TOKENS):
        match = _TOKEN.match(octets, at)
        if not match:
            break
        at = match.end()
        if match["hex"]:
            digits += match["hex"]
        elif match["bin"]:
            size = int(match["bin"])
            _spell(digits, out)
            out += memoryview(octets)[at : at + size]
            at += size
        elif match["open"]:
            depth += 1
        elif match["close"]:
            depth -= 1
            if depth < 0:
                break
        if not count % 4096:
            budget.check_time()
    _spell(digits, out)
    return bytes(out), at


def _spell(digits: bytearray, out: bytearray) -> None:
    """Turn what there is of digits into octets."""
    out += bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    digits.clear()

"""onenote - the files that are embedded in a OneNote section.

They stand as file data objects between two identifiers, wherever in the file; their names are properties elsewhere. Not
every revision's property tree needs to be followed for that: every text that looks like a file's name is one that a
reader may show, so each file gets all of them.

Source: MS-ONESTORE 2.6.13 (FileDataStoreObject), MS-ONE 2.3.

**Failures:** none; a size beyond the file's end is cut there.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator

from amavispy.inspection.budget import Budget
from amavispy.inspection.packed import Found, Packed, Remark, slices, unique

_FILE_DATA = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac")
_HEADER = struct.Struct("<16sQ4x8x")
_NAME = re.compile(rb"(?:[\x20-\x7e]\0|[^\0-\x1f][\x01-\x2f]){1,120}\.\0(?:[A-Za-z0-9_]\0){1,10}(?![A-Za-z0-9_.]\0)")
_NAMES = 8
_SPAN = 8 << 20  # octets in which names are looked for


def unpack_onenote(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """The embedded files."""
    octets = packed.searchable()
    names = tuple(_names(bytes(memoryview(octets)[:_SPAN])))
    at = octets.find(_FILE_DATA)
    while at >= 0 and at + _HEADER.size <= len(octets):
        size = min(_HEADER.unpack_from(octets, at)[1], len(octets) - at - _HEADER.size)
        start = at + _HEADER.size
        budget.check_time()
        yield Found(names, slices(octets, start, start + size), declared=size)
        at = octets.find(_FILE_DATA, start + size if size else start)


def _names(octets: bytes) -> Iterator[str]:
    """File names in UTF-16, without what directory they came from."""
    found = (match[0].decode("utf-16-le", "replace") for match in _NAME.finditer(octets))
    yield from unique(*(re.split(r"[\\/]", name)[-1] for name in found if not name.lower().startswith("http")))[:_NAMES]

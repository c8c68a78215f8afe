"""packed - the nouns of unpacking: what goes into an unpacker, and what comes out of it.

An unpacker gets a `Packed` part and the mail's `Budget` and yields, in the archive's order,

    Found       a member: its names, and its octets as chunks that must be consumed before the next one is asked for
    Remark      something about the packed part itself: attributes, further short types

It touches no file name, no process and no other part, so that a confined child can run it. It holds one chunk of a
member at a time, never a whole one. `unpacked` runs an unpacker in this process and makes Members of what it finds;
`sandbox_child` runs it in a child and sends the chunks to the worker.

**Failures:** CannotUnpack when this is no archive after all, or one that this unpacker does not know; Damaged in the
middle of a member, which then keeps what came before; LimitExceeded from the budget.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from amavispy.inspection.budget import Budget, LimitExceeded
from amavispy.inspection.storage import Growing

Buffer = bytes | memoryview | mmap.mmap
Searchable = bytes | mmap.mmap
Chunk = bytes | memoryview

CHUNK = 1 << 20  # octets of a member at a time, at most


class CannotUnpack(Exception):
    """This is not what its signature promised; `attributes` are for the part if nobody else can unpack it."""

    def __init__(self, text: str, attributes: str = "") -> None:
        super().__init__(text)
        self.attributes = attributes


class Damaged(Exception):
    """A member ends before its end; `attributes` say why: U damaged or unsupported, UC encrypted."""

    def __init__(self, text: str, attributes: str = "U") -> None:
        super().__init__(text)
        self.attributes = attributes


@dataclass(frozen=True, slots=True)
class Packed:
    """A packed part: its octets, the names it is known by, and passwords to try.

    `descriptor`, when not None, is a file of exactly these octets.
    """

    octets: Buffer
    names: tuple[str, ...] = ()
    passwords: tuple[str, ...] = ()
    descriptor: int | None = None

    def searchable(self) -> Searchable:
        """The octets as something that has `find`."""
        return bytes(self.octets) if isinstance(self.octets, memoryview) else self.octets


class Found(NamedTuple):
    """A member on its way out. `chunks` is None when there is nothing to look into, or it cannot be had.

    `attributes`: UC encrypted, U unsupported or damaged, D directory, L link, S special. `declared` is the size that
    the archive claims; it only serves to stop earlier.
    """

    names: tuple[str, ...]
    chunks: Iterable[Chunk] | None = None
    attributes: str = ""
    declared: int = 0


class Remark(NamedTuple):
    """Something about the packed part itself: attribute letters, short types to add, and a text for the log."""

    attributes: str = ""
    types: tuple[str, ...] = ()
    text: str = ""


class Member(NamedTuple):
    """Something found inside, complete. `octets` is None when there is nothing to look into."""

    names: tuple[str, ...]
    octets: bytes | memoryview | None = None
    attributes: str = ""


Unpacker = Callable[[Packed, Budget], Iterator[Found | Remark]]
Unpacked = Iterator[Member | Remark]


class Way(NamedTuple):
    """How a short type is unpacked; `by` is amavis' name for it in the text of a limit."""

    by: str
    unpack: Unpacker


def unpacked(way: Way, packed: Packed, budget: Budget) -> Unpacked:
    """Run an unpacker in this process. Beyond the quota a member is yielded by name only, and decoding ends."""
    for found in way.unpack(packed, budget):
        if isinstance(found, Remark):
            yield found
        elif found.chunks is None:
            yield Member(found.names, None, found.attributes)
        else:
            yield from _collected(found, found.chunks, budget, way.by)


def _collected(found: Found, chunks: Iterable[Chunk], budget: Budget, by: str) -> Iterator[Member]:
    growing, attributes = Growing(budget), found.attributes
    try:
        budget.foresee(found.declared, by)
        for chunk in chunks:
            budget.charge(len(chunk), by)
            growing.add(chunk)
    except LimitExceeded:
        yield Member(found.names)
        raise
    except Damaged as damage:
        attributes += damage.attributes
    yield Member(found.names, growing.octets(), attributes)


def unique(*names: str) -> tuple[str, ...]:
    """The names in order, without repetitions and empty ones."""
    return tuple(name for name in dict.fromkeys(names) if name)


def slices(octets: Buffer, start: int = 0, end: int | None = None) -> Iterator[Chunk]:
    """A stretch of a buffer as chunks."""
    view = memoryview(octets)
    stop = len(view) if end is None else min(end, len(view))
    for at in range(start, stop, CHUNK):
        yield view[at : min(at + CHUNK, stop)]


def derived(names: tuple[str, ...], endings: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the content of a packed single file: `x.gz` holds `x`, `x.tgz` holds `x.tar`."""
    found = []
    for name in names:
        for ending, instead in endings.items():
            if name.lower().endswith(ending):
                found.append(name[: -len(ending)] + instead)
    return unique(*found)

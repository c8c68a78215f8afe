"""Readings - every structure that some reader of mail might find in it.

The most usual reading comes first. While it is made the splitter notes which habits would have led elsewhere; each of
them is tried, and what these readings note in turn, so that habits meet in every combination that matters. Ordinary
mail has one reading and costs nothing more. There are limits to how many readings a mail is worth: whoever needs more
than 32 of them is told that his mail is ambiguous, which it is.

In: the octets of a mail. Out: `Structure`s, lazily, each with the octets that its spans speak of (a reader for whom a
bare CR ends a line sees other octets).

**Failures:** none.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from amavispy.inspection.habits import CR_ENDS_LINES, each
from amavispy.inspection.mime import Structure, split
from amavispy.mail.message import Octets
from amavispy.mail.verdict import Defect, DefectKind

_READINGS = 32
_OCTETS = 256 << 20  # to read in all, the first reading and one more excepted
_ENTITIES = 10_000  # in all readings but the first

TOO_MANY = Defect(DefectKind.TOO_MANY_READINGS, is_ambiguous=True)


def readings(octets: Octets, max_entities: int) -> Iterator[Structure]:
    """The structures of a mail, the most usual first. The last one's root tells when there would be more."""
    first = split(octets, max_entities)
    yield first
    if first.habits:
        yield from _others(first, max_entities)


def _others(first: Structure, max_entities: int) -> Iterator[Structure]:
    lines = _Lines(first.octets)
    entities = 0
    waiting = dict.fromkeys(each(first.habits))
    done = {0}
    for place, habits in enumerate(_breadth_first(waiting, done)):
        is_over = place + 2 > _READINGS or entities > _ENTITIES or (place and (place + 2) * len(first.octets) > _OCTETS)
        if is_over:
            first.entities[0].noted(TOO_MANY)
            return
        found = split(lines.of(habits), max_entities, habits)
        entities += len(found.entities)
        waiting.update(dict.fromkeys(habits ^ bit for bit in each(found.habits) if habits ^ bit not in done))
        yield found


def _breadth_first(waiting: dict[int, None], done: set[int]) -> Iterator[int]:
    """Sets of habits, small ones first, while others are added."""
    while waiting:
        habits = min(islice(waiting, 1000), key=int.bit_count)
        del waiting[habits]
        done.add(habits)
        yield habits


class _Lines:
    """The octets as readers see them for whom CR ends a line, made when first asked for."""

    def __init__(self, octets: Octets) -> None:
        self.octets = octets
        self.broken: bytes | None = None

    def of(self, habits: int) -> Octets:
        if not habits & CR_ENDS_LINES:
            return self.octets
        if self.broken is None:
            self.broken = self.octets[:].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return self.broken

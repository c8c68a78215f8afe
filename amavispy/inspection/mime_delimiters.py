"""MIME delimiters - finds the lines that separate the parts of the containers that are open.

In: the octets and a reader's habits; containers are opened and closed as the splitter meets them. Out: the next
delimiter at or behind a place, with the level of the container it belongs to. `habits` tells with which other habits
some delimiter would have been found, or would have belonged to another container.

Where few containers are open, their boundaries are looked for themselves, which is several times faster than looking
at all lines that begin with two dashes. Each octet is looked at a constant number of times either way.

**Failures:** none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from amavispy.inspection.habits import CR_ENDS_LINES, MATCHES_PREFIX, OUTER_FIRST
from amavispy.mail.message import Octets
from amavispy.mail.verdict import Defect, DefectKind

_BARE_CR = Defect(DefectKind.BARE_CR, is_ambiguous=True)
_LINE_BEGINS = Defect(DefectKind.PREFIX_BOUNDARY, is_ambiguous=True)
_BOUNDARY_BEGINS = Defect(DefectKind.PREFIX_BOUNDARY)
_SEVERAL_LEVELS = Defect(DefectKind.NESTED_BOUNDARY, is_ambiguous=True)
_LINE_LIMIT = 1006  # a boundary, its dashes and the line end
_BEHIND = frozenset((b"", b"\r", b"\n", b" ", b"\t", b"-"))  # what may follow a boundary in a delimiter
_FEW = 3
_LENGTHS = 32  # different lengths of boundaries that are tried for a beginning
_DASHES = re.compile(rb"[\r\n]--")


@dataclass(frozen=True, slots=True)
class Delimiter:
    """A delimiter line: it starts at `start` (its two dashes), the next line at `after`; `level` in the stack."""

    start: int
    after: int
    level: int
    is_closing: bool


@dataclass(slots=True)
class Delimiters:
    """The boundaries of the open containers, and where each of them occurs next."""

    octets: Octets
    habits: int
    found: int = 0
    defects: dict[Defect, None] = field(default_factory=dict)
    levels: dict[bytes, list[int]] = field(default_factory=dict)
    _lengths: dict[int, int] = field(default_factory=dict)
    _clear: dict[bytes, int] = field(default_factory=dict)  # up to where a boundary is known not to occur

    def open(self, boundary: bytes, level: int) -> None:
        self.levels.setdefault(boundary, []).append(level)
        self._lengths[len(boundary)] = self._lengths.get(len(boundary), 0) + 1

    def close(self, boundary: bytes) -> None:
        levels = self.levels[boundary]
        levels.pop()
        if not levels:
            del self.levels[boundary]
        self._lengths[len(boundary)] -= 1
        if not self._lengths[len(boundary)]:
            del self._lengths[len(boundary)]

    def next(self, at: int) -> Delimiter | None:
        """The first delimiter on a line that starts at `at` or later."""
        if delimiter := self.at(at):
            return delimiter
        return self._next_of_few(at) if len(self.levels) <= _FEW else self._next_of_many(at)

    def _next_of_few(self, at: int) -> Delimiter | None:
        end = len(self.octets)
        nearest: Delimiter | None = None
        for boundary in self.levels:  # outer containers first: their delimiters end the search for inner ones
            start = max(at, self._clear.get(boundary, 0))
            if start >= end:
                continue
            delimiter = self._find(boundary, start, end)
            if delimiter:
                nearest, end = delimiter, delimiter.start
            self._clear[boundary] = end
        return nearest

    def _find(self, boundary: bytes, at: int, end: int) -> Delimiter | None:
        octets, mark = self.octets, b"--" + boundary
        find = octets.find
        place = find(mark, at, end)
        while place >= 0:
            before, behind = octets[place - 1 : place], octets[place + len(mark) : place + len(mark) + 1]
            if before == b"\n" and not self._is_known(behind) and (delimiter := self.at(place)):
                return delimiter
            if before == b"\r":
                self._note(CR_ENDS_LINES, _BARE_CR)
            place = find(mark, place + 1, end)
        return None

    def _note(self, habits: int, defect: Defect) -> None:
        self.found |= habits
        self.defects[defect] = None

    def _is_known(self, behind: bytes) -> bool:
        """A line that goes on behind the boundary, when it is known that there are such lines."""
        return bool(self.found & ~self.habits & MATCHES_PREFIX) and behind not in _BEHIND

    def _next_of_many(self, at: int) -> Delimiter | None:
        for match in _DASHES.finditer(self.octets, at):
            start = match.start() + 1
            if self.octets[start - 1 : start] == b"\n":
                if delimiter := self.at(start):
                    return delimiter
            elif self._begins_with_boundary(self._line(start)[0]):
                self._note(CR_ENDS_LINES, _BARE_CR)
        return None

    def at(self, start: int) -> Delimiter | None:
        """The delimiter that starts right here, if there is one."""
        if not self.levels or self.octets[start : start + 2] != b"--":
            return None
        line, after = self._line(start)
        if b"\r" in line:
            self._note(CR_ENDS_LINES, _BARE_CR)
        boundary, is_closing = self._exact(line)
        if boundary is None or len(self._lengths) > 1:
            boundary, is_closing = self._or_prefix(line, boundary, is_closing)
        if boundary is None:
            return None
        levels = self.levels[boundary]
        if len(levels) > 1:
            self._note(OUTER_FIRST, _SEVERAL_LEVELS)
        return Delimiter(start, after, levels[0 if self.habits & OUTER_FIRST else -1], is_closing)

    def _line(self, start: int) -> tuple[bytes, int]:
        """The line behind its dashes, and where the next one starts."""
        end = self.octets.find(b"\n", start)
        end = len(self.octets) if end < 0 else end + 1
        return self.octets[start + 2 : min(end, start + _LINE_LIMIT)].rstrip(b" \t\r\n"), end

    def _exact(self, line: bytes) -> tuple[bytes | None, bool]:
        if line in self.levels:
            return line, False
        if line.endswith(b"--") and (shorter := line[:-2].rstrip(b" \t")) in self.levels:
            return shorter, True
        return None, False

    def _or_prefix(self, line: bytes, exact: bytes | None, is_closing: bool) -> tuple[bytes | None, bool]:
        """What a reader takes who is content with a line that begins with the delimiter."""
        candidates = [line[:n] for n in self._some_lengths() if line[:n] in self.levels and len(line) >= n]
        if exact is None and candidates:
            self._note(MATCHES_PREFIX, _LINE_BEGINS)
        elif len(candidates) > 1 or (candidates and candidates[0] != exact):
            # Mailers that call the inner boundary "outer_alt" are many; all readers see the same parts.
            self._note(MATCHES_PREFIX | OUTER_FIRST, _BOUNDARY_BEGINS)
        if not candidates or not self.habits & MATCHES_PREFIX:
            return exact, is_closing
        chosen = (min if self.habits & OUTER_FIRST else max)(candidates, key=lambda b: self.levels[b][-1])
        return chosen, line[len(chosen) :].startswith(b"--")

    def _begins_with_boundary(self, line: bytes) -> bool:
        return any(line[:n] in self.levels for n in self._some_lengths())

    def _some_lengths(self) -> Iterator[int]:
        return islice(self._lengths, _LENGTHS)

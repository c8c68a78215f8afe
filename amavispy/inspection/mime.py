"""MIME - the structure of a mail: which octets are which entity, and what its header says of them.

In: the octets of a mail (bytes or mmap), CRLF or bare LF, and a reader's habits. Out: a `Structure`, a flat list of
entities that know their place; nothing is decoded or copied but header sections. One pass over the octets from
delimiter to delimiter, no recursion: a mail's depth costs no stack, and each octet is looked at a constant number of
times.

Tolerant as mail readers are: a missing closing delimiter, an outer delimiter inside an inner part, parts after the
closing delimiter, LF line ends. Where another reader would find another structure, `Structure.habits` says what he
does otherwise (`readings` goes after that); what is wrong with an entity stands in its `defects`.

**Failures:** none; defects are also collected in the words of amavis' MIME errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import islice

from amavispy.inspection.habits import GUESSES_BOUNDARY
from amavispy.inspection.mime_delimiters import Delimiter, Delimiters
from amavispy.inspection.mime_header import Description, describe, is_proper_section, section_end
from amavispy.mail.message import Octets
from amavispy.mail.verdict import Defect, DefectKind

_STOP = re.compile(rb"\n(?:--|\r?\n)")  # what may end a header: a delimiter or an empty line
_DASHED_LINE = re.compile(rb"\n--(-*+[^\s-][^\r\n]{0,200})")
_GUESS_WINDOW = 65_536
_THOROUGH_LIMIT = 500  # entities with odd headers that are read in every way

MESSAGE_TYPES = frozenset(("message/rfc822", "message/global", "message/news"))
UNPARSEABLE = "application/x-unparseable-multipart"

_CLOSED_AGAIN = Defect(DefectKind.REOPENED_MULTIPART, is_ambiguous=True)
_NOT_CLOSED = Defect(DefectKind.NO_CLOSING_BOUNDARY)
_NO_BOUNDARY = Defect(DefectKind.NO_BOUNDARY)
_OTHER_BOUNDARY = Defect(DefectKind.NO_BOUNDARY, is_ambiguous=True)


@dataclass(slots=True, eq=False)
class Entity:
    """One entity. Content is octets[start:end], still encoded; of a container it is all of its parts.

    `header` is the span of its header section. A container's `children` counts its entities; `preamble` and `epilogue`
    are spans of a container's text outside its parts.
    """

    parent: Entity | None
    types: tuple[str, ...]
    names: tuple[str, ...]
    encodings: tuple[str, ...]
    header: tuple[int, int]
    start: int
    end: int = 0
    attributes: str = ""
    defects: tuple[Defect, ...] = ()
    boundary: bytes | None = None
    is_digest: bool = False
    children: int = 0
    is_closed: bool = False
    preamble: tuple[int, int] = (0, 0)
    epilogue: tuple[int, int] = (0, 0)

    @property
    def is_container(self) -> bool:
        return self.boundary is not None

    def noted(self, defect: Defect) -> None:
        if defect not in self.defects:
            self.defects += (defect,)


@dataclass(slots=True)
class Structure:
    """`entities` in the order of the mail, containers before their parts. `is_cut`: there were more than the limit.

    `octets` are those that the entities' spans speak of; `habits` those that would have found another structure.
    """

    octets: Octets
    entities: list[Entity] = field(default_factory=list)
    errors: dict[str, None] = field(default_factory=dict)
    is_cut: bool = False
    habits: int = 0


def split(octets: Octets, max_entities: int, habits: int = 0) -> Structure:
    """The structure of a whole mail; entities beyond `max_entities` are left out and `is_cut` says so."""
    return _Splitter(octets, max_entities, habits).run()


class _Splitter:
    """The state of one pass: the containers that are open, and where their delimiters are."""

    def __init__(self, octets: Octets, max_entities: int, habits: int) -> None:
        self.octets = octets
        self.size = len(octets)
        self.max_entities = max_entities
        self.habits = habits
        self.structure = Structure(octets)
        self.stack: list[Entity] = []
        self.delimiters = Delimiters(octets, habits)
        self.odd_headers = 0
        self.is_proper = True  # the header section that was read last

    def run(self) -> Structure:
        delimiter = self._entity(0, None)
        while delimiter:
            self._pop_to(delimiter.level, delimiter)
            container = self.stack[-1]
            if delimiter.is_closing:
                container.is_closed = True
                delimiter = self._epilogue(container, delimiter.after)
                continue
            if container.is_closed:  # parts after the end: some readers show them
                container.noted(_CLOSED_AGAIN)
            if len(self.structure.entities) >= self.max_entities:
                self.structure.is_cut = True
                break
            delimiter = self._entity(delimiter.after, container)
        self._pop_to(-1, None)
        self.structure.habits |= self.delimiters.found
        return self.structure

    def _entity(self, at: int, parent: Entity | None) -> Delimiter | None:
        """Read the entity at `at` up to the delimiter that ends it, or that begins its first part."""
        header, body, delimiter = self._header(at, parent)
        entity = self._described(at, header, parent)
        entity.start = body
        self.structure.entities.append(entity)
        if entity.is_container:
            self._push(entity)
        if delimiter is None and self.stack:
            delimiter = self._next_delimiter(body)
        end = self._content_end(body, delimiter)
        if entity.is_container:
            entity.preamble = (body, end)
            if delimiter is None or delimiter.level < len(self.stack) - 1:
                self._error("unexpected end of preamble")
        elif delimiter is None and parent:
            self._error("part did not end with expected boundary")
        entity.end = end
        return delimiter

    def _header(self, at: int, parent: Entity | None) -> tuple[bytes, int, Delimiter | None]:
        """The header section at `at`, where the body starts, and the delimiter when one cut the section short."""
        octets = self.octets
        if octets[at : at + 2] == b"\r\n":
            return b"", at + 2, None
        if octets[at : at + 1] == b"\n":
            return b"", at + 1, None
        end, body, delimiter = self._header_lines(at, parent)
        header = octets[at:end]
        self.is_proper = is_proper_section(header)
        if self.is_proper:
            return header, body, delimiter
        cut, start, habits = section_end(header, self.habits)
        self.structure.habits |= habits
        return (header, body, delimiter) if start < 0 else (header[:cut], at + start, None)

    def _header_lines(self, at: int, parent: Entity | None) -> tuple[int, int, Delimiter | None]:
        """The same by the empty line alone."""
        octets = self.octets
        if parent and (first := self.delimiters.at(at)):
            return at, at, first
        pos = at
        while match := _STOP.search(octets, pos):
            start = match.start() + 1
            if octets[start : start + 1] != b"-":
                return start, match.end(), None
            if parent and (delimiter := self.delimiters.at(start)):
                self._error("unexpected end of header")
                return start, start, delimiter
            pos = start
        if parent:
            self._error("unexpected end of header")
        return self.size, self.size, None

    def _next_delimiter(self, at: int) -> Delimiter | None:
        """The next delimiter; the container that is open learns when another reader would see another one."""
        known = len(self.delimiters.defects)
        delimiter = self.delimiters.next(at)
        if len(self.delimiters.defects) > known:
            for defect in islice(self.delimiters.defects, known, None):
                self.stack[-1].noted(defect)
        return delimiter

    def _content_end(self, body: int, delimiter: Delimiter | None) -> int:
        """The line break before a delimiter belongs to it (RFC 2046 5.1.1)."""
        if delimiter is None:
            return self.size
        end = delimiter.start - 1
        if self.octets[end - 1 : end] == b"\r":
            end -= 1
        return max(end, body)

    def _epilogue(self, container: Entity, at: int) -> Delimiter | None:
        delimiter = self._next_delimiter(at)
        container.epilogue = (at, self._content_end(at, delimiter))
        return delimiter

    def _push(self, container: Entity) -> None:
        assert container.boundary is not None
        self.delimiters.open(container.boundary, len(self.stack))
        self.stack.append(container)

    def _pop_to(self, level: int, delimiter: Delimiter | None) -> None:
        """Leave all containers inside the one at `level`; who had no closing delimiter is a defect."""
        while len(self.stack) > level + 1:
            container = self.stack.pop()
            container.end = self._content_end(container.start, delimiter)
            if not container.children:
                self._guess(container, container.start)
            if not container.is_closed:
                container.noted(_NOT_CLOSED)
                if container.children:
                    self._error("unexpected end of parts before epilogue")
            assert container.boundary is not None
            self.delimiters.close(container.boundary)

    def _described(self, at: int, header: bytes, parent: Entity | None) -> Entity:
        """A new entity as its header describes it."""
        said = describe(
            header,
            self.habits,
            is_proper_section=self.is_proper,
            is_part=parent is not None or at + len(header) == self.size,
            is_thorough=self.odd_headers < _THOROUGH_LIMIT,
        )
        self.odd_headers += bool(said.defects)
        self.structure.habits |= said.habits
        default = "message/rfc822" if parent and parent.is_digest else "text/plain"
        entity = Entity(
            parent, said.types or (default,), said.names, said.encodings, (at, at + len(header)), 0, 0,
            said.attributes, said.defects,
        )  # fmt: skip
        if parent:
            parent.children += 1
        if said.is_multipart:
            self._contain(entity, said, at + len(header))
        return entity

    def _contain(self, entity: Entity, said: Description, at: int) -> None:
        """Make it a container when a boundary can be had."""
        entity.boundary = said.boundary
        entity.is_digest = "multipart/digest" in entity.types
        if said.boundary is None:
            self._error("multipart boundary is missing, or contains CR or LF")
            entity.noted(_NO_BOUNDARY)
        if self.habits & GUESSES_BOUNDARY:
            if said.boundary is None or self.octets.find(b"--" + said.boundary, at, at + _GUESS_WINDOW) < 0:
                entity.boundary = self._guess(entity, at) or said.boundary
        elif said.boundary is None:
            self._guess(entity, at)
        if entity.boundary is None:
            entity.types += (UNPARSEABLE,)

    def _guess(self, entity: Entity, at: int) -> bytes | None:
        """Without a boundary that occurs, some readers take the first line that looks like a delimiter."""
        line = _DASHED_LINE.search(self.octets, at, at + _GUESS_WINDOW)
        guess = line[1].rstrip(b" \t").removesuffix(b"--") if line else b""
        if not guess or guess in self.delimiters.levels:
            return None
        entity.noted(_OTHER_BOUNDARY)
        self.structure.habits |= GUESSES_BOUNDARY
        return guess

    def _error(self, text: str) -> None:
        self.structure.errors[f"error: {text}"] = None

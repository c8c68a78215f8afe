"""MIME - the structure of a mail: which octets are which entity, and what its header says of them.

In: the octets of a mail (bytes or mmap), CRLF or bare LF. Out: a `Structure`, a flat list of entities that know their
place; nothing is decoded or copied but the few Content-* fields. One pass over the octets from delimiter to
delimiter, no recursion: a mail's depth costs no stack, and each octet is looked at a constant number of times.

Tolerant as mail readers are: a missing closing delimiter, an outer delimiter inside an inner part, parts after the
closing delimiter, LF line ends. Where two readers could differ, the finer reading is taken and the entity is marked
ambiguous (B).

**Failures:** none; defects are collected in the words of amavis' MIME errors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from amavispy.inspection.mime_parameters import Parameters, file_names
from amavispy.mail.message import Octets

_STOP = re.compile(rb"\n(?:--|\r?\n)")  # what may end a header: a delimiter or an empty line
_FIELD = re.compile(rb"\n(?i:content-(type|transfer-encoding|disposition))[ \t]*:([^\n]*(?:\n[ \t][^\n]*)*)")
_ENCRYPTED = re.compile(r"/.*encrypted")
_BOUNDARY_LIMIT = 998  # RFC 2046 allows 70; no line of a mail is longer than this (RFC 5322 2.1.1)
_FIELD_LIMIT = 50

MESSAGE_TYPES = frozenset(("message/rfc822", "message/global", "message/news"))
UNPARSEABLE = "application/x-unparseable-multipart"


@dataclass(slots=True)
class Entity:
    """One entity. Content is octets[start:end], still encoded. A container's `children` counts its entities.

    `preamble` and `epilogue` are spans of a container's text outside its parts.
    """

    parent: Entity | None
    location: str
    types: tuple[str, ...]
    names: tuple[str, ...]
    encodings: tuple[str, ...]
    start: int
    end: int = 0
    attributes: str = ""
    boundaries: tuple[bytes, ...] = ()
    is_digest: bool = False
    children: int = 0
    is_closed: bool = False
    preamble: tuple[int, int] = (0, 0)
    epilogue: tuple[int, int] = (0, 0)

    @property
    def is_container(self) -> bool:
        return bool(self.boundaries)

    def marked(self, letter: str) -> None:
        if letter not in self.attributes:
            self.attributes += letter


@dataclass(slots=True)
class Structure:
    """`entities` in the order of the mail, containers before their parts. `is_cut`: there were more than the limit."""

    entities: list[Entity] = field(default_factory=list)
    errors: dict[str, None] = field(default_factory=dict)
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class _Delimiter:
    """A delimiter line: it starts at `start` (its two dashes), the next line at `after`; `level` in the stack."""

    start: int
    after: int
    level: int
    is_closing: bool


def split(octets: Octets, max_entities: int) -> Structure:
    """The structure of a whole mail; entities beyond `max_entities` are left out and `is_cut` says so."""
    return _Splitter(octets, max_entities).run()


class _Splitter:
    """The state of one pass: the containers that are open, and which delimiters belong to which of them."""

    def __init__(self, octets: Octets, max_entities: int) -> None:
        self.octets = octets
        self.size = len(octets)
        self.max_entities = max_entities
        self.structure = Structure()
        self.stack: list[Entity] = []
        self.levels: dict[bytes, list[int]] = {}

    def run(self) -> Structure:
        delimiter = self._entity(0, None)
        while delimiter:
            self._pop_to(delimiter.level)
            container = self.stack[-1]
            if delimiter.is_closing:
                container.is_closed = True
                delimiter = self._epilogue(container, delimiter.after)
                continue
            if container.is_closed:  # parts after the end: some readers show them
                container.marked("B")
            if len(self.structure.entities) >= self.max_entities:
                self.structure.is_cut = True
                return self.structure
            delimiter = self._entity(delimiter.after, container)
        self._pop_to(-1)
        return self.structure

    def _entity(self, at: int, parent: Entity | None) -> _Delimiter | None:
        """Read the entity at `at` up to the delimiter that ends it, or that begins its first part."""
        header_end, body, delimiter = self._header(at, parent)
        entity = self._described(bytes(self.octets[at:header_end]), parent)
        entity.start = body
        self.structure.entities.append(entity)
        if entity.is_container:
            self._push(entity)
        if delimiter is None and (self.stack or entity.is_container):
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

    def _header(self, at: int, parent: Entity | None) -> tuple[int, int, _Delimiter | None]:
        """Where the header section at `at` ends, where the body starts, and the delimiter when one cut it short."""
        octets = self.octets
        if octets[at : at + 2] == b"\r\n":
            return at, at + 2, None
        if octets[at : at + 1] == b"\n":
            return at, at + 1, None
        if parent and (first := self._delimiter_at(at)):
            return at, at, first
        pos = at
        while match := _STOP.search(octets, pos):
            start = match.start() + 1
            if octets[start : start + 1] != b"-":
                return start, match.end(), None
            if parent and (delimiter := self._delimiter_at(start)):
                self._error("unexpected end of header")
                return start, start, delimiter
            pos = start
        if parent:
            self._error("unexpected end of header")
        return self.size, self.size, None

    def _next_delimiter(self, at: int) -> _Delimiter | None:
        """The first delimiter of an open container on a line that starts at `at` or later."""
        if delimiter := self._delimiter_at(at):
            return delimiter
        find = self.octets.find
        found = find(b"\n--", at)
        while found >= 0:
            if delimiter := self._delimiter_at(found + 1):
                return delimiter
            found = find(b"\n--", found + 3)
        return None

    def _delimiter_at(self, start: int) -> _Delimiter | None:
        if self.octets[start : start + 2] != b"--":
            return None
        end = self.octets.find(b"\n", start)
        end = self.size if end < 0 else end + 1
        line = self.octets[start + 2 : min(end, start + _BOUNDARY_LIMIT + 8)].rstrip(b" \t\r\n")
        if levels := self.levels.get(line):
            return _Delimiter(start, end, levels[-1], False)
        if line.endswith(b"--") and (levels := self.levels.get(line[:-2].rstrip(b" \t"))):
            return _Delimiter(start, end, levels[-1], True)
        return None

    def _content_end(self, body: int, delimiter: _Delimiter | None) -> int:
        """The line break before a delimiter belongs to it (RFC 2046 5.1.1)."""
        if delimiter is None:
            return self.size
        end = delimiter.start - 1
        if self.octets[end - 1 : end] == b"\r":
            end -= 1
        return max(end, body)

    def _epilogue(self, container: Entity, at: int) -> _Delimiter | None:
        delimiter = self._next_delimiter(at)
        container.epilogue = (at, self._content_end(at, delimiter))
        return delimiter

    def _push(self, container: Entity) -> None:
        for boundary in container.boundaries:
            self.levels.setdefault(boundary, []).append(len(self.stack))
        self.stack.append(container)

    def _pop_to(self, level: int) -> None:
        """Leave all containers inside the one at `level`; who had no closing delimiter is a defect."""
        while len(self.stack) > level + 1:
            container = self.stack.pop()
            if not container.is_closed and container.children:
                self._error("unexpected end of parts before epilogue")
            for boundary in container.boundaries:
                self.levels[boundary].pop()

    def _described(self, header: bytes, parent: Entity | None) -> Entity:
        """A new entity as its Content-* fields describe it."""
        kinds, encodings, dispositions = _content_fields(header)
        default = "message/rfc822" if parent and parent.is_digest else "text/plain"
        types = tuple(dict.fromkeys(k.main for k in kinds if k.main)) or (default,)
        location = "1" if parent is None else f"{parent.location}/{parent.children + 1}"
        if parent:
            parent.children += 1
        entity = Entity(parent, location, types, file_names(dispositions, kinds), encodings, 0)
        if any(_ENCRYPTED.search(t) for t in types):
            entity.attributes = "UC"
        if any(t.startswith("multipart/") for t in types):
            self._contain(entity, kinds)
        if len(types) > 1 or len(set(encodings)) > 1:
            entity.marked("B")
        return entity

    def _contain(self, entity: Entity, kinds: list[Parameters]) -> None:
        """Make it a container when a boundary can be had. Several boundaries: all of them delimit, and it is marked."""
        given = [b for k in kinds if k.main.startswith("multipart/") for b in k.all("boundary")]
        usable = tuple(dict.fromkeys(b.rstrip()[:_BOUNDARY_LIMIT] for b in given if b.strip()))
        if not usable:
            self._error("multipart boundary is missing, or contains CR or LF")
            entity.types += (UNPARSEABLE,)
            return
        entity.boundaries = usable
        entity.is_digest = "multipart/digest" in entity.types
        if len(given) > 1:
            entity.marked("B")

    def _error(self, text: str) -> None:
        self.structure.errors[f"error: {text}"] = None


def _content_fields(header: bytes) -> tuple[list[Parameters], tuple[str, ...], list[Parameters]]:
    """Content-Type, Content-Transfer-Encoding and Content-Disposition, each as often as it stands there."""
    kinds: list[Parameters] = []
    encodings: list[str] = []
    dispositions: list[Parameters] = []
    for name, value in _fields(header):
        if name == b"type":
            kinds.append(Parameters.parse(value))
        elif name == b"disposition":
            dispositions.append(Parameters.parse(value))
        else:
            encodings.append(Parameters.parse(value).main)
    return kinds, tuple(encodings), dispositions


def _fields(header: bytes) -> Iterator[tuple[bytes, bytes]]:
    for count, match in enumerate(_FIELD.finditer(b"\n" + header)):
        if count == _FIELD_LIMIT:
            return
        yield match[1].lower(), match[2]

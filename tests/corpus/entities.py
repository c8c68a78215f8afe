"""Entities - MIME entities that can be put together wrongly on purpose.

An `Entity` is a list of header lines as they will stand in the mail and a body; operations of `leaves`, `fields` and
`wrappings` make one of another. Nothing is parsed and nothing corrected, so whatever is written here is what a reader
gets. Nothing here uses amavispy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random

from tests.corpus import build

CRLF = b"\r\n"


@dataclass(frozen=True, slots=True)
class Entity:
    """Header lines with their line ends, the line between header and body, and the body."""

    fields: tuple[bytes, ...]
    body: bytes
    gap: bytes = CRLF

    @property
    def octets(self) -> bytes:
        return b"".join(self.fields) + self.gap + self.body

    def with_field(self, name: bytes, change: Callable[[bytes], bytes]) -> Entity:
        """The entity with `change` made to each line of that name; lines are whole, with CRLF."""
        start = name.lower() + b":"
        return replace(self, fields=tuple(change(f) if f.lower().startswith(start) else f for f in self.fields))

    def with_every_content_field(self, change: Callable[[bytes], bytes]) -> Entity:
        return replace(self, fields=tuple(change(f) if f.lower().startswith(b"content-") else f for f in self.fields))

    def before(self, name: bytes, *lines: bytes) -> Entity:
        """With other lines in front of the field of that name."""
        return self._inserted(name, lines, 0)

    def behind(self, name: bytes, *lines: bytes) -> Entity:
        return self._inserted(name, lines, 1)

    def _inserted(self, name: bytes, lines: Sequence[bytes], offset: int) -> Entity:
        start = name.lower() + b":"
        for place, existing in enumerate(self.fields):
            if existing.lower().startswith(start):
                at = place + offset
                return replace(self, fields=(*self.fields[:at], *lines, *self.fields[at:]))
        return self

    def has(self, name: bytes) -> bool:
        return any(field.lower().startswith(name.lower() + b":") for field in self.fields)


def field(name: bytes, value: bytes) -> bytes:
    return name + b": " + value + CRLF


def entity(kind: bytes, body: bytes, *, encoding: bytes = b"", name: bytes = b"") -> Entity:
    fields = [field(b"Content-Type", kind)]
    if encoding:
        fields.append(field(b"Content-Transfer-Encoding", encoding))
    if name:
        fields.append(field(b"Content-Disposition", b'attachment; filename="' + name + b'"'))
    return Entity(tuple(fields), body)


def text_part(body: bytes = b"see the attachment") -> Entity:
    return entity(b"text/plain; charset=us-ascii", body, encoding=b"7bit")


def boundary(random: Random) -> bytes:
    return b"=_%08x" % random.getrandbits(32)


def container(mark: bytes, parts: Sequence[Entity], subtype: bytes = b"mixed") -> Entity:
    body = b"".join(b"--" + mark + CRLF + part.octets + CRLF for part in parts) + b"--" + mark + b"--" + CRLF
    return entity(b"multipart/" + subtype + b'; boundary="' + mark + b'"', body)


def whole_mail(top: Entity) -> bytes:
    """The entity as a mail: the usual fields above its own."""
    return build.header({"MIME-Version": "1.0"}) + top.octets

"""Headers - the header section on octets: every field where it stands, nothing repaired.

Offsets point into the mail's octets, so an edit can replace exactly one field. Lookups unfold; originals stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from amavispy.mail.message import Octets

_FIELD = re.compile(rb"([^\r\n:]*?)[ \t]*:")
_FOLD = re.compile(rb"\r\n(?=[ \t])")


@dataclass(frozen=True, slots=True)
class HeaderField:
    """One field. `octets`: the whole of it with folds and its final CRLF; `name` as written, "" without a colon."""

    name: bytes
    octets: bytes
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.octets)

    @property
    def value(self) -> bytes:
        """What stands behind the colon, unfolded, without surrounding blanks."""
        body = self.octets.partition(b":")[2] if self.name else self.octets
        return _FOLD.sub(b"", body.rstrip(b"\r\n")).strip(b" \t")


@dataclass(frozen=True, slots=True)
class Headers:
    """All fields in order. `size` is the section's length with every CRLF, without the empty line."""

    fields: tuple[HeaderField, ...]
    size: int

    @classmethod
    def parse(cls, octets: Octets) -> Headers:
        end, _ = split_header(octets)
        return cls(tuple(_fields(bytes(octets[:end]))), end)

    def all(self, name: bytes) -> list[HeaderField]:
        wanted = name.lower()
        return [f for f in self.fields if f.name.lower() == wanted]

    def first(self, name: bytes) -> bytes | None:
        """The unfolded value of the topmost field of this name, or None."""
        wanted = name.lower()
        return next((f.value for f in self.fields if f.name.lower() == wanted), None)


def split_header(octets: Octets) -> tuple[int, int]:
    """Where the header section ends (behind its last CRLF) and where the body starts (behind the empty line)."""
    if octets[:2] == b"\r\n":
        return 0, 2
    at = octets.find(b"\r\n\r\n")
    return (len(octets), len(octets)) if at < 0 else (at + 2, at + 4)


def _fields(section: bytes) -> Iterator[HeaderField]:
    start = 0
    while start < len(section):
        end = section.find(b"\r\n", start)
        while end >= 0 and section[end + 2 : end + 3] in (b" ", b"\t"):
            end = section.find(b"\r\n", end + 2)
        end = len(section) if end < 0 else end + 2
        match = _FIELD.match(section, start, end)
        yield HeaderField(match[1] if match else b"", section[start:end], start)
        start = end

"""Mailboxes - the addresses in a From or similar field, read as leniently as mail programs read them.

In: the unfolded value of a field (RFC 5322 3.4: display names, quoted strings, comments, groups). Out: its addresses,
as they stand there, in order. What a sender writes into this field is his own business: it proves nothing.

Reads each octet once, whatever it is given. **Failures:** none; what is no address is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_LIMIT = 50  # addresses; nobody signs with more
_OCTETS_LIMIT = 65_536
_WORDS = r"\s+|[()<>,;:\\]|[^\"\s()<>,;:\\]+"
_TOKEN = re.compile(rf'"(?:[^"\\]|\\.)*(")?|{_WORDS}', re.S)
_BARE_TOKEN = re.compile(_WORDS)


def mailboxes(value: bytes) -> tuple[str, ...]:
    """The addresses of the field's value, at most fifty, without brackets; octets beyond ASCII survive."""
    reader = _Reader()
    for piece in _tokens(value[:_OCTETS_LIMIT].decode("utf-8", "surrogateescape")):
        reader.take(piece)
        if len(reader.found) >= _LIMIT:
            break
    reader.end_mailbox()
    return tuple(reader.found)


def _tokens(text: str) -> Iterator[str]:
    """The pieces of the text. A quotation mark that nothing closes means nothing."""
    for match in _TOKEN.finditer(text):
        if match[0][0] == '"' and not match[1]:
            yield from (bare[0] for bare in _BARE_TOKEN.finditer(text, match.start()))
            return
        yield match[0]


class _Reader:
    """What was read of the current mailbox: words outside of angle brackets, and what stands in them."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self._depth = 0  # of comments, which nest
        self._words: list[str] = []
        self._angle: list[str] | None = None
        self._is_in_angle = False
        self._is_route = False

    def take(self, piece: str) -> None:
        if piece == "(" or self._depth:
            self._depth += (piece == "(") - (piece == ")")
        elif piece == "<":
            self._angle, self._is_in_angle = [], True
        elif piece == ">":
            self._is_in_angle = self._is_route = False
        elif piece in ",;":
            if not self._is_route:
                self.end_mailbox()
        elif piece == ":" and not self._is_in_angle:  # of a group: what stood there was its name
            self._words.clear()
        elif self._is_in_angle and self._angle is not None:
            self._in_angle(piece, self._angle)
        elif not piece.isspace():
            self._words.append(piece)

    def _in_angle(self, piece: str, angle: list[str]) -> None:
        """`<@relay,@other:user@host>` begins with a route, which ends at the colon (RFC 5322 4.4)."""
        self._is_route = piece != ":" and (self._is_route or (not angle and piece.startswith("@")))
        if not piece.isspace():
            angle.append(piece)

    def end_mailbox(self) -> None:
        words = self._words if self._angle is None else self._angle
        address = "".join(words)
        if "@" in address.rpartition('"')[2]:
            self.found.append(address.rpartition(":")[2] if address.startswith("@") else address)
        self._words, self._angle, self._is_in_angle, self._is_route = [], None, False, False

"""Smtp input - the octets received and not yet understood, and the command lines out of them.

The buffer belongs to one connection and dies with it. It stays small by itself: a caller receives when everything
complete has been used up, and a line beyond the limit is dropped while it comes in.

**Failures:** PeerError for a line that was too long, once its end has come.
"""

from __future__ import annotations

from typing import Final

from amavispy.mail.reply import PeerError
from amavispy.protocols import smtp_replies as replies

LINE_LIMIT: Final = 4096  # octets with CRLF; RFC 5321 4.5.3.1.4 asks for 512 and what extensions add


class Input:
    """`octets` from `start` on are unread; `is_dropping` while inside of a line that is too long already."""

    __slots__ = ("_line_start", "is_dropping", "is_ended", "octets", "start")

    def __init__(self, octets: bytes = b"", *, is_dropping: bool = False) -> None:
        self.octets = octets
        self.start = 0
        self.is_dropping = is_dropping
        self.is_ended = False
        self._line_start = 0

    def receive(self, octets: bytes) -> None:
        """Octets as they came from the connection, b"" for its end."""
        if not octets:
            self.is_ended = True
        elif self.start < len(self.octets):
            self.octets = self.octets[self.start :] + octets
        else:
            self.octets = octets
        self.start = 0 if octets else self.start

    @property
    def rest(self) -> bytes:
        return self.octets[self.start :]

    @property
    def has_rest(self) -> bool:
        return self.start < len(self.octets)

    def clear(self) -> None:
        self.octets, self.start, self.is_dropping = b"", 0, False

    def next_line(self) -> bytes | None:
        """The next line with its LF, or None when it is not there yet."""
        self._line_start = self.start
        end = self.octets.find(b"\n", self.start) + 1
        if not end:
            self._limit_partial_line()
            return None
        line = self.octets[self.start : end]
        self.start = end
        if self.is_dropping or len(line) > LINE_LIMIT:
            self.is_dropping = False
            raise PeerError(replies.LINE_TOO_LONG)
        return line

    def unread_line(self) -> None:
        """Let the last line stand first again."""
        self.start = self._line_start

    def _limit_partial_line(self) -> None:
        if self.is_dropping or len(self.octets) - self.start > LINE_LIMIT:
            self.clear()
            self.is_dropping = True

"""Smtp body - the octets behind DATA and BDAT: where the mail ends, dots unstuffed, line ends made equal.

Only CRLF.CRLF ends DATA, and only a dot behind a CRLF is unstuffed. What comes out never holds a bare CR or a bare LF,
so whatever a next hop takes for a line end, it sees the lines that we have seen: nothing can be smuggled past as an end
of data. A bare LF becomes CRLF (it was meant as a line end), a bare CR becomes a space (it would otherwise make header
fields out of what was none), NUL and 8-bit octets pass. Reception works on large buffers, never line by line.

**Failures:** none is raised. `MailOctets.fault` is the reply for a mail that is too big or holds bare line ends in
"reject" mode; its octets are read to the end and dropped.
"""

from __future__ import annotations

import re
from io import IncrementalNewlineDecoder
from typing import Final

from amavispy.mail.reply import Reply
from amavispy.protocols import smtp_replies as replies

_END: Final = b"\r\n.\r\n"
_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def has_bare_line_end(octets: bytes) -> bool:
    """Whether a CR or an LF stands alone; `octets` must not end within a CRLF.

    The decoder of universal newlines notes in one pass of C which kinds of line ends occur: a third of the time of
    counting CR, LF and CRLF.
    """
    decoder = IncrementalNewlineDecoder(None, False)
    decoder.decode(octets.decode("latin-1"), True)
    return decoder.newlines not in (None, "\r\n")


class MailOctets:
    """What all streams of one mail have in common: line ends, the size, and what is wrong with it."""

    __slots__ = ("_bare", "_rejects_bare", "size", "size_limit")

    def __init__(self, *, rejects_bare: bool, size_limit: int) -> None:
        self.size = 0
        self.size_limit = size_limit  # octets, 0 for none
        self._rejects_bare = rejects_bare
        self._bare: Reply | None = None

    @property
    def fault(self) -> Reply | None:
        if self._bare:
            return self._bare
        return replies.about(replies.TOO_BIG, self.size) if 0 < self.size_limit < self.size else None

    def add(self, octets: bytes) -> bytes:
        """The octets as they may pass; nothing once there is a fault. They must not end within a CRLF."""
        if has_bare_line_end(octets):
            octets = self._without_bare(octets)
        self.size += len(octets)
        return b"" if self._bare or 0 < self.size_limit < self.size else octets

    def _without_bare(self, octets: bytes) -> bytes:
        if self._rejects_bare and not self._bare and (match := _BARE.search(octets)):
            self._bare = replies.BARE_CR if match[0] == b"\r" else replies.BARE_LF
        return octets.replace(b"\r\n", b"\n").replace(b"\r", b" ").replace(b"\n", b"\r\n")


class DataStream:
    """DATA. `_held` is the end of what came in while it may be the start of the end of data: at most four octets."""

    __slots__ = ("_at_start", "_held", "is_complete", "mail")

    def __init__(self, mail: MailOctets) -> None:
        self.mail = mail
        self.is_complete = False
        self._held = b"\r\n"  # the command line's: the final dot may be all that comes
        self._at_start = True

    def take(self, octets: bytes, start: int) -> tuple[bytes, int]:
        if start >= len(octets):
            return b"", start
        raw = self._held + octets[start:] if self._held or start else octets
        before = len(octets) - len(raw)
        dot = _find_line_dot(raw)
        end = raw.find(_END, dot) if dot >= 0 else -1
        if end >= 0:
            self.is_complete, self._held = True, b""
            return self._pass_on(raw[: end + 2], dot), before + end + len(_END)
        cut = len(raw) - _held_length(raw)
        self._held = raw[cut:]
        return self._pass_on(raw[:cut] if self._held else raw, dot), len(octets)

    def _pass_on(self, content: bytes, dot: int) -> bytes:
        if 0 <= dot < len(content) - 2:
            content = content.replace(b"\r\n.", b"\r\n")  # RFC 5321 4.5.2
        if self._at_start and content:
            content, self._at_start = content[2:], False
        return self.mail.add(content) if content else b""


class BdatStream:
    """All BDAT chunks of a mail (RFC 3030 2), each announced by `expect`. A CRLF may be torn between two of them."""

    __slots__ = ("_ends_line", "_held", "count", "is_complete", "is_last", "mail", "remaining")

    def __init__(self, mail: MailOctets) -> None:
        self.mail = mail
        self.is_complete = True
        self.is_last = False
        self.count = self.remaining = 0
        self._held = b""
        self._ends_line = True

    def expect(self, count: int, *, is_last: bool) -> None:
        self.count = self.remaining = count
        self.is_last, self.is_complete = is_last, False

    def take(self, octets: bytes, start: int) -> tuple[bytes, int]:
        end = min(len(octets), start + self.remaining)
        self.remaining -= end - start
        self.is_complete = self.remaining == 0
        is_end = self.is_complete and self.is_last
        raw = self._held + octets[start:end]
        self._held = b"\r" if raw.endswith(b"\r") and not is_end else b""
        raw = raw[:-1] if self._held else raw
        content = b""
        if raw:
            content, self._ends_line = self.mail.add(raw), raw.endswith(b"\n")
        if is_end and not self._ends_line:
            content += self.mail.add(b"\r\n")  # DATA, which the next hop may want, cannot end otherwise
        return content, end


class Discard:
    """Octets of a BDAT that was refused: they are no commands (RFC 3030 4.2). `reply` is due behind them.

    `is_mistake`: the client should have known, so it counts as one of its errors.
    """

    __slots__ = ("is_mistake", "remaining", "reply")

    def __init__(self, remaining: int, reply: Reply, *, is_mistake: bool = False) -> None:
        self.remaining = remaining
        self.reply = reply
        self.is_mistake = is_mistake

    def as_tuple(self) -> tuple[int, bool, tuple[int, str, str]]:
        """What travels to another process: octets left, whose fault it was, and the reply's parts."""
        return self.remaining, self.is_mistake, (self.reply.code, self.reply.enhanced, self.reply.text)

    @property
    def is_complete(self) -> bool:
        return self.remaining == 0

    def take(self, octets: bytes, start: int) -> tuple[bytes, int]:
        end = min(len(octets), start + self.remaining)
        self.remaining -= end - start
        return b"", end


# A way of reading. `take` eats `octets` from `start` on and gives what may pass and where the next command begins;
# until `is_complete` that is the end of `octets`.
Stream = DataStream | BdatStream | Discard


def _find_line_dot(raw: bytes) -> int:
    """Where CRLF and a dot stand first, or -1. Base64 has no dot at all, and one octet is found 50 times faster."""
    dot = raw.find(b".")
    return raw.find(b"\r\n.", max(0, dot - 2)) if dot >= 0 else -1


def _held_length(raw: bytes) -> int:
    """How many octets at the end may be the start of the end of data, a lone CR included."""
    if raw[-1:] not in b"\r\n.":
        return 0
    return next((length for length in (4, 3, 2, 1) if raw.endswith(_END[:length])), 0)

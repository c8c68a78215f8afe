"""SMTP client's replies - octets from a server become Reply values, strictly and within limits.

In: octets as they come, in any portions. Out: one Reply at a time. What the codes mean in a dialogue is the client's
business; where the octets come from is nobody's here.

**Failures:** GarbledReply when the server says something that is no reply (RFC 5321 4.2); the session is over then.
"""

from __future__ import annotations

import re

from amavispy.mail.reply import Reply

LINE_LIMIT = 2048  # octets; RFC 5321 4.5.3.1.5 promises 512, real servers exceed it
LINES_LIMIT = 100

# What nearly every reply looks like; the enhanced code must have the code's class.
_SIMPLE = re.compile(rb"(([2-5])[0-9][0-9]) (?:(\2\.[0-9]{1,3}\.[0-9]{1,3}) )?([ -~]{0,500})\r\n")
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ -])(.*))?", re.S)
_ENHANCED = re.compile(rb"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |$)")


class GarbledReply(Exception):
    """The octets are not an SMTP reply; the text says what stood there, escaped."""


class ReplyReader:
    """Collects octets and hands out whole replies.

    Texts are ASCII with every other octet as \\xNN, or UTF-8 when `charset` says so (RFC 6531 3.7.4.2).
    """

    __slots__ = ("_at", "_buffer", "_lines", "charset")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self._lines: list[bytes] = []
        self.charset = "ascii"

    @property
    def has_input(self) -> bool:
        """Something was received that has not been handed out."""
        return self._at < len(self._buffer) or bool(self._lines)

    def receive(self, octets: bytes) -> None:
        self._buffer = self._buffer[self._at :] + octets
        self._at = 0

    def next_reply(self) -> Reply | None:
        """The next whole reply, None when more octets are needed."""
        if not self._lines and (match := _SIMPLE.match(self._buffer, self._at)):
            self._at = match.end()
            return Reply(int(match[1]), match[3].decode() if match[3] else "", match[4].decode())
        while (end := self._buffer.find(b"\n", self._at, self._at + LINE_LIMIT)) >= 0:
            line = self._buffer[self._at : end].rstrip(b"\r")
            self._at = end + 1
            if self._is_last(line):
                return self._finish()
        if len(self._buffer) - self._at >= LINE_LIMIT:
            raise GarbledReply(f"a line of more than {LINE_LIMIT} octets")
        return None

    def _is_last(self, line: bytes) -> bool:
        match = _LINE.fullmatch(line)
        if not match or (self._lines and line[:3] != self._lines[0][:3]):
            raise GarbledReply(_shown(line))
        self._lines.append(line)
        if len(self._lines) > LINES_LIMIT:
            raise GarbledReply(f"a reply of more than {LINES_LIMIT} lines")
        return match[2] != b"-"

    def _finish(self) -> Reply:
        lines, self._lines = self._lines, []
        texts = [line[4:] for line in lines]
        match = _ENHANCED.match(texts[0])
        # A class that contradicts the code makes it no enhanced code but a part of the text (RFC 2034 4).
        enhanced = match[1] if match and match[1][:1] == lines[0][:1] else b""
        if enhanced:
            texts = [text.removeprefix(enhanced).lstrip(b" ") for text in texts]
        return Reply(int(lines[0][:3]), enhanced.decode(), b"\n".join(texts).decode(self.charset, "backslashreplace"))


def _shown(octets: bytes) -> str:
    """At most 100 octets of what a server said, safe to log and to repeat."""
    text = octets[:100].decode("ascii", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02X}" for c in text)

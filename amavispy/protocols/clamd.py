"""Clamd - clamd's IDSESSION dialogue as a value: requests become octets, octets become answers.

One `ClamdSession` is one connection. `ask_descriptor` and `ask_stream` give what has to be sent (the descriptor itself
travels beside its command, which is the caller's business), `receive` eats what came back. Answers carry the number of
their request; clamd scans several at once and answers in any order (clamd(8), IDSESSION). Commands and replies end in
NUL.

Must not know of sockets, files, mails or time.

**Failures:** an answer that is neither OK nor FOUND is an `Answer` with `error` set ("INSTREAM size limit exceeded.").
What is no answer at all (no number, a number never asked, too long) raises ClamdError: the connection is useless.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE_LIMIT = 16_384
# `7: fd[12]: Eicar-Signature FOUND`, `7: stream: OK`, `7: INSTREAM size limit exceeded. ERROR`
_ANSWER = re.compile(rb"(\d{1,18}): (?:(?:fd\[-?\d+\]|stream): )?(?:(.*) (FOUND|ERROR)|(OK))", re.S)
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]+")


class ClamdError(Exception):
    """The peer does not speak clamd's protocol, or not any more."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What clamd says of request `number`: infected with `name`, failed with `error`, or (both empty) clean."""

    number: int
    name: str = ""
    error: str = ""


class ClamdSession:
    """Both directions of one connection."""

    __slots__ = ("_asked", "_input", "_open")

    def __init__(self) -> None:
        self._asked = 0
        self._open: set[int] = set()
        self._input = b""

    @property
    def outstanding(self) -> int:
        """How many requests have no answer yet."""
        return len(self._open)

    def ask_descriptor(self) -> bytes:
        """The command for scanning the file whose descriptor is sent in the same packet (FILDES; Unix sockets only)."""
        return self._next() + b"zFILDES\0\0"  # the second NUL is the dummy character the descriptor belongs to

    def ask_stream(self, size: int) -> tuple[bytes, bytes]:
        """What stands before and behind `size` octets to be scanned (INSTREAM, in one chunk)."""
        return self._next() + b"zINSTREAM\0" + size.to_bytes(4, "big"), b"\0\0\0\0"

    def _next(self) -> bytes:
        self._asked += 1
        self._open.add(self._asked)
        return b"zIDSESSION\0" if self._asked == 1 else b""

    def receive(self, octets: bytes) -> list[Answer]:
        """The answers that are complete now."""
        *lines, self._input = (self._input + octets).split(b"\0") if self._input else octets.split(b"\0")
        if len(self._input) > _LINE_LIMIT:
            raise ClamdError("endless answer")
        return [self._answer(line) for line in lines]

    def _answer(self, line: bytes) -> Answer:
        match = _ANSWER.fullmatch(line)
        if not match:
            raise ClamdError(f"unexpected answer: {_readable(line)}")
        number = int(match[1])
        if number not in self._open:
            raise ClamdError(f"answer to request {number}, which was not asked")
        self._open.discard(number)
        if match[4]:
            return Answer(number)
        text = _readable(match[2]) or "unknown"
        return Answer(number, name=text) if match[3] == b"FOUND" else Answer(number, error=text)


def _readable(octets: bytes) -> str:
    """Fit for a log line and a header field."""
    return _UNPRINTABLE.sub(" ", octets[:200].decode("ascii", "replace")).strip()

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

from amavispy.protocols.scanner_talk import UNKNOWN, Answer, Buffer, ScannerError, readable

_WINDOW = 8  # requests under way at a time; their answers fit into any socket buffer
_LINE_LIMIT = 16_384
# `7: fd[12]: Eicar-Signature FOUND`, `7: stream: OK`, `7: INSTREAM size limit exceeded. ERROR`
_ANSWER = re.compile(rb"(\d{1,18}): (?:(?:fd\[-?\d+\]|stream): )?(?:(.*) (FOUND|ERROR)|(OK))", re.S)


class ClamdError(ScannerError):
    """The peer does not speak clamd's protocol, or not any more."""


class ClamdSession:
    """Both directions of one connection."""

    __slots__ = ("_asked", "_input", "_open")

    is_spent = False

    def __init__(self) -> None:
        self._asked = 0
        self._open: dict[int, int] = {}  # request -> the part it is about
        self._input = b""

    @property
    def outstanding(self) -> int:
        """How many requests have no answer yet."""
        return len(self._open)

    @property
    def takes_more(self) -> bool:
        return len(self._open) < _WINDOW

    @property
    def is_waiting(self) -> bool:
        return bool(self._open)

    def ask_descriptor(self, part: int | None = None) -> bytes:
        """The command for scanning the file whose descriptor is sent in the same packet (FILDES; Unix sockets only)."""
        return self._next(part) + b"zFILDES\0\0"  # the second NUL is the dummy character the descriptor belongs to

    def ask_stream(self, size: int, part: int | None = None) -> tuple[bytes, bytes]:
        """What stands before and behind `size` octets to be scanned (INSTREAM, in one chunk)."""
        return self._next(part) + b"zINSTREAM\0" + size.to_bytes(4, "big"), b"\0\0\0\0"

    def take_output(self) -> list[Buffer]:
        """Nothing: the commands above are sent as they are made, some with a descriptor."""
        return []

    def _next(self, part: int | None) -> bytes:
        self._asked += 1
        self._open[self._asked] = self._asked if part is None else part
        return b"zIDSESSION\0" if self._asked == 1 else b""

    def receive(self, octets: bytes) -> list[Answer]:
        """The answers that are complete now, each with the part it was asked about, else its request's number."""
        if not octets:
            raise ClamdError("clamd closed the connection")
        *lines, self._input = (self._input + octets).split(b"\0") if self._input else octets.split(b"\0")
        if len(self._input) > _LINE_LIMIT:
            raise ClamdError("endless answer")
        return [self._answer(line) for line in lines]

    def _answer(self, line: bytes) -> Answer:
        match = _ANSWER.fullmatch(line)
        if not match:
            raise ClamdError(f"unexpected answer: {readable(line)}")
        request = int(match[1])
        if request not in self._open:
            raise ClamdError(f"answer to request {request}, which was not asked")
        part = self._open.pop(request)
        if match[4]:
            return Answer(part)
        text = readable(match[2]) or UNKNOWN
        return Answer(part, name=text) if match[3] == b"FOUND" else Answer(part, error=text)

"""Spamd - SpamAssassin's SPAMC/SPAMD dialogue as a value: one request, one response, one connection.

`request_head` goes before the message; `ResponseReader` eats what comes back until `response` is there. Of spamd's
methods REPORT is asked: only its table of rules carries the score of each test (SYMBOLS and HEADERS name tests without
scores, unless the site's templates say otherwise). What REPORT does not tell is the auto-learn status.

Must not know of sockets, mails' insides or what a score means.

**Failures:** SpamdError: an error status, a score that is no number, an answer too long or cut short.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_HEAD_LIMIT = 16_384
_BODY_LIMIT = 1_048_576
_STATUS = re.compile(rb"SPAMD/\S+ (\d+) ?(.*)")
_USER = re.compile(r"[!-~\u00a1-\uffff]{1,255}")
_SPAM = re.compile(rb"(?:True|False|Yes|No) ; (-?\d+(?:\.\d+)?) / -?\d+(?:\.\d+)?")
# The table stands below the preview of the mail, which its sender could make look like a table: the last one counts.
_TABLE = re.compile(r"^---- -{10,} -{10,}\s*$", re.M)
_RULE = re.compile(r"^ {0,4}\*? {0,4}(-?\d+(?:\.\d+)?) ([A-Za-z_][A-Za-z0-9_]*)(?: |$)", re.M)


class SpamdError(Exception):
    """spamd could not or would not check the message."""


@dataclass(frozen=True, slots=True)
class Response:
    """`tests` are (name, score) in the report's order, empty when the site's report template has no table of rules."""

    score: float
    tests: tuple[tuple[str, float], ...]
    report: str


def request_head(length: int, *, user: str = "", is_compressed: bool = False) -> bytes:
    """The request for a message of so many octets, which follow. They must end in a line end: spamd reads lines.

    `user`: whose preferences count; a name that could end a line is left out. `is_compressed`: the octets are a zlib
    stream (RFC 1950) of the message.
    """
    head = b"REPORT SPAMC/1.5\r\nContent-length: %d\r\n" % length
    if user and _USER.fullmatch(user):
        head += b"User: %s\r\n" % user.encode()
    if is_compressed:
        head += b"Compress: zlib\r\n"
    return head + b"\r\n"


class ResponseReader:
    """Collects the response; `receive(b"")` tells it that spamd has closed."""

    __slots__ = ("_input", "_length", "response")

    def __init__(self) -> None:
        self._input = bytearray()
        self._length = 0
        self.response: Response | None = None

    def receive(self, octets: bytes) -> None:
        self._input += octets
        if not self._length:
            self._length = self._whole_length()
        if self._length and len(self._input) >= self._length:
            self.response = _parsed(bytes(self._input[: self._length]))
        elif not octets:
            self._closed_early()

    def _whole_length(self) -> int:
        """Octets of head and body, 0 while that is not known."""
        end = self._input.find(b"\r\n\r\n")
        if end < 0:
            if len(self._input) > _HEAD_LIMIT:
                raise SpamdError("endless response header")
            return 0
        length = _field(bytes(self._input[:end]), b"content-length")
        if not re.fullmatch(rb"\d{1,9}", length) or int(length) > _BODY_LIMIT:
            raise SpamdError(f"response of improper length: {_readable(length)}")
        return end + 4 + int(length)

    def _closed_early(self) -> None:
        """An error status comes without a header section, so the end of the stream ends it."""
        _check_status(bytes(self._input.partition(b"\r\n")[0]))
        raise SpamdError("connection closed before the end of the response")


def _parsed(octets: bytes) -> Response:
    head, _, body = octets.partition(b"\r\n\r\n")
    _check_status(head.partition(b"\r\n")[0])
    match = _SPAM.fullmatch(_field(head, b"spam"))
    if not match or not math.isfinite(score := float(match[1])):
        raise SpamdError("response without a score")
    report = body.decode("utf-8", "replace")
    return Response(score, _tests(report), report.strip())


def _check_status(line: bytes) -> None:
    match = _STATUS.fullmatch(line)
    if not match:
        raise SpamdError(f"not a spamd: {_readable(line)}" if line else "no response")
    if int(match[1]):
        raise SpamdError(f"status {int(match[1])}: {_readable(match[2])}")


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.split(b"\r\n")[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    return b""


def _tests(report: str) -> tuple[tuple[str, float], ...]:
    tables = list(_TABLE.finditer(report))
    if not tables:
        return ()
    return tuple((name, float(score)) for score, name in _RULE.findall(report, tables[-1].end()))


def _readable(octets: bytes) -> str:
    return "".join(c if " " <= c <= "~" else "?" for c in octets[:200].decode("ascii", "replace"))

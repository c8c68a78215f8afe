"""HTTP response - one HTTP/1.1 response as a value, read octet by octet if need be (RFC 9112).

`receive` eats what comes in; `response` is there when it is whole. Bodies end by Content-Length, by chunks or by the
end of the stream; interim responses (1xx) are passed over. What follows the response is not ours to keep:
`is_reusable` tells whether the connection may be used again, and it may not when there was more.

Must not know of sockets, or of what the body says.

**Failures:** HttpError: not HTTP, too long, cut short.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_HEAD_LIMIT = 32_768
_CHUNK_LINE_LIMIT = 1024
_STATUS = re.compile(rb"HTTP/1\.(\d) (\d{3})(?: (.*))?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;.*)?")


class HttpError(Exception):
    """What came is no response that can be used."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """`fields` are by lower-case name, the last of several counts. `reason` is printable ASCII."""

    status: int
    reason: str
    fields: Mapping[str, str]
    body: bytes
    is_reusable: bool


class HttpReader:
    """Collects one response whose body has at most so many octets; `receive(b"")` tells of the end of the stream."""

    __slots__ = ("_body", "_fields", "_input", "_is_at_end", "_is_persistent", "_left", "_limit", "_status", "response")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._input = bytearray()
        self._is_at_end = False
        self._status: tuple[int, str] | None = None
        self._is_persistent = False
        self._fields: dict[str, str] = {}
        self._body = bytearray()
        self._left: int | None = None  # octets of the body or chunk still to come; None: until the end of the stream
        self.response: HttpResponse | None = None

    def receive(self, octets: bytes) -> None:
        if self.response:
            return
        self._input += octets
        self._is_at_end = not octets
        while not self.response and self._step():
            pass
        if self._is_at_end and not self.response:
            started = self._status is not None or self._input
            raise HttpError("connection closed before the end of the response" if started else "no response")

    def _step(self) -> bool:
        """Go one step on; False when more has to come first."""
        if self._status is None:
            return self._head()
        if "chunked" in self._fields.get("transfer-encoding", "").lower():
            return self._chunk()
        return self._plain_body()

    def _head(self) -> bool:
        end = self._input.find(b"\r\n\r\n")
        if end < 0 and len(self._input) > _HEAD_LIMIT:
            raise HttpError("endless response header")
        if end < 0:
            return False
        lines = bytes(self._input[:end]).split(b"\r\n")
        del self._input[: end + 4]
        match = _STATUS.fullmatch(lines[0])
        if not match:
            raise HttpError(f"not HTTP: {readable(lines[0])}")
        if match[2].startswith(b"1"):  # RFC 9110 15.2: interim, the real one follows
            return True
        self._status = int(match[2]), readable(match[3] or b"")
        self._fields = dict(_field(line) for line in lines[1:])
        options = self._fields.get("connection", "").lower()
        self._is_persistent = "keep-alive" in options if match[1] == b"0" else "close" not in options
        self._left = self._announced()
        return True

    def _announced(self) -> int | None:
        if self._status and self._status[0] in (204, 304):
            return 0
        if "transfer-encoding" in self._fields:
            return 0
        text = self._fields.get("content-length")
        if text is None:
            self._is_persistent = False
            return None
        if not re.fullmatch(r"[0-9]{1,12}", text) or int(text) > self._limit:
            raise HttpError(f"response of improper length: {readable(text.encode())}")
        return int(text)

    def _plain_body(self) -> bool:
        if self._left is None:
            self._body += self._input
            self._input.clear()
            self._check_size(0)
            return self._is_at_end and self._finish()
        return len(self._input) >= self._left and self._take(self._left) and self._finish()

    def _chunk(self) -> bool:
        if self._left:  # a chunk's octets and the CRLF behind them
            if len(self._input) < self._left + 2:
                return False
            self._take(self._left)
            if self._input[:2] != b"\r\n":
                raise HttpError("chunk without an end")
            del self._input[:2]
            self._left = 0
            return True
        return self._chunk_line()

    def _chunk_line(self) -> bool:
        end = self._input.find(b"\r\n")
        if end < 0 or self._left is None:
            if len(self._input) > _CHUNK_LINE_LIMIT:
                raise HttpError("endless chunk header")
            return False
        match = _SIZE.fullmatch(bytes(self._input[:end]))
        if not match:
            raise HttpError("chunk of improper length")
        size = int(match[1], 16)
        self._check_size(size)
        if size:
            del self._input[: end + 2]
            self._left = size
            return True
        return self._trailer(end + 2)

    def _trailer(self, start: int) -> bool:
        """Behind the last chunk: trailer fields, which mean nothing to us, and an empty line."""
        if self._input[start : start + 2] == b"\r\n":
            end = start
        else:
            end = self._input.find(b"\r\n\r\n", start)
            end = end if end < 0 else end + 2
        if end < 0 or len(self._input) < end + 2:
            if len(self._input) > _HEAD_LIMIT:
                raise HttpError("endless trailer")
            return False
        del self._input[: end + 2]
        return self._finish()

    def _take(self, size: int) -> bool:
        self._body += self._input[:size]
        del self._input[:size]
        return True

    def _check_size(self, more: int) -> None:
        if len(self._body) + more > self._limit:
            raise HttpError(f"a response of more than {self._limit} octets")

    def _finish(self) -> bool:
        assert self._status
        is_reusable = self._is_persistent and not self._input and not self._is_at_end
        self.response = HttpResponse(*self._status, self._fields, bytes(self._body), is_reusable)
        return True


def _field(line: bytes) -> tuple[str, str]:
    name, _, value = line.partition(b":")
    return name.decode("latin-1").lower(), value.strip(b" \t").decode("latin-1")


def readable(octets: bytes) -> str:
    """The beginning of something for a log: printable ASCII."""
    return "".join(c if " " <= c <= "~" else "?" for c in octets[:200].decode("ascii", "replace"))

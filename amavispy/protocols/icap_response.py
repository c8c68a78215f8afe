"""Icap response - reading what an ICAP server answers (RFC 3507 4.3 and 4.4), however it comes in.

A response is a status line, header fields, and the HTTP message that `Encapsulated` announces. Of that message only
one thing counts: whether its body is the very body that was sent. So it is compared as it comes in and not kept.

**Failures:** ScannerError for what is no ICAP response, or one without end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from amavispy.protocols.scanner_talk import Buffer, ScannerError, readable

_HEAD_LIMIT = 65_536
_STATUS = re.compile(rb"ICAP/1\.\d (\d{3}) ?(.*)")
_SECTION = re.compile(rb"(req-hdr|res-hdr|req-body|res-body|opt-body|null-body) *= *(\d{1,7})", re.I)
_CHUNK = re.compile(rb"([0-9a-fA-F]{1,8})\s*(?:;.*)?")
_HTTP_STATUS = re.compile(rb"HTTP/1\.\d (\d{3})")


@dataclass(slots=True)
class Response:
    """A response. `fields` are (lower-case name, value); a folded value keeps its lines, with LF between them.

    `is_same_body`: the encapsulated message is the one that was sent, as far as anybody can tell.
    """

    status: int
    reason: str
    fields: tuple[tuple[bytes, bytes], ...]
    is_same_body: bool = field(default=False)

    def field(self, name: bytes) -> bytes:
        """The first value of this name (lower case), b"" without one."""
        return next((value for key, value in self.fields if key == name), b"")

    def all(self, name: bytes) -> list[bytes]:
        return [value for key, value in self.fields if key == name]


class ResponseReader:
    """Reads one response after the other; `expect` tells which body would mean "unmodified"."""

    __slots__ = ("_at", "_body", "_chunk_left", "_input", "_response", "_state", "_to_skip")

    def __init__(self) -> None:
        self._input = bytearray()
        self._state = self._head
        self._response: Response | None = None
        self._body: Buffer = b""
        self._at = 0  # octets of the body that were compared
        self._to_skip = 0
        self._chunk_left = 0

    def expect(self, body: Buffer) -> None:
        self._body = body

    def receive(self, octets: bytes) -> list[Response]:
        """The responses that are complete now."""
        self._input += octets
        complete: list[Response] = []
        while self._state():
            if self._response and self._state == self._head:
                complete.append(self._response)
                self._response = None
        return complete

    # Each state takes what it can from the input, and says whether it came to its end and set the next one.

    def _head(self) -> bool:
        end = self._input.find(b"\r\n\r\n")
        if end < 0 or end > _HEAD_LIMIT:
            if len(self._input) > _HEAD_LIMIT:
                raise ScannerError("endless response header")
            return False
        head = bytes(self._input[:end])
        del self._input[: end + 4]
        self._response = _parsed(head)
        sections = {name.lower(): int(at) for name, at in _SECTION.findall(self._response.field(b"encapsulated"))}
        body_at = next((at for name, at in sections.items() if name.endswith(b"-body")), None)
        has_body = body_at is not None and b"null-body" not in sections
        self._to_skip, self._at = body_at or 0, 0
        if self._to_skip > _HEAD_LIMIT:
            raise ScannerError("endless encapsulated header")
        self._state = self._http_head if self._to_skip or has_body else self._head
        self._chunk_left = 0 if has_body else -1
        return True

    def _http_head(self) -> bool:
        """The encapsulated header: only its status counts, an error page is no clean sample."""
        if len(self._input) < self._to_skip:
            return False
        assert self._response
        match = _HTTP_STATUS.search(self._input, 0, self._to_skip)
        self._response.is_same_body = match is None or match[1] == b"200"
        del self._input[: self._to_skip]
        if self._chunk_left < 0:
            self._response.is_same_body = False
            self._state = self._head
        else:
            self._state = self._chunk_size
        return True

    def _chunk_size(self) -> bool:
        line = self._line()
        if line is None:
            return False
        match = _CHUNK.fullmatch(line)
        if not match:
            raise ScannerError(f"no chunk: {readable(line)}")
        self._chunk_left = int(match[1], 16)
        self._state = self._chunk_data if self._chunk_left else self._trailer
        return True

    def _chunk_data(self) -> bool:
        size = min(self._chunk_left, len(self._input))
        self._compare(size)
        del self._input[:size]
        self._chunk_left -= size
        if self._chunk_left:
            return False
        self._state = self._chunk_end
        return True

    def _chunk_end(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            raise ScannerError("a chunk longer than announced")
        self._state = self._chunk_size
        return True

    def _trailer(self) -> bool:
        line = self._line()
        if line is None:
            return False
        if line:
            return True
        assert self._response
        if self._at != len(self._body):
            self._response.is_same_body = False
        self._state = self._head
        return True

    def _compare(self, size: int) -> None:
        assert self._response
        with memoryview(self._input) as received, memoryview(self._body) as sent:
            if received[:size] != sent[self._at : self._at + size]:
                self._response.is_same_body = False
        self._at += size

    def _line(self) -> bytes | None:
        end = self._input.find(b"\n")
        if end < 0:
            if len(self._input) > _HEAD_LIMIT:
                raise ScannerError("endless line")
            return None
        line = bytes(self._input[:end]).removesuffix(b"\r")
        del self._input[: end + 1]
        return line


def _parsed(head: bytes) -> Response:
    first, *lines = head.split(b"\r\n")
    match = _STATUS.fullmatch(first)
    if not match:
        raise ScannerError(f"not an ICAP server: {readable(first)}")
    fields: list[tuple[bytes, bytes]] = []
    for line in lines:
        if line[:1] in (b" ", b"\t") and fields:
            name, value = fields[-1]
            fields[-1] = (name, value + b"\n" + line.strip())
        else:
            name, _, value = line.partition(b":")
            fields.append((name.strip().lower(), value.strip()))
    return Response(int(match[1]), readable(match[2]), tuple(fields))

"""Icap - asking an ICAP server (RFC 3507) for viruses, as a value: one sample after the other on one connection.

First the service is asked for its OPTIONS (4.10): its methods, how much it wants to see first (Preview, 4.5), whether
it can say 204 (4.6), its ISTag (4.7). Then each sample goes as the body of an HTTP response (RESPMOD) or request
(REQMOD) made up around it:

    preview, or all of it    ->    100 go on  |  204 unmodified: clean  |  200 with what it would put in its place

A service that has something against a sample says so in a header field (X-Infection-Found, X-Virus-ID,
X-Violations-Found), and answers with a page of its own. What comes back is compared: the same octets mean clean, others
mean that the service withholds the sample, whatever it calls it. When the ISTag changes, the OPTIONS are asked again.

**Failures:** as `scanner_talk` says; status 4xx and 5xx are an error of the sample, 204 or 200 to nothing, an answer
that is cut or too long cost the connection.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from amavispy.mail.verdict import Unchecked
from amavispy.protocols.icap_response import Response, ResponseReader
from amavispy.protocols.scanner_talk import UNKNOWN, Answer, Buffer, Sample, ScannerError, readable

_THREAT = re.compile(rb"threat=([^;]*)", re.I)
_TYPE = re.compile(rb"type=\s*(\d)", re.I)
_ENCRYPTED = re.compile(rb"encrypt|password", re.I)
_NUMBER = re.compile(rb"\d{1,9}")
_NAME_FIELDS = (b"x-virus-id", b"x-virus-name")
_VIOLATION_LINES = 4  # X-Violations-Found: a number, then four lines each: file, threat, number, what was done
_NAMES = 100
_PREVIEW_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class IcapService:
    """Whom to ask: `authority` as in a URI ("host:1344"), the service's name, RESPMOD or REQMOD."""

    authority: str
    name: str
    method: str = "RESPMOD"

    @property
    def uri(self) -> bytes:
        return f"icap://{self.authority}/{self.name}".encode()


class Options(NamedTuple):
    """What the service says of itself. `preview` is None when it wants none; `lifetime` in seconds, 0 when unsaid."""

    preview: int | None
    istag: bytes
    lifetime: int


class IcapSession:
    """Both directions of one connection."""

    __slots__ = ("_options", "_output", "_reader", "_rest", "_sample", "_service", "is_spent")

    def __init__(self, service: IcapService) -> None:
        self._service = service
        self._reader = ResponseReader()
        self._options: Options | None = None
        self._output: list[Buffer] = []
        self._sample: Sample | None = None
        self._rest: list[Buffer] = []  # what a 100 asks for
        self.is_spent = False

    @property
    def takes_more(self) -> bool:
        return self._sample is None and not self.is_spent

    @property
    def is_waiting(self) -> bool:
        return self._sample is not None

    @property
    def lifetime(self) -> int:
        """Seconds after which the OPTIONS are stale and the connection should be given up; 0 when unsaid."""
        return self._options.lifetime if self._options else 0

    def ask(self, sample: Sample) -> None:
        self._sample = sample
        if self._options is None:
            self._output.append(self._head(b"OPTIONS", b"") + b"Encapsulated: null-body=0\r\n\r\n")
            self._reader.expect(b"")
        else:
            self._send(sample, self._options)

    def take_output(self) -> list[Buffer]:
        output, self._output = self._output, []
        return output

    def receive(self, octets: bytes) -> list[Answer]:
        if not octets:
            raise ScannerError("the server closed the connection")
        answers: list[Answer] = []
        for response in self._reader.receive(octets):
            answers += self._on(response)
        return answers

    def _on(self, response: Response) -> list[Answer]:
        sample = self._sample
        if sample is None:
            raise ScannerError(f"unexpected response: {response.status}")
        if self._options is None:
            self._options = self._understood(response)
            self._send(sample, self._options)
            return []
        if response.status == 100 and self._rest:
            self._output += self._rest
            self._rest = []
            return []
        self._sample, self._rest = None, []
        self.is_spent = response.field(b"connection").lower() == b"close"
        if (istag := response.field(b"istag")) and istag != self._options.istag:
            self._options = None
        return answers_of(response, sample)

    def _understood(self, response: Response) -> Options:
        """The answer to OPTIONS (RFC 3507 4.10.2)."""
        if response.status != 200:
            raise ScannerError(f"OPTIONS: {response.status} {response.reason}")
        methods = response.field(b"methods").upper()
        if self._service.method.encode() not in methods:
            raise ScannerError(f"the service knows {readable(methods) or 'no method'}, not {self._service.method}")
        preview = response.field(b"preview")
        size = min(int(preview), _PREVIEW_LIMIT) if _NUMBER.fullmatch(preview) else None
        ttl = response.field(b"options-ttl")
        return Options(size, response.field(b"istag"), int(ttl) if _NUMBER.fullmatch(ttl) else 0)

    def _send(self, sample: Sample, options: Options) -> None:
        http, sections = self._http(sample)
        fields = sections
        size = len(sample.octets)
        body = memoryview(sample.octets)
        if options.preview is None:
            chunks, self._rest = [*_chunk(body), b"0\r\n\r\n"], []
        elif size <= options.preview:
            fields += b"Preview: %d\r\n" % options.preview
            chunks, self._rest = [*_chunk(body), b"0; ieof\r\n\r\n"], []
        else:
            fields += b"Preview: %d\r\n" % options.preview
            chunks = [*_chunk(body[: options.preview]), b"0\r\n\r\n"]
            self._rest = [*_chunk(body[options.preview :]), b"0\r\n\r\n"]
        self._output += [self._head(self._service.method.encode(), b"Allow: 204\r\n") + fields + b"\r\n", http, *chunks]
        self._reader.expect(sample.octets)

    def _http(self, sample: Sample) -> tuple[bytes, bytes]:
        """The HTTP message around a sample, and the Encapsulated field that tells its sections (4.4.1)."""
        path = b"/p%03d" % sample.number
        about = b"Content-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n" % len(sample.octets)
        if self._service.method == "REQMOD":
            request = b"POST %b HTTP/1.1\r\nHost: mail.invalid\r\n%b" % (path, about)
            return request, b"Encapsulated: req-hdr=0, req-body=%d\r\n" % len(request)
        request = b"GET %b HTTP/1.1\r\nHost: mail.invalid\r\n\r\n" % path
        response = b"HTTP/1.1 200 OK\r\n" + about
        sections = (len(request), len(request) + len(response))
        return request + response, b"Encapsulated: req-hdr=0, res-hdr=%d, res-body=%d\r\n" % sections

    def _head(self, method: bytes, more: bytes) -> bytes:
        host = self._service.authority.encode()
        return b"%b %b ICAP/1.0\r\nHost: %b\r\nUser-Agent: amavispy\r\n%b" % (method, self._service.uri, host, more)


def _chunk(octets: memoryview) -> list[Buffer]:
    """The octets as one chunk of a chunked body, nothing when there are none."""
    return [b"%x\r\n" % len(octets), octets, b"\r\n"] if len(octets) else []


def answers_of(response: Response, sample: Sample) -> list[Answer]:
    """What a response to a sample means."""
    number = sample.number
    if not 200 <= response.status < 300:
        return [Answer(number, error=f"{response.status} {response.reason}".strip())]
    if refused := _violation(response):
        return [Answer(number, unchecked=refused)]
    if names := _names(response):
        return [Answer(number, name=name) for name in names[:_NAMES]]
    if response.status == 204 or response.is_same_body:
        return [Answer(number)]
    return [Answer(number, name=UNKNOWN)]


def _names(response: Response) -> list[str]:
    found = [match[1] for value in response.all(b"x-infection-found") for match in _THREAT.finditer(value)]
    found += [value for field in _NAME_FIELDS for value in response.all(field)]
    for value in response.all(b"x-violations-found"):
        found += value.split(b"\n")[2::_VIOLATION_LINES]
    names = dict.fromkeys(readable(name) or UNKNOWN for name in found)
    is_told = any(response.all(field) for field in (b"x-infection-found", b"x-violations-found"))
    return list(names) or ([UNKNOWN] if is_told else [])


def _violation(response: Response) -> Unchecked | None:
    """A container the service could not look into (type 2 of X-Infection-Found): no virus, but unchecked."""
    values = response.all(b"x-infection-found")
    kinds = {match[1] for value in values if (match := _TYPE.search(value))}
    if kinds != {b"2"}:
        return None
    text = b", ".join(values)
    return Unchecked(1 if _ENCRYPTED.search(text) else 0, readable(text))

"""Ampdp - amavis' policy delegation protocol: octets become requests, an Outcome becomes the response.

A request is a block of `name=value` lines (amavis' server takes `name: value` and a bare LF as well) that an empty line
ends; octets that would disturb are %XX, both ways. amavisd-milter, amavisd-submit, amavisd-release and Postfix' policy
client speak it. docs/protocols/ampdp.md has the attributes, and where this differs from amavis and why.

In: octets, as they come; out: `Request`, and the pure readings of it (`envelope_of`, `mail_file_of`). In: an Outcome;
out: the octets of the response (`answer`, `failure`, `respond`). Paths are only looked at as text here; whoever opens
them must not follow links.

**Failures:** PeerError with a 450; it `closes` when the framing is lost or a limit is passed. A line that is no
attribute is not fatal: it is counted in the request.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from amavispy.mail.address import without_route
from amavispy.mail.disposition import HeaderEdits
from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.headers import HeaderField, Headers
from amavispy.mail.message import Message
from amavispy.mail.outcome import ExitCode, Outcome, RecipientOutcome
from amavispy.mail.reply import PeerError, Reply
from amavispy.protocols.xforward import normal_address

VERSION = "2"  # amavisd-milter refuses anything above
POLICY_DUNNO = b"action=DUNNO\n\n"  # what Postfix' policy client hears; it takes a CR for a part of the value

_UNSAFE = re.compile(rb"[^\x21-\x24\x26-\x7e]")
_CONTROLS = re.compile("[\x00-\x1f\x7f]")
_DIRECTORY = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9_.-]+)+")
_FILE = re.compile(r"/(?!\.{1,2}\Z)[A-Za-z0-9_.-]+")
_TAG_LEAST = 3  # a shorter tag may be part of somebody's subject, so it is never removed
_RETURN_VALUES = {ExitCode.TEMPFAIL: "tempfail", ExitCode.REJECT: "reject", ExitCode.DISCARD: "discard"}

Attributes = Iterable[tuple[str, Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold; octets, but for `attributes`."""

    line: int = 65_536
    request: int = 4 * 1_048_576
    attributes: int = 10_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request. A repeated attribute has several values, in order. `malformed`: how many lines were no attribute."""

    attributes: Mapping[str, tuple[str, ...]]
    malformed: int = 0

    def one(self, name: str, default: str = "") -> str:
        """The attribute's value, the last one when it is repeated, `default` when it is missing."""
        return self.attributes.get(name, (default,))[-1]

    def all(self, name: str) -> tuple[str, ...]:
        return self.attributes.get(name, ())


class RequestReader:
    """Cuts requests out of a stream. Reading on after an error is of no use."""

    __slots__ = ("_at", "_buffer", "_limits", "_lines", "_searched")

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._buffer = bytearray()
        self._lines: list[bytes] = []
        self._at = 0  # where the first line stands that is not in _lines yet
        self._searched = 0

    @property
    def is_empty(self) -> bool:
        """Nothing of a further request has been received."""
        return not self._buffer

    def state(self) -> bytes:
        """The octets that no request has used yet; another reader that receives them goes on from here."""
        return bytes(self._buffer)

    def receive(self, octets: bytes) -> None:
        self._buffer += octets

    def next_request(self) -> Request | None:
        """The next complete request, None when more octets are needed."""
        while (end := self._buffer.find(b"\n", self._searched)) >= 0:
            line = bytes(self._buffer[self._at : end]).removesuffix(b"\r")
            self._at = self._searched = end + 1
            if not line:
                return self._complete()
            self._lines.append(line)
            self._check(len(line))
        self._searched = len(self._buffer)
        self._check(self._searched - self._at)
        return None

    def _check(self, line: int) -> None:
        limits = self._limits
        if line > limits.line or self._at > limits.request or len(self._lines) > limits.attributes:
            raise PeerError(Reply(450, "4.5.0", "Failure: request too long"), closes=True)

    def _complete(self) -> Request:
        found: dict[str, list[str]] = {}
        malformed = 0
        for line in self._lines:
            if pair := _attribute(line):
                found.setdefault(pair[0], []).append(pair[1])
            else:
                malformed += 1
        del self._buffer[: self._at]
        self._lines, self._at, self._searched = [], 0, 0
        return Request({name: tuple(values) for name, values in found.items()}, malformed)


def _attribute(line: bytes) -> tuple[str, str] | None:
    name, equals, value = line.partition(b"=")
    if b":" in name:
        name, equals, value = line.partition(b":")
        value = value.lstrip(b" \t")
    return (_decoded(name), _decoded(value)) if equals and name else None


def _decoded(octets: bytes) -> str:
    if b"%" in octets:
        octets = unquote_to_bytes(octets)
    return octets.decode("utf-8", "surrogateescape")


# --- what a request tells


def envelope_of(request: Request) -> Envelope:
    """Envelope and original client. Control characters become "?"; an address that is none makes the client unknown."""
    sender = _path(request.one("sender"))
    recipients = tuple(Recipient(_path(text)) for text in request.all("recipient"))
    is_international = not all(path.isascii() for path in (sender, *(r.address for r in recipients)))
    return Envelope(sender, recipients, _client(request), smtputf8=is_international)


def _client(request: Request) -> Client:
    port, source = request.one("client_port"), request.one("client_source").upper()
    return Client(
        address=normal_address(request.one("client_address").strip("[]")),
        port=int(port) if port.isascii() and port.isdigit() and len(port) < 6 else None,
        name=_clean(request.one("client_name")),
        helo=_clean(request.one("helo_name")),
        protocol=_clean(request.one("protocol_name")),
        queue_id=_clean(request.one("queue_id")),
        source=source if source in ("LOCAL", "REMOTE") else "",
    )


def _path(text: str) -> str:
    text = _clean(text.strip())
    if text.startswith("<") and text.endswith(">"):
        text = text[1:-1]
    return without_route(text)


def _clean(text: str) -> str:
    return _CONTROLS.sub("?", text)


def mail_file_of(request: Request, allowed_roots: Iterable[str]) -> tuple[str, str]:
    """The client's work directory and the message file in it, both as absolute paths.

    The directory stands below one of the roots, every component of [A-Za-z0-9_.-], none of them a dot or two; the file
    (`<tempdir>/email.txt` unless named) stands directly in it. PeerError for anything else.
    """
    tempdir = request.one("tempdir")
    if not tempdir:
        raise PeerError(Reply(450, "4.5.0", "Incomplete request: no tempdir"))
    if not any(_is_below(tempdir, root.rstrip("/"), _DIRECTORY) for root in allowed_roots):
        raise PeerError(Reply(450, "4.5.0", f"Failure: Suspicious temporary directory name '{tempdir[:200]}'"))
    mail_file = request.one("mail_file") or f"{tempdir}/email.txt"
    if not _is_below(mail_file, tempdir, _FILE):
        raise PeerError(Reply(450, "4.5.0", f"Failure: Suspicious message file name '{mail_file[:200]}'"))
    return tempdir, mail_file


def _is_below(path: str, root: str, allowed: re.Pattern[str]) -> bool:
    return path.startswith(root) and bool(allowed.fullmatch(path, len(root)))


# --- responses


def respond(attributes: Attributes) -> bytes:
    """A response of these attributes; the fields of a value are encoded each and joined by one space."""
    lines = [f"{name}=".encode() + b" ".join(map(_encoded, fields)) + b"\r\n" for name, fields in attributes]
    return b"".join(lines) + b"\r\n"


def _encoded(field: str) -> bytes:
    return _UNSAFE.sub(lambda match: b"%%%02x" % match[0][0], field.encode("utf-8", "surrogateescape"))


def failure(reply: Reply) -> bytes:
    """The response to a request that could not be served."""
    code = ExitCode.REJECT if reply.is_reject else ExitCode.TEMPFAIL
    return respond([_setreply(reply), ("return_value", (_RETURN_VALUES[code],)), ("exit_code", (str(int(code)),))])


def answer(outcome: Outcome, log_id: str, message: Message) -> bytes:
    """The response to a content check, its attributes in amavis' order (chapter 3.3 of the specification).

    Recipients that were passed without a next hop are left to the client, all others it shall forget. There is one
    set of header edits a message: that of the first recipient left.
    """
    reply, code = outcome.single_reply(log_id)
    left = [r for r in outcome.recipients if _is_left(r)]
    if code is ExitCode.CONTINUE and not left:
        code = ExitCode.DISCARD
    body: list[tuple[str, Sequence[str]]] = []
    if code is ExitCode.CONTINUE:
        body += [("delrcpt", (f"<{r.disposition.recipient.address}>",)) for r in outcome.recipients if not _is_left(r)]
        body += _edits(message.content.headers, left[0].disposition.edits)
    return respond(
        [
            ("version_server", (VERSION,)),
            ("log_id", (log_id,)),
            _setreply(reply),
            *body,
            ("return_value", (_RETURN_VALUES.get(code, "continue"),)),
            ("exit_code", (str(int(code)),)),
        ]
    )


def _is_left(recipient: RecipientOutcome) -> bool:
    return recipient.is_passed and not recipient.next_hop


def _setreply(reply: Reply) -> tuple[str, Sequence[str]]:
    code, _, rest = str(reply).partition(" ")
    enhanced = reply.enhanced or f"{code[0]}.0.0"
    return "setreply", (code, enhanced, rest.removeprefix(f"{enhanced} "))


def _edits(headers: Headers, edits: HeaderEdits) -> list[tuple[str, Sequence[str]]]:
    """Deletions from the last occurrence to the first, so that no index shifts; then changes; then new fields.

    Every field is inserted at the top, so the topmost comes last.
    """
    lines: list[tuple[str, Sequence[str]]] = []
    for name in sorted({*edits.remove, *(name for name, _ in edits.remove_at)}):
        fields = enumerate(headers.all(name.encode("utf-8", "surrogateescape")), 1)
        gone = [(i, field) for i, field in fields if name in edits.remove or (name, i) in edits.remove_at]
        lines += [("delheader", (str(i), _name(field))) for i, field in reversed(gone)]
    if edits.subject_tag:
        lines += _subjects(headers.all(b"Subject"), edits.subject_tag)
    lines += [("insheader", ("0", name, value)) for name, value in reversed(edits.prepend)]
    return lines


def _subjects(fields: list[HeaderField], tag: str) -> list[tuple[str, Sequence[str]]]:
    """Every Subject is tagged, for nobody knows which one is shown; a missing one is added."""
    if not tag.isascii():  # RFC 2047 2
        tag = f"=?UTF-8?B?{b64encode(tag.strip().encode()).decode()}?= "
    if not fields:
        return [("addheader", ("Subject", tag.strip()))]
    return [("chgheader", (str(i), _name(f), _tagged(f, tag))) for i, f in enumerate(fields, 1)]


def _tagged(field: HeaderField, tag: str) -> str:
    """The field's text as it stands, folds as LF, behind the tag; earlier copies of the tag go."""
    body = field.octets.partition(b":")[2].rstrip(b"\r\n").replace(b"\r\n", b"\n")
    text = body.lstrip(b" \t").decode("utf-8", "surrogateescape")
    return tag + (text.replace(tag, "") if len(tag) >= _TAG_LEAST else text)


def _name(field: HeaderField) -> str:
    return field.name.decode("latin-1")

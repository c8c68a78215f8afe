"""Rspamd - rspamd's /checkv2 request and its answer as values: HTTP/1.1 and JSON, no I/O.

`request_head` goes before the mail, which is sent as it is; what the envelope says stands in the head, all recipients
included, as far as rspamd takes so much (80 KiB of head in all). `ResponseReader` eats what comes back until `response`
is there: score, tests, the action that rspamd would take, its text for the client and its header edits (`milter`,
`dkim-signature`).

Must not know of sockets or of what becomes of a mail.

**Failures:** RspamdError: an error status, JSON that is none, a score that is no number, an answer too long or cut
short.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from amavispy.mail.envelope import Envelope
from amavispy.mail.verdict import SpamAdvice
from amavispy.protocols.http_response import HttpError, HttpReader, readable

_BODY_LIMIT = 4_194_304
_RECIPIENTS_LIMIT = 61_440  # octets of head; rspamd 3.4 drops the connection at 80 KiB
_TESTS_LIMIT = 1000
_FIELDS_LIMIT = 64
_VALUE_LIMIT = 8192
_MESSAGE_LIMIT = 200
_CONTROLS = dict.fromkeys((*range(32), 127), "?")
_FIELD_NAME = re.compile(r"[!-9;-~]{1,76}")  # RFC 5322 3.6.8
_FOLD = re.compile(r"\r?\n[ \t]*")


class RspamdError(Exception):
    """rspamd could not or would not check the message."""


@dataclass(frozen=True, slots=True)
class Response:
    """`required_score` is that of rspamd's gravest action, None when it told none; `is_skipped`: it did not look."""

    score: float
    required_score: float | None
    tests: tuple[tuple[str, float], ...]
    advice: SpamAdvice
    is_skipped: bool = False
    is_reusable: bool = False


def request_head(length: int, envelope: Envelope, host: str, *, mta_name: str = "", password: str = "") -> bytes:
    """The request for a message of so many octets, which follow."""
    fields = [("Host", host), ("Content-Length", str(length)), ("User-Agent", "amavispy"), ("MTA-Name", mta_name)]
    fields += [("Password", password), *_client_fields(envelope), ("From", _path(envelope.sender))]
    text = "".join(f"{name}: {value.translate(_CONTROLS)}\r\n" for name, value in fields if value)
    head = ("POST /checkv2 HTTP/1.1\r\n" + text).encode("utf-8", "surrogateescape")
    return head + _recipients(envelope) + b"\r\n"


def _client_fields(envelope: Envelope) -> list[tuple[str, str]]:
    client = envelope.client
    return [
        ("IP", client.address or ""),
        ("Helo", client.helo),
        ("Hostname", client.name),
        ("User", client.login),
        ("Queue-Id", client.queue_id),
        ("Deliver-To", _path(envelope.recipients[0].address) if len(envelope.recipients) == 1 else ""),
    ]


def _recipients(envelope: Envelope) -> bytes:
    """A Rcpt field for each recipient, as many as rspamd takes."""
    octets = bytearray()
    for recipient in envelope.recipients:
        field = f"Rcpt: {_path(recipient.address)}\r\n".encode("utf-8", "surrogateescape")
        if len(octets) + len(field) > _RECIPIENTS_LIMIT:
            break
        octets += field
    return bytes(octets)


def _path(address: str) -> str:
    return f"<{address.translate(_CONTROLS)}>"


class ResponseReader:
    """Collects the response; `receive(b"")` tells it that rspamd has closed."""

    __slots__ = ("_http", "response")

    def __init__(self) -> None:
        self._http = HttpReader(_BODY_LIMIT)
        self.response: Response | None = None

    def receive(self, octets: bytes) -> None:
        try:
            self._http.receive(octets)
        except HttpError as error:
            raise RspamdError(str(error)) from error
        if (answer := self._http.response) is None:
            return
        if answer.status != 200:
            raise RspamdError(f"status {answer.status}: {answer.reason or readable(answer.body)}")
        self.response = replace(parsed(answer.body), is_reusable=answer.is_reusable)


def parsed(body: bytes) -> Response:
    """What the JSON of an answer says."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RspamdError(f"answer is no JSON: {readable(body)}") from error
    if not isinstance(answer, dict):
        raise RspamdError(f"answer is no object: {readable(body)}")
    score = _finite(answer.get("score"))
    if score is None:
        raise RspamdError(f"answer without a score: {readable(body)}")
    advice = SpamAdvice(_text(answer.get("action")), _message(answer), tuple(_added(answer)), tuple(_removed(answer)))
    required, is_skipped = _finite(answer.get("required_score")), answer.get("is_skipped") is True
    return Response(score, required, tuple(_tests(answer)), advice, is_skipped)


def _finite(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _message(answer: dict[str, Any]) -> str:
    text = _text(_object(answer.get("messages")).get("smtp_message"))
    return "".join(c if c.isprintable() else "?" for c in text[:_MESSAGE_LIMIT])


def _tests(answer: dict[str, Any]) -> Iterator[tuple[str, float]]:
    symbols = list(_object(answer.get("symbols")).items())
    for name, symbol in symbols[:_TESTS_LIMIT]:
        yield name[:100], _finite(_object(symbol).get("score")) or 0.0


def _added(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Header fields to be added: each name has a text, a text with a place, or several of them; the place is ours."""
    signatures = answer.get("dkim-signature")
    fields = [("DKIM-Signature", signatures), *_object(_milter(answer).get("add_headers")).items()]
    left = _FIELDS_LIMIT
    for name, values in fields:
        for item in values if isinstance(values, list) else [values]:
            value = _text(item) or _text(_object(item).get("value"))
            if value and left and _FIELD_NAME.fullmatch(name):
                left -= 1
                yield name, _FOLD.sub("\n ", value[:_VALUE_LIMIT].strip())


def _removed(answer: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Header fields to be removed: a name and 0 for all, or which one."""
    fields = list(_object(_milter(answer).get("remove_headers")).items())
    for name, places in fields[:_FIELDS_LIMIT]:
        for place in places if isinstance(places, list) else [places]:
            if isinstance(place, int) and not isinstance(place, bool) and _FIELD_NAME.fullmatch(name):
                yield name.lower(), place


def _milter(answer: dict[str, Any]) -> dict[str, Any]:
    return _object(answer.get("milter"))

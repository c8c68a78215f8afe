"""Spam input - what spam scanners get of a mail, and what their scores count for.

Besides the mail spamd and programs get the pseudo header fields that amavis gives its scanners (Return-Path,
X-Envelope-To, X-Amavis-PolicyBank, X-Amavis-MessageSize). A large mail is cut: of its header at most 64 KiB are sent,
of its body what sa_mail_body_size_limit or the scanner's own limit allows, unless cutting would save less than 5 KiB.
Rules look at the beginning of a mail, and the time they take grows with the rest.

Virus findings are not told, for the virus scanners work at the same time.

**Failures:** none.
"""

from __future__ import annotations

from amavispy.inspection.workload import Mail
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.policy.settings import ScannerSpec

HEADER_LIMIT = 64 * 1024
_WORTH_CUTTING = 5 * 1024
_RECIPIENTS_SHOWN = 100
_CONTROLS = dict.fromkeys((*range(32), 127), "?")

Tests = tuple[tuple[str, float], ...]


def length_for(content: Content, limit: int) -> int:
    """How many octets of the mail are sent when its body may have so many; 0 is no limit."""
    if not limit:
        return content.size
    most = min(content.body_start, HEADER_LIMIT) + limit
    return most if content.size >= most + _WORTH_CUTTING else content.size


def beginning(content: Content, length: int) -> bytes:
    """So many octets of the mail; nothing is copied when that is all of a small mail."""
    octets = content.octets
    return octets if isinstance(octets, bytes) and length == len(octets) else octets[:length]


def with_pseudo_header(mail: Mail, spec: ScannerSpec) -> list[bytes]:
    """The pseudo header and the mail, cut to size, ended by a line end: their readers read lines."""
    limit = mail.spam.body_limit if spec.mail_body_size_limit is None else spec.mail_body_size_limit
    length = length_for(mail.content, limit)
    text = beginning(mail.content, length)
    return [_pseudo_header(mail, length), text, b"" if text.endswith(b"\n") else b"\r\n"]


def _pseudo_header(mail: Mail, length: int) -> bytes:
    size = mail.content.size
    cut = f", TRUNCATED to {length}" if length < size else ""
    bank = f"X-Amavis-PolicyBank: {mail.spam.bank.translate(_CONTROLS)}\r\n" if mail.spam.bank else ""
    text = (
        f"Return-Path: {path(mail.envelope.sender)}\r\nX-Envelope-To: {_recipients(mail.envelope)}\r\n"
        f"{bank}X-Amavis-MessageSize: {size}{cut}\r\n"
    )
    return text.encode("utf-8", "surrogateescape")


def _recipients(envelope: Envelope) -> str:
    return ",\r\n\t".join([path(r.address) for r in envelope.recipients[:_RECIPIENTS_SHOWN]])


def path(address: str) -> str:
    """The address between brackets; what could end a line is replaced."""
    return f"<{address.translate(_CONTROLS)}>"


def weighed(score: float, tests: Tests, spec: ScannerSpec) -> tuple[float, Tests]:
    """The score and its tests, times the scanner's score_factor."""
    factor = spec.score_factor
    if factor == 1.0:
        return score, tests
    return score * factor, tuple((name, points * factor) for name, points in tests)

"""Workload - what the scanners get of a mail.

clamd gets the mail as it came in, in one piece, for it takes mails apart by itself. It knows a mail by its first line:
with 1.4.6, `DKIM-Signature:` on top makes it see a text and decode nothing. So a mail that does not begin with one of
the lines it is known to recognise gets a Received line in front, as the next relay would have put there. Decoded parts
go to it as well where its reading may differ from ours or ends before ours: what our own decoders unpacked, and every
part when one is ambiguous or undecipherable. How many there may be is the decoder's limit.

The others get the mail and every decoded part, packed and unpacked.

**Failures:** none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content, Octets
from amavispy.mail.verdict import Part

_MAIL_TO_CLAMD = (b"Received: ", b"Return-Path: ", b"Delivered-To: ", b"From: ", b"Subject: ")
_DOUBTFUL = frozenset("BU")

_RECEIVED = b"Received: by localhost\r\n"


class Scannable(NamedTuple):
    """Octets to scan. `descriptor`, when not None, is a file of exactly these; `top` is to stand in front of them.

    `number` is that of the part, 0 for the mail as it came in.
    """

    octets: Octets | memoryview
    descriptor: int | None = None
    top: bytes = b""
    number: int = 0

    @property
    def size(self) -> int:
        return len(self.top) + len(self.octets)


@dataclass(frozen=True, slots=True)
class SpamTask:
    """What spam scanners are told besides. `users`: one a recipient, "" for none, None: wants no spam check; () for
    nobody has any. `body_limit`: octets of the body that are looked at, 0 for all. `bank`: the policy banks' names.
    """

    users: tuple[str | None, ...] = ()
    body_limit: int = 400 * 1024
    bank: str = ""


ANY_SPAM_TASK = SpamTask()


@dataclass(frozen=True, slots=True)
class Mail:
    """What scanners are told of a mail."""

    content: Content
    parts: tuple[Part, ...]
    envelope: Envelope
    spam: SpamTask = ANY_SPAM_TASK


def everything(mail: Mail) -> list[Scannable]:
    """The mail and all its decoded parts."""
    return [Scannable(mail.content.octets, mail.content.descriptor), *_decoded(mail.parts)]


def what_clamd_needs(mail: Mail) -> list[Scannable]:
    """The mail as clamd recognises it, and those decoded parts that it may not find in it by itself."""
    content, parts = mail.content, mail.parts
    if not content.octets[:16].startswith(_MAIL_TO_CLAMD):
        whole = Scannable(content.octets, None, _RECEIVED)
    else:
        whole = Scannable(content.octets, content.descriptor)
    is_doubtful = any(part.attributes and _DOUBTFUL.intersection(part.attributes) for part in parts)
    return [whole, *_decoded(parts if is_doubtful else _unpacked_by_us(parts))]


def _unpacked_by_us(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts below anything but the containers of MIME. Parents stand before their children."""
    unpacked: set[int | None] = set()
    for part in parts:
        if part.parent in unpacked:
            yield part
        if part.parent in unpacked or not _is_mime_container(part):
            unpacked.add(part.number)


def _decoded(parts: Iterable[Part]) -> Iterator[Scannable]:
    return (Scannable(part.octets, number=part.number) for part in parts if part.octets)


def _is_mime_container(part: Part) -> bool:
    return part.octets is None and bool(part.types) and part.types[0].startswith(("multipart/", "message/"))

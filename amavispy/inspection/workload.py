"""Workload - what the scanners get of a mail.

clamd gets the mail as it came in, in one piece, for it takes mails apart by itself. It gets decoded parts as well where
it could not do so or where its reading may differ from ours: members that our own decoders found, and every leaf when
a part is ambiguous or undecipherable, or when the mail's first line is none of those by which clamd knows a mail
(measured with 1.4.6: with `DKIM-Signature:` on top it sees a text and decodes nothing). How many parts there may be is
the decoder's limit. YARA gets the mail and every decoded leaf.

**Failures:** none.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content, Octets
from amavispy.mail.verdict import Part

_MAIL_TO_CLAMD = (b"Received: ", b"Return-Path: ", b"Delivered-To: ", b"From: ", b"Subject: ")
_DOUBTFUL = frozenset("BU")

Scannable = tuple[Octets | memoryview, int | None]  # the octets, and a descriptor of exactly these


@dataclass(frozen=True, slots=True)
class Mail:
    """What scanners are told of a mail."""

    content: Content
    parts: tuple[Part, ...]
    envelope: Envelope


def everything(mail: Mail) -> list[Scannable]:
    """The mail and all its decoded leaves."""
    return [(mail.content.octets, mail.content.descriptor), *_leaves(mail.parts)]


def what_clamd_needs(mail: Mail) -> list[Scannable]:
    """The mail, and those decoded leaves that clamd may not find in it by itself."""
    is_doubtful = any(part.attributes and _DOUBTFUL.intersection(part.attributes) for part in mail.parts)
    if is_doubtful or not mail.content.octets[:16].startswith(_MAIL_TO_CLAMD):
        return everything(mail)
    return [(mail.content.octets, mail.content.descriptor), *_leaves(_unpacked_by_us(mail.parts))]


def _unpacked_by_us(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts below anything but the containers of MIME. Parents stand before their children."""
    unpacked: set[int | None] = set()
    for part in parts:
        if part.parent in unpacked:
            yield part
        if part.parent in unpacked or not _is_mime_container(part):
            unpacked.add(part.number)


def _leaves(parts: Iterable[Part]) -> Iterator[Scannable]:
    return ((part.octets, None) for part in parts if part.is_leaf and part.octets is not None)


def _is_mime_container(part: Part) -> bool:
    return part.octets is None and bool(part.types) and part.types[0].startswith(("multipart/", "message/"))

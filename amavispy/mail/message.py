"""Message - one mail on its way: envelope, octets, ids and where it came in.

The octets are the truth: lines end in CRLF, dots are unstuffed, and nothing is ever re-serialised. Small mail is
`bytes`, large mail an `mmap` of an unlinked spool file; both are buffers with `find`, and regular expressions match
on both.
"""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from amavispy.mail.envelope import Connection, Envelope
from amavispy.mail.headers import Headers, split_header

Octets = bytes | mmap.mmap


@dataclass(frozen=True)
class Content:
    """The octets of a mail. `descriptor`, when not None, is a readable file of exactly these octets."""

    octets: Octets
    descriptor: int | None = None

    @property
    def size(self) -> int:
        return len(self.octets)

    @cached_property
    def body_start(self) -> int:
        """Offset of the first body octet, behind the empty line; the size when there is no body."""
        return split_header(self.octets)[1]

    @cached_property
    def headers(self) -> Headers:
        return Headers.parse(self.octets)


@dataclass(frozen=True, slots=True)
class Ids:
    """`log_id` stands before every log line of the task; `mail_id` names the mail (its secret: `mail.ids`)."""

    log_id: str
    mail_id: str


@dataclass(frozen=True, slots=True)
class Message:
    """A mail as every floor sees it. `protocol` is what we received it by: ESMTP, ESMTPS, LMTP, AM.PDP, milter."""

    envelope: Envelope
    content: Content
    ids: Ids
    connection: Connection
    protocol: str
    received_at: datetime

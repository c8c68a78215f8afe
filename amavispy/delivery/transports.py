"""Transports - handing a mail to the next hop over SMTP or LMTP, and saying for each recipient what became of it.

In: where (next hops, tried until one answers), what (a Submission) and until when (a Deadline). Out: one Handover a
recipient.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amavispy.deadline import Deadline
from amavispy.mail.envelope import Client, Recipient
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply

if TYPE_CHECKING:
    from amavispy.policy.settings import Settings


@dataclass(frozen=True, slots=True)
class Submission:
    """A mail for the next hop, and the envelope it travels under there.

    `chunks`: the octets, lines ended by CRLF, dots not doubled. `body`, `ret`, `envid` as in Envelope. `splits`: whoever
    gave us the mail can be answered for each recipient (LMTP); otherwise it is delivered to all that are not refused for
    good, or to nobody.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    chunks: Sequence[bytes | memoryview | mmap.mmap]
    client: Client = field(default_factory=Client)
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    splits: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
    """What became of one recipient.

    `reply`: "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as X". `next_hop`: "smtp:[127.0.0.1]:10025",
    "" when none was reached. `queued_as`: the next hop's queue id, or its whole reply when it names none.
    """

    reply: Reply
    next_hop: str = ""
    queued_as: str = ""


class SmtpTransport:
    """Hands mail over by SMTP and LMTP. One for each worker: it owns the cached connections."""

    def __init__(self, *, bind_address: str = "", caches: bool = True) -> None:
        self._bind_address = bind_address
        self._caches = caches

    def send(
        self,
        next_hops: tuple[NextHop, ...],
        submission: Submission,
        settings: Settings,
        deadline: Deadline,
        log_id: str,
    ) -> tuple[Handover, ...]:
        """Deliver to the first of the next hops that answers; one Handover a recipient, in order."""
        text = f"From MTA() during fwd-connect (no transport): id={log_id}"
        return tuple(Handover(Reply(451, "4.5.0", text)) for _ in submission.recipients)

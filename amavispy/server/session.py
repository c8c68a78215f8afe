"""Session - what a worker does with a lent connection, whatever it speaks.

`Sessions.run` picks the dialogue for the loan's protocol; the dialogue runs until the connection is idle again (it
goes back to the gateway), or over. Everything a dialogue needs beyond its socket is in Services, made by wiring
before the fork.

Failures: a bug in processing is answered with 451 by the dialogue and then raised: the worker logs it and retires.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from amavispy.config.model import ServerSettings
from amavispy.deadline import Deadline
from amavispy.delivery.forward import Delivery
from amavispy.delivery.release import Release
from amavispy.journal import Journal
from amavispy.mail.disposition import Disposition
from amavispy.mail.envelope import Connection
from amavispy.mail.ids import IdIssuer
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome
from amavispy.mail.reply import Reply
from amavispy.pipeline import Pipeline
from amavispy.policy.bank import Banks, PolicyBank
from amavispy.protocols.smtp_server import SmtpProfile
from amavispy.server.loan import Loan
from amavispy.server.plan import Duty

SHUTTING_DOWN = Reply(421, "4.3.2", "Service shutting down, closing channel")
TIMED_OUT = Reply(421, "4.4.2", "Error: timeout exceeded, closing channel")


def work_deadline(child_timeout: float) -> Deadline:
    """When the work on a mail must end so that its client still hears why: a little before the worker's alarm."""
    return Deadline.after(child_timeout - min(4.0, child_timeout / 5))


@dataclass(frozen=True, slots=True)
class Services:
    """What dialogues work with. `forward_each` answers every recipient (LMTP), `forward_all` all at once (SMTP)."""

    server: ServerSettings
    banks: Banks
    pipeline: Pipeline
    forward_each: Delivery
    forward_all: Delivery
    hand_back: Delivery
    release: Release
    journal: Journal
    ids: IdIssuer
    profile: Callable[[PolicyBank, Connection], SmtpProfile]
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class LastingDelivery:
    """A Delivery after which nothing raises: the alarm is disarmed as soon as somebody else has the mail."""

    delivery: Delivery
    duty: Duty

    @property
    def can_split(self) -> bool:
        return self.delivery.can_split

    @property
    def adds_received(self) -> bool:
        return self.delivery.adds_received

    def deliver(self, message: Message, disposition: Disposition, bank: PolicyBank, deadline: Deadline) -> Outcome:
        outcome = self.delivery.deliver(message, disposition, bank, deadline)
        self.duty.end_message()
        return outcome


class Dialogue(Protocol):
    """One protocol's conversation over one lent connection."""

    def run(self) -> Loan | None: ...


DialogueFactory = Callable[[Services, Loan, socket.socket, Duty], Dialogue]


@dataclass(frozen=True, slots=True)
class Sessions:
    """The SessionRunner that the worker calls. `dialogues`: by the loan's protocol."""

    services: Services
    dialogues: dict[str, DialogueFactory]

    def run(self, loan: Loan, sock: socket.socket, duty: Duty) -> Loan | None:
        """Serve the connection until it is idle (the loan to give back) or over (None; the socket is closed then)."""
        return self.dialogues[loan.protocol](self.services, loan, sock, duty).run()

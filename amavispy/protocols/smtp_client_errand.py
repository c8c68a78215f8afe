"""SMTP client's errand - what a client session is asked to do, what it waits for meanwhile, and what comes of it.

Values only, and two rules that need no session: what may not be said to a server at all (`own_refusals`), and which
refusal means "send the rest later" (`is_too_many`).

Failures: none; these are values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, auto
from typing import NamedTuple

from amavispy.mail.envelope import Envelope
from amavispy.mail.reply import Reply
from amavispy.protocols.smtp_client_commands import Extensions, is_sayable

_TEXT_LIMIT = 1000  # characters of a server's reply that are passed on


class Want(Enum):
    """What the caller of a session is to do next.

    READ: send `take_output()` in one write (there may be none), then receive(); b"" is the end of the connection.
    HANDSHAKE: make the connection a TLS one, then tls_started().
    READY: begin(...) a mail, or take the `answers` to the last one.
    CONTENT: send the content and its final dot, then content_sent(); if sending fails, receive() what is there.
    FAILED: `failure` says during what and why; recipients without an answer have none.
    """

    READ = auto()
    HANDSHAKE = auto()
    READY = auto()
    CONTENT = auto()
    FAILED = auto()


class Step(IntEnum):
    """What a reply is expected to."""

    GREETING = auto()
    EHLO = auto()
    HELO = auto()
    STARTTLS = auto()
    RSET = auto()
    XFORWARD = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    CONTENT = auto()
    DOT = auto()


class Expected(NamedTuple):
    """A reply that is due; `recipient` is its number, for RCPT and for LMTP's final replies."""

    step: Step
    recipient: int = 0


@dataclass(frozen=True, slots=True)
class Stage:
    """A step as replies name it, also when pipelined, and the seconds it may take at most."""

    name: str
    pipelined_name: str
    seconds: float


STAGES: Mapping[Step, Stage] = {
    Step.GREETING: Stage("fwd-connect", "fwd-connect", 300.0),
    Step.EHLO: Stage("fwd-connect", "fwd-connect", 300.0),
    Step.HELO: Stage("fwd-connect", "fwd-connect", 300.0),
    Step.STARTTLS: Stage("fwd-connect", "fwd-connect", 300.0),
    Step.RSET: Stage("fwd-mail-from", "fwd-mail-pip", 20.0),
    Step.XFORWARD: Stage("fwd-xforward", "fwd-xforward", 300.0),
    Step.MAIL: Stage("fwd-mail-from", "fwd-mail-pip", 300.0),
    Step.RCPT: Stage("fwd-rcpt-to", "fwd-rcpt-pip", 300.0),
    Step.DATA: Stage("fwd-data-cmd", "fwd-data-cmd", 120.0),
    Step.CONTENT: Stage("fwd-data-contents", "fwd-data-contents", 180.0),
    Step.DOT: Stage("fwd-data-end", "fwd-data-end", 600.0),
}

# Enhanced codes (behind the class) for replies that bring none.
_DEFAULT_CODES: Mapping[Step, str] = {Step.MAIL: "1.0", Step.RCPT: "1.0", Step.DATA: "5.0"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one recipient's delivery came to. `said`: the server's own words; "" when the answer is this client's."""

    reply: Reply
    said: str = ""

    @classmethod
    def of(cls, reply: Reply, step: Step) -> Answer:
        """The server's reply, with an enhanced code in any case."""
        if reply.enhanced:
            return cls(reply, said(reply))
        default = "5.3" if reply.code == 452 and step is Step.RCPT else _DEFAULT_CODES.get(step, "6.0")
        return cls(Reply(reply.code, f"{reply.code // 100}.{default}", reply.text), said(reply))


@dataclass(frozen=True, slots=True)
class Failure:
    """The session came to nothing during `stage`; `text` says how. `is_broken`: by the server, not by our decision."""

    stage: str
    text: str
    is_broken: bool = True


@dataclass(frozen=True, slots=True)
class Errand:
    """One mail to deliver.

    `envelope.size`: the content's octets. `is_8bit`: it has octets above 127. `needs_all`: when a recipient is refused
    for now, nobody may get the mail. `with_dsn`: pass on RET, ENVID, NOTIFY and ORCPT.
    """

    envelope: Envelope
    is_8bit: bool = False
    needs_all: bool = False
    with_dsn: bool = True

    @property
    def is_utf8(self) -> bool:
        """The envelope needs SMTPUTF8 where the server has it (RFC 6531 3.4)."""
        envelope = self.envelope
        if envelope.smtputf8 or not envelope.sender.isascii():
            return True
        return not all(recipient.address.isascii() for recipient in envelope.recipients)


def own_refusals(errand: Errand, extensions: Extensions) -> list[Answer | None]:
    """For each recipient None, or the answer because of which nothing is said to the server."""
    sender = errand.envelope.sender
    takes_utf8 = "SMTPUTF8" in extensions
    refusal = None
    if errand.is_8bit and "8BITMIME" not in extensions:
        refusal = Answer(Reply(550, "5.6.3", "Conversion to 7BIT required but not supported"))
    elif not is_sayable(sender):
        refusal = Answer(Reply(553, "5.1.7", "Malformed sender address"))
    elif not (takes_utf8 or sender.isascii()):
        refusal = Answer(Reply(550, "5.6.7", "Non-ASCII addresses not permitted for sender"))
    if refusal:
        return [refusal] * len(errand.envelope.recipients)
    return [_refused_recipient(r.address, takes_utf8) for r in errand.envelope.recipients]


def _refused_recipient(address: str, takes_utf8: bool) -> Answer | None:
    if not is_sayable(address):
        return Answer(Reply(553, "5.1.3", "Malformed recipient address"))
    if not (takes_utf8 or address.isascii()):
        return Answer(Reply(553, "5.6.7", "Non-ASCII addresses not permitted for recipient"))
    return None


def is_too_many(reply: Reply) -> bool:
    """RFC 5321 4.5.3.1.10: those beyond the limit go in another transaction.

    Other reasons for a 452 (mailbox or disk full) belong to the recipient; asking again at once would not help.
    """
    return reply.code == 452 and reply.enhanced == "4.5.3"


def said(reply: Reply) -> str:
    """A server's reply as it is passed on: one line, cut at a length no honest server needs."""
    return str(reply).rstrip()[:_TEXT_LIMIT]

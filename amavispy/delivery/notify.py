"""Notify - telling the sender of a mail that some recipients do not get it, when nobody else will.

In: the Message, the Verdict and the Outcome of delivery. Out: the Outcome with `bounce` set for each recipient a bounce
was due for. Due are D_BOUNCE recipients, and refused ones (D_REJECT, the next hop's 5xx) whose refusal the client's
protocol cannot carry: one SMTP reply for many recipients is 250 as soon as one of them got the mail. One notification
lists all of them. Nothing is due while the client hears a 4xx: it comes again with the whole mail.

Suppressed (chapter 9.9): null senders, NOTIFY without FAILURE, what the decision suppressed (faked senders, high spam
scores, DISCARD rules), bulk mail. A refusal by the next hop of bulk mail is told like any MTA does, to its envelope
sender.

Failures: never raises, for the mail may already be delivered. A bounce that was due and could not be handed over makes
the recipient's reply a 451, so the client keeps the mail; where one reply stands for all and somebody got the mail
already, it is only logged.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from amavispy.deadline import Deadline
from amavispy.delivery.dsn import bounce
from amavispy.delivery.quarantine import Transport
from amavispy.delivery.transports import Submission
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Recipient
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, Verdict
from amavispy.policy.bank import PolicyBank
from amavispy.policy.bulk import bulk_sign
from amavispy.policy.reply_texts import reason
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.notify")


class Notifier:
    """Sends delivery status notifications by the bank's notify_method."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def notify(
        self, message: Message, verdict: Verdict, outcome: Outcome, bank: PolicyBank, deadline: Deadline
    ) -> Outcome:
        """The outcome, with bounces sent or suppressed. Never raises."""
        due = _due(message, outcome)
        if not due:
            return outcome
        bulk = bulk_sign(message)
        told = [r for r in due if not _suppression(message, r, bulk)]
        states = {id(r): replace(r, bounce="suppressed") for r in due}
        failure = ""
        if told:
            try:
                failure = self._send(message, verdict, told, bank.settings, deadline)
            except Exception as bug:  # the mail may be delivered already: a bug here must not make the client resend it
                _log.exception("DSN could not be made")
                failure = repr(bug)
        states |= _told(message, outcome, told, failure)
        return replace(outcome, recipients=tuple(states.get(id(r), r) for r in outcome.recipients))

    def _send(
        self,
        message: Message,
        verdict: Verdict,
        told: Sequence[RecipientOutcome],
        settings: Settings,
        deadline: Deadline,
    ) -> str:
        """Hand over one notification; "" or what went wrong."""
        sender = message.envelope.sender
        submission = Submission(
            settings.mailfrom_notify_sender,
            (Recipient(sender),),
            [bounce(message, verdict, told, settings.myhostname)],
            body="7BIT" if sender.isascii() else "8BITMIME",
            smtputf8=not sender.isascii(),
        )
        (handover,) = self._transport.send(
            settings.notify_method, submission, settings, deadline.share(), message.ids.log_id
        )
        for recipient in told:
            _log.log(
                15,
                "DSN: %s, <%s> -> <%s>: %s",
                reason(recipient.disposition.decisive),
                sender,
                recipient.disposition.recipient.address,
                handover.reply,
            )
        return "" if handover.reply.is_success else str(handover.reply)


def _due(message: Message, outcome: Outcome) -> list[RecipientOutcome]:
    """The recipients whose fate nobody would tell the sender. They are few; most mails return here at once."""
    refused = [
        r for r in outcome.recipients if r.disposition.destiny in (Destiny.BOUNCE, Destiny.REJECT) and r.reply.is_reject
    ]
    if not refused:
        return []
    if _answers_each(message):
        return [r for r in refused if r.disposition.destiny is Destiny.BOUNCE]
    reply, _ = outcome.single_reply(message.ids.log_id)
    return refused if reply.is_success else []


def _answers_each(message: Message) -> bool:
    """LMTP carries a reply for each recipient (RFC 2033 4.2)."""
    return "LMTP" in message.protocol


def _suppression(message: Message, recipient: RecipientOutcome, bulk: str) -> str:
    """Why the sender is not told about this recipient, "" when he is. `bulk`: the sign of bulk mail, if any."""
    disposition = recipient.disposition
    notify = disposition.recipient.notify
    if not message.envelope.sender:
        why = "null sender"
    elif notify and "FAILURE" not in notify:
        why = f"NOTIFY={','.join(sorted(notify))}"  # RFC 3461 5.2.3
    elif disposition.suppresses_bounce:
        why = disposition.suppresses_bounce
    else:
        why = "" if disposition.decisive.major is Category.MTA else bulk
    if why:
        _log.log(15, "DSN: suppressed, %s, <%s>", why, disposition.recipient.address)
    return why


def _told(
    message: Message, outcome: Outcome, told: Sequence[RecipientOutcome], failure: str
) -> dict[int, RecipientOutcome]:
    """The recipients after their bounce was sent or, with `failure`, was not; by id() of what they were."""
    if not failure:
        return {id(r): replace(r, bounce="sent") for r in told}
    _log.error("DSN to <%s> FAILED: %s", message.envelope.sender, failure)
    if any(r.is_passed for r in outcome.recipients) and not _answers_each(message):
        return {id(r): replace(r, bounce="failed") for r in told}  # a 451 would deliver twice to those who have it
    reply = Reply(451, "4.5.0", f"Error in processing, id={message.ids.log_id}, notify FAILED: {failure}")
    return {id(r): _kept_by_client(r, reply) for r in told}


def _kept_by_client(recipient: RecipientOutcome, reply: Reply) -> RecipientOutcome:
    disposition = replace(recipient.disposition, destiny=Destiny.TEMPFAIL, reply=reply)
    return replace(recipient, disposition=disposition, reply=reply, bounce="failed")

"""Forward - carrying a disposition out: sending the mail on, or handing it back to the client.

In: a Message and what was decided for each recipient. Out: an Outcome in the envelope's order. Recipients with the same
next hops and the same header edits get the mail together. What a refusal of the next hop means is `policy.decide`'s.

**Failures:** none of its own; a worker's alarm (TimeoutError) passes through before anything was handed over.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from amavispy.deadline import Deadline
from amavispy.delivery.edits import apply
from amavispy.delivery.received import HOPS_LIMIT, count_hops, received_value
from amavispy.delivery.transports import Handover, SmtpTransport, Submission, resolved
from amavispy.mail.disposition import Disposition, HeaderEdits, RecipientDisposition
from amavispy.mail.message import Message
from amavispy.mail.next_hop import NextHop
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.policy.bank import PolicyBank
from amavispy.policy.decide import after_forwarding

_LOG = logging.getLogger("amavispy.delivery")


class Delivery(Protocol):
    """What becomes of a mail after the decision. `can_split`: recipients may get different headers or next hops.

    `adds_received`: the mail leaves with a Received field of ours.
    """

    @property
    def can_split(self) -> bool: ...

    @property
    def adds_received(self) -> bool: ...

    def deliver(self, message: Message, disposition: Disposition, bank: PolicyBank, deadline: Deadline) -> Outcome:
        """Carry the disposition out. After a 2xx of the next hop nothing may raise any more."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Recipients that get the mail together: their places in the envelope."""

    next_hops: tuple[NextHop, ...]
    edits: HeaderEdits
    places: list[int]


@dataclass(frozen=True, slots=True)
class Forward:
    """Sends mail on by SMTP or LMTP. `splits`: the client can be answered for each recipient (it speaks LMTP)."""

    transport: SmtpTransport
    splits: bool = False
    can_split: bool = True
    adds_received: bool = True

    def deliver(self, message: Message, disposition: Disposition, bank: PolicyBank, deadline: Deadline) -> Outcome:
        """Send the mail to every recipient that was passed; blocked ones keep their reply."""
        fates = disposition.recipients
        handovers: dict[int, Handover] = {}
        gives_up = not self.splits and any(fate.reply and fate.reply.is_tempfail for fate in fates)
        for group in _groups(fates):
            if gives_up:
                sent = _to_all(group, 451, "4.5.0", "Giving up due to previous temporary failures", message)
            else:
                sent = self._send(group, message, bank, deadline)
            handovers.update(zip(group.places, sent, strict=True))
            gives_up = gives_up or (not self.splits and any(handover.reply.is_tempfail for handover in sent))
        _log_failures(message, handovers.values())
        return Outcome(tuple(_outcome(fate, handovers.get(i), message) for i, fate in enumerate(fates)))

    def _send(self, group: _Group, message: Message, bank: PolicyBank, deadline: Deadline) -> tuple[Handover, ...]:
        if not group.next_hops:
            return _to_all(group, 451, "4.5.0", "No next hop (forward_method) to deliver to", message)
        if (hops := count_hops(message.content)) > HOPS_LIMIT:
            text = f"Reject: Too many hops: {hops} 'Received:' header fields"
            return _to_all(group, 554, "5.4.6", text, message)
        next_hops = resolved(group.next_hops, message.connection)
        submission = self._submission(group, message, bank)
        return self.transport.send(next_hops, submission, bank.settings, deadline, message.ids.log_id)

    def _submission(self, group: _Group, message: Message, bank: PolicyBank) -> Submission:
        envelope = message.envelope
        recipients = tuple(envelope.recipients[i] for i in group.places)
        received = received_value(message, bank.settings, [recipient.address for recipient in recipients])
        return Submission(
            sender=envelope.sender,
            recipients=recipients,
            chunks=apply(message.content, group.edits, (("Received", received),)),
            client=envelope.client,
            body=envelope.body,
            smtputf8=envelope.smtputf8,
            ret=envelope.ret,
            envid=envelope.envid,
            splits=self.splits,
        )


@dataclass(frozen=True, slots=True)
class HandBack:
    """Delivers nothing: the client (AM.PDP, milter) is told to go on, and reads the edits from the outcome."""

    can_split: bool = False
    adds_received: bool = False

    def deliver(self, message: Message, disposition: Disposition, bank: PolicyBank, deadline: Deadline) -> Outcome:
        """An outcome for every recipient, without any waiting."""
        del bank, deadline
        passed = Reply(250, "2.5.0", f"Ok, id={message.ids.log_id}, continue delivery")
        return Outcome(tuple(RecipientOutcome(fate, fate.reply or passed) for fate in disposition.recipients))


def _groups(fates: tuple[RecipientDisposition, ...]) -> Iterator[_Group]:
    """The passed recipients, by next hops and edits, in the order of their first ones."""
    groups: dict[tuple[tuple[NextHop, ...], HeaderEdits], _Group] = {}
    for place, fate in enumerate(fates):
        if fate.reply is None:
            key = (fate.next_hops, fate.edits)
            groups.setdefault(key, _Group(*key, [])).places.append(place)
    yield from groups.values()


def _to_all(group: _Group, code: int, enhanced: str, text: str, message: Message) -> tuple[Handover, ...]:
    handover = Handover(Reply(code, enhanced, f"{text}, id={message.ids.log_id}"))
    return (handover,) * len(group.places)


def _outcome(fate: RecipientDisposition, handover: Handover | None, message: Message) -> RecipientOutcome:
    if handover is None:
        assert fate.reply is not None, "a recipient that was not blocked has been sent to"
        return RecipientOutcome(fate, fate.reply)
    final, reply = after_forwarding(fate, handover.reply, message.ids.log_id)
    return RecipientOutcome(final, reply, handover.next_hop, handover.queued_as)


def _log_failures(message: Message, handovers: Iterable[Handover]) -> None:
    """Each reply once, however many recipients have it."""
    for reply in {handover.reply for handover in handovers if not handover.reply.is_success}:
        _LOG.warning("%s FWD failed, %s", message.ids.mail_id, reply)

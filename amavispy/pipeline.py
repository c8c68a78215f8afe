"""Pipeline - the way of one message, on one screen.

    Inspector.inspect  -> Verdict        what is it? (a virus' name may load a policy bank)
    policy.decide      -> Disposition    what shall be done, for each recipient?
    Quarantine.keep                      a durable copy before anything is given up
    Delivery.deliver   -> Outcome        forward it, or hand it back to the client
    Notifier.notify    -> Outcome        bounces; may fail, may not raise
    Journal.record                       may fail, may not raise

All front ends share it; they bring their own Delivery. Bodies and sockets are nobody's business here.

Failures: TemporaryFailure carries the 451 the client hears, TimeoutError means the same; both only before hand-over.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from amavispy.deadline import Deadline
from amavispy.delivery.forward import Delivery
from amavispy.delivery.notify import Notifier
from amavispy.delivery.quarantine import Quarantine
from amavispy.inspection.inspector import Inspector
from amavispy.journal import Journal, Timings
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome
from amavispy.policy.bank import Banks, PolicyBank
from amavispy.policy.decide import decide
from amavispy.policy.directory import Directory
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.virus_names import banks_of


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The steps, made once before the workers are forked."""

    inspector: Inspector
    quarantine: Quarantine
    notifier: Notifier
    journal: Journal
    banks: Banks
    directory: Directory | None = None

    def process(
        self, message: Message, bank: PolicyBank, delivery: Delivery, deadline: Deadline, timings: Timings
    ) -> Outcome:
        """Take one message all the way. The client may hear 250 only after this has returned."""
        self.journal.begin(message, bank)
        recipients = recipient_policies(message.envelope, bank.settings, message.content, self.directory)
        verdict = self.inspector.inspect(message, bank, recipients, deadline, timings.mark)
        if banks := banks_of(verdict.virus_names, bank.settings.virus_name_to_policy_bank_maps):
            bank = self.banks.for_names(bank, banks)
            recipients = recipient_policies(message.envelope, bank.settings, message.content, self.directory)
        disposition = decide(
            message, verdict, bank, recipients, can_split=delivery.can_split, adds_received=delivery.adds_received
        )
        kept = self.quarantine.keep(message, disposition, bank, deadline)
        timings.mark("quarantine")
        outcome = replace(delivery.deliver(message, disposition, bank, deadline), quarantine=kept)
        timings.mark("deliver")
        outcome = self.notifier.notify(message, verdict, outcome, bank, deadline)
        self.journal.record(message, bank, verdict, outcome, timings)
        return outcome

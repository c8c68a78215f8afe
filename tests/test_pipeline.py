"""The way of one message: what is done in which order, and what a virus's name changes on the way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from amavispy.deadline import Deadline
from amavispy.mail.disposition import Destiny
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Verdict, VirusScan
from amavispy.pipeline import Pipeline
from amavispy.policy.bank import Banks, NamedBank
from amavispy.policy.lookup import AccessList, LookupList, RegexpList
from tests import making


class Steps:
    """Everything behind the pipeline; `taken` are the steps with the names of the banks they were given."""

    can_split = True
    adds_received = True

    def __init__(self, *names: str) -> None:
        scan = VirusScan("one", names, is_infected=bool(names))
        self.verdict = Verdict(virus_scans=(scan,), banned=(None,))
        self.taken: list[tuple[str, str]] = []
        self.fate: Any = None

    def begin(self, message: Any, bank: Any, *_: Any) -> None:
        self.taken.append(("begin", bank.name))

    def inspect(self, message: Any, bank: Any, recipients: Any, deadline: Any, mark: Any) -> Verdict:
        self.taken.append(("inspect", bank.name))
        return self.verdict

    def keep(self, message: Any, disposition: Any, bank: Any, *_: Any) -> tuple[str, ...]:
        self.taken.append(("keep", bank.name))
        return ()

    def deliver(self, message: Any, disposition: Any, bank: Any, deadline: Any) -> Outcome:
        self.taken.append(("deliver", bank.name))
        self.fate = disposition.recipients[0]
        return Outcome((RecipientOutcome(self.fate, Reply(250, "2.0.0", "Ok"), "", ""),))

    def notify(self, message: Any, verdict: Any, outcome: Outcome, bank: Any, deadline: Any) -> Outcome:
        self.taken.append(("notify", bank.name))
        return outcome

    def record(self, message: Any, bank: Any, verdict: Any, outcome: Any, timings: Any) -> None:
        self.taken.append(("record", bank.name))


def process(steps: Steps) -> None:
    maps = LookupList.of((RegexpList((("^Worm", "VIRUS,UNKNOWN"), ("^Joke", "LENIENT"))),))
    base = making.bank(final_virus_destiny=Destiny.DISCARD, virus_name_to_policy_bank_maps=maps).settings
    named = {
        "VIRUS": NamedBank("VIRUS", {"final_virus_destiny": Destiny.REJECT}),
        "LENIENT": NamedBank("LENIENT", {"virus_lovers_maps": LookupList.of((AccessList((".",)),))}),
    }
    banks = Banks(base, named)
    whole: Any = steps
    timings: Any = SimpleNamespace(mark=lambda step: None)
    Pipeline(whole, whole, whole, whole, banks).process(
        making.message(), banks.base, whole, Deadline.after(60), timings
    )


def test_a_clean_mail_keeps_its_bank() -> None:
    steps = Steps()
    process(steps)
    assert steps.taken == [(s, "") for s in ("begin", "inspect", "keep", "deliver", "notify", "record")]
    assert steps.fate.destiny is Destiny.PASS


def test_a_virus_loads_the_banks_of_its_name_before_it_is_decided_what_follows() -> None:
    steps = Steps("Worm.A")
    process(steps)
    before, after = (
        [(s, "") for s in ("begin", "inspect")],
        [(s, "VIRUS") for s in ("keep", "deliver", "notify", "record")],
    )
    assert steps.taken == before + after
    assert steps.fate.destiny is Destiny.REJECT


def test_the_recipients_are_asked_again_by_the_new_bank() -> None:
    steps = Steps("Joke.A")
    process(steps)
    assert steps.fate.destiny is Destiny.PASS


def test_a_name_without_a_bank_changes_nothing() -> None:
    steps = Steps("Other.A")
    process(steps)
    assert ("keep", "") in steps.taken
    assert steps.fate.destiny is Destiny.DISCARD

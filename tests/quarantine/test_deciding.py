"""Which copies are wanted for whom: quarantine by category, archives of everything, and what the log says of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from amavispy.journal.entry import entries
from amavispy.mail.disposition import Destiny, QuarantineTarget
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.verdict import SpamScan, Verdict, VirusScan
from amavispy.policy.decide import decide
from amavispy.policy.lookup import AccessList, LookupList
from amavispy.policy.recipient import recipient_policies
from tests.making import bank, constant, decided, message, outcome, passed

INFECTED = Verdict(virus_scans=(VirusScan("ClamAV", ("Eicar",), True),))
SPAM = Verdict(spam_scans=(SpamScan("sa", 20.0),))
ARCHIVE = {"archive_quarantine_method": "sql:"}


def targets(verdict: Verdict, **settings: Any) -> tuple[QuarantineTarget, ...]:
    (fate,) = decided(verdict, in_bank=bank(**settings)).recipients
    return fate.quarantine


def test_clean_mail_is_kept_only_when_that_is_wanted() -> None:
    assert targets(Verdict()) == ()
    assert targets(Verdict(), clean_quarantine_method="local:c-%m") == (
        QuarantineTarget("local:c-%m", "clean-quarantine"),
    )


def test_an_archive_has_everything_beside_the_quarantine() -> None:
    archive = QuarantineTarget("sql:", "archive-quarantine", True)
    assert targets(Verdict(), **ARCHIVE) == (archive,)
    assert targets(INFECTED, **ARCHIVE) == (QuarantineTarget("local:virus-%m", "virus-quarantine"), archive)


def test_an_archive_is_for_those_it_is_wanted_for() -> None:
    only_c = LookupList.of((AccessList(("c@example.net",)),))
    mail = message(b"\r\n", "b@example.net", "c@example.net")
    wanted = bank(archive_quarantine_method="smtp:[::1]:25", archive_quarantine_to_maps=constant("%a"))
    kept = [fate.quarantine for fate in decided(Verdict(), mail, wanted).recipients]
    assert kept == [(QuarantineTarget("smtp:[::1]:25", a, True),) for a in ("b@example.net", "c@example.net")]
    nobody = bank(archive_quarantine_method="sql:", archive_quarantine_to_maps=only_c)
    assert [fate.quarantine for fate in decided(Verdict(), mail, nobody).recipients] == [(), ()]


def test_an_archive_is_no_quarantine_that_a_header_would_tell_of() -> None:
    def names(**settings: Any) -> list[str]:
        (fate,) = decided(Verdict(), in_bank=bank(**settings)).recipients
        return [name for name, _ in fate.edits.prepend]

    assert "X-Quarantine-ID" not in names(**ARCHIVE)
    assert "X-Quarantine-ID" in names(clean_quarantine_method="local:%m")


def test_spam_beyond_the_cutoff_is_archived_all_the_same() -> None:
    cutoff = {"spam_quarantine_cutoff_level_maps": constant(15.0)}
    assert [target.is_archive for target in targets(SPAM, **cutoff, **ARCHIVE)] == [True]


def test_a_mail_that_the_client_keeps_is_kept_nowhere_else() -> None:
    assert targets(INFECTED, final_virus_destiny=Destiny.TEMPFAIL, **ARCHIVE) == ()


def test_bsmtp_is_for_the_mails_own_recipients() -> None:
    assert targets(INFECTED, virus_quarantine_method="bsmtp:%m") == (QuarantineTarget("bsmtp:%m", "b@example.net"),)


def test_black_and_white_senders_are_noted_for_the_records() -> None:
    def listed(**settings: Any) -> str:
        mail, in_bank = message(), bank(**settings)
        policies = recipient_policies(mail.envelope, in_bank.settings, mail.content)
        decision = decide(mail, Verdict(), in_bank, policies, can_split=True, adds_received=True)
        return decision.recipients[0].sender_listed

    assert listed() == ""
    assert listed(whitelist_sender_maps=constant(True)) == "W"
    assert listed(blacklist_sender_maps=constant(True)) == "B"


@pytest.mark.parametrize(
    ("copies", "actions", "places"),
    [
        ((), "RelayedInbound", ""),
        ((KeptCopy("F", "x"),), "RelayedInbound,Quarantined", ", quarantine: x"),
        ((KeptCopy("M", "a@b", True),), "RelayedInbound,Archived", ", quarantine: a@b"),
        (
            (KeptCopy("F", "x"), KeptCopy("Q", "y[47]", True)),
            "RelayedInbound,Quarantined,Archived",
            ", quarantine: x,y[47]",
        ),
    ],
)
def test_the_log_tells_quarantined_from_archived(copies: tuple[KeptCopy, ...], actions: str, places: str) -> None:
    told = replace(outcome(passed()), quarantine=copies)
    (line,) = entries(message(), bank(), Verdict(), told, 1)
    assert f"{{{actions}}}" in line
    assert f"-> <b@example.net>{places}, Queue-ID" in line

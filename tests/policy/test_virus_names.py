"""What a virus's name decides: spam instead of a virus, policy banks, and whose notification is suppressed."""

from __future__ import annotations

import pytest

from amavispy.mail.reply import TemporaryFailure
from amavispy.mail.verdict import Category, OnFailure, SpamScan, Unchecked, Verdict, VirusScan
from amavispy.policy.lookup import AccessList, Hash, LookupList, RegexpList
from amavispy.policy.virus_name_defaults import DEFAULT_VIRUS_NAME_TO_SPAM_SCORE
from amavispy.policy.virus_names import as_spam, banks_of
from tests.making import bank, decided

SCORES = LookupList.of(
    (RegexpList((("^Phish", 2.5), ("^Sane.Malware", False), ("^Sane", 0.0))), Hash({"W32/Hoax@mm": 1}))
)


def infected(*names: str, scanner: str = "one") -> VirusScan:
    return VirusScan(scanner, names, is_infected=True, parts=(1,))


# --- spam


def test_names_that_all_have_a_score_are_spam_of_the_highest_and_the_scanner_is_clean() -> None:
    scans, spam = as_spam((infected("Phish.A", "Sane.Junk"),), SCORES)
    assert scans == (VirusScan("one"),)
    assert spam == (SpamScan("AV", 2.5, (("AV:Phish.A", 2.5), ("AV:Sane.Junk", 0.0))),)


@pytest.mark.parametrize(
    "names", [("Worm.A",), ("Phish.A", "Worm.A"), ("Sane.Malware.X",), ("Phish.A", "Sane.Malware")]
)
def test_one_name_without_a_score_is_a_virus(names: tuple[str, ...]) -> None:
    assert as_spam((infected(*names),), SCORES) == ((infected(*names),), ())


def test_each_scanner_is_judged_by_itself() -> None:
    scans, spam = as_spam((infected("Phish.A"), infected("Worm.A", scanner="two"), VirusScan("three")), SCORES)
    assert [scan.is_infected for scan in scans] == [False, True, False]
    assert spam == (SpamScan("AV", 2.5, (("AV:Phish.A", 2.5),)),)


def test_a_name_that_two_scanners_report_counts_once() -> None:
    _, spam = as_spam((infected("Phish.A"), infected("Phish.A", "W32/Hoax@mm", scanner="two")), SCORES)
    assert spam == (SpamScan("AV", 3.5, (("AV:Phish.A", 2.5), ("AV:W32/Hoax@mm", 1.0))),)


def test_failures_stay_failures() -> None:
    failed = VirusScan("two", error="gone")
    assert as_spam((infected("Phish.A"), failed), SCORES)[0][1] is failed


@pytest.mark.parametrize("scores", [SCORES, LookupList()])
def test_without_findings_or_scores_nothing_changes(scores: LookupList) -> None:
    clean = (VirusScan("one"),)
    assert as_spam(clean, scores) == (clean, ())
    assert as_spam((infected("Phish.A"),), LookupList()) == ((infected("Phish.A"),), ())


@pytest.mark.parametrize(
    ("name", "is_spam"),
    [
        ("Heuristics.Phishing.Email.SpoofedDomain", True),
        ("Phishing.Email-1", True),
        ("Email.Phishing.RB-1", True),
        ("Sanesecurity.Junk.5000.UNOFFICIAL", True),
        ("Sanesecurity.Malware.1234.UNOFFICIAL", False),
        ("Sanesecurity.Foxhole.Zip_exe", False),
        ("Eicar-Signature.UNOFFICIAL", False),
        ("Win.Worm.Phishing-1", False),
        ("Heuristics.Macro.RunsProgram", False),  # our own heuristics are findings
    ],
)
def test_by_default_phishing_counts_a_little_and_malware_is_malware(name: str, is_spam: bool) -> None:
    scans, spam = as_spam((infected(name),), DEFAULT_VIRUS_NAME_TO_SPAM_SCORE)
    assert scans[0].is_infected is not is_spam
    assert [scan.score for scan in spam] == ([0.1] if is_spam else [])


# --- policy banks


@pytest.mark.parametrize(
    ("tables", "names", "expected"),
    [
        ((), ("A",), ()),
        (
            (RegexpList((("^Worm", " QUIET, STRICT,"), ("^Phish", True))),),
            ("Phish.A", "Worm.A"),
            ("VIRUS", "QUIET", "STRICT"),
        ),
        ((RegexpList((("^Worm", False), (".", "ANY"))),), ("Worm.A",), ()),
        ((Hash({"Worm.A": "QUIET"}),), ("Worm.A", "Worm.A"), ("QUIET",)),
        ((AccessList((".",)),), ("anything",), ("VIRUS",)),
        ((RegexpList(((".", "1"),)),), ("anything",), ("VIRUS",)),
    ],
)
def test_names_lead_to_banks(tables: tuple, names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert banks_of(names, LookupList.of(tables)) == expected


# --- what the decision makes of it


def test_a_virus_whose_name_does_not_fake_its_sender_is_bounced() -> None:
    maps = LookupList.of((RegexpList((("EICAR", False), (".", True))),))
    in_bank = bank(viruses_that_fake_sender_maps=maps)
    told = decided(Verdict(virus_scans=(infected("Eicar-Test"),)), in_bank=in_bank).recipients[0]
    faked = decided(Verdict(virus_scans=(infected("Eicar-Test", "Worm.A"),)), in_bank=in_bank).recipients[0]
    assert (told.suppresses_bounce, faked.suppresses_bounce) == ("", "INFECTED")


FAILED = VirusScan("one", error="gone")


def test_a_failure_that_a_backup_covers_matters_to_nobody() -> None:
    for on_failure in OnFailure:
        covered = VirusScan("one", error="gone", on_failure=on_failure, is_covered=True)
        fate = decided(Verdict(virus_scans=(covered, VirusScan("spare")))).recipients[0]
        assert [category.major for category in fate.categories] == [Category.CLEAN]


def test_one_failure_among_several_and_the_failure_of_all_are_told_apart() -> None:
    with pytest.raises(TemporaryFailure, match="A VIRUS SCANNER FAILED"):
        decided(Verdict(virus_scans=(FAILED, VirusScan("two"))))
    with pytest.raises(TemporaryFailure, match="ALL VIRUS SCANNERS FAILED"):
        decided(Verdict(virus_scans=(FAILED, VirusScan("two", error="gone too"))))


def test_a_finding_that_became_spam_hides_no_failure() -> None:
    scans, spam = as_spam((infected("Phish.A"), FAILED), SCORES)
    with pytest.raises(TemporaryFailure):
        decided(Verdict(virus_scans=scans, spam_scans=spam))


def test_what_a_scanner_could_not_look_into_is_unchecked() -> None:
    verdict = Verdict(virus_scans=(VirusScan("one"),), unchecked=(Unchecked(1, "encrypted"),))
    assert decided(verdict).recipients[0].categories[0] == (Category.UNCHECKED, 1)


def test_names_are_those_of_the_first_detecting_scanner_and_all_that_detect_are_listed() -> None:
    verdict = Verdict(virus_scans=(VirusScan("one"), infected("A", scanner="two"), infected("B", scanner="three")))
    assert verdict.virus_names == ("A",)
    assert verdict.detecting_scanners == ("two", "three")

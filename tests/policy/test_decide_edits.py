"""Which header fields a mail gains and loses; the values are those the real daemon was seen to write."""

from __future__ import annotations

from typing import Any

import pytest

from amavispy.mail.disposition import HeaderEdits
from amavispy.mail.message import Message
from amavispy.mail.verdict import HeaderDefect, SpamScan, Unchecked, Verdict, VirusScan
from amavispy.policy.header_edits import number
from amavispy.policy.lookup import Hash, LookupList
from tests.making import MAIL, bank, banned, constant, decided, message, only

INFECTED = Verdict(virus_scans=(VirusScan("ClamAV", ("Eicar-Signature",), is_infected=True),))
BIG = (
    ("FSL_HELO_NON_FQDN_1", 2.361), ("HELO_NO_DOMAIN", 1.0), ("MSGID_FROM_MTA_HEADER", 0.401), ("MSGID_SHORT", 0.001),
    ("RCVD_ILLEGAL_IP", 1.3), ("TVD_SPACE_RATIO", 0.001), ("TVD_SPACE_RATIO_MINFP", 1.0),
)  # fmt: skip


def edits(verdict: Verdict, mail: Message | None = None, **settings: object) -> HeaderEdits:
    return decided(verdict, mail, bank(**settings)).recipients[0].edits


def fields(verdict: Verdict, mail: Message | None = None, **settings: object) -> dict[str, str]:
    return dict(edits(verdict, mail, **settings).prepend)


def spam(score: float, tests: tuple[tuple[str, float], ...] = (), autolearn: str = "") -> Verdict:
    return Verdict(spam_scans=(SpamScan("SpamAssassin", score, tests, autolearn),))


def test_a_clean_mail_gains_the_scanned_field_only() -> None:
    assert edits(Verdict(), x_header_line="Debian amavis at example.net") == HeaderEdits(
        prepend=(("X-Virus-Scanned", "Debian amavis at example.net"),)
    )


def test_without_a_line_or_without_virus_checks_nothing_is_claimed() -> None:
    assert edits(Verdict()) == HeaderEdits()
    assert edits(Verdict(), x_header_line="x", bypass_virus_checks_maps=constant(True)) == HeaderEdits()


def test_spam_fields_read_as_amavis_writes_them() -> None:
    assert fields(spam(6.064, BIG, "no autolearn_force=no")) == {
        "X-Spam-Flag": "NO",
        "X-Spam-Score": "6.064",
        "X-Spam-Level": "******",
        "X-Spam-Status": "No, score=6.064 tagged_above=2 required=6.31\n"
        " tests=[FSL_HELO_NON_FQDN_1=2.361, HELO_NO_DOMAIN=1,\n"
        " MSGID_FROM_MTA_HEADER=0.401, MSGID_SHORT=0.001, RCVD_ILLEGAL_IP=1.3,\n"
        " TVD_SPACE_RATIO=0.001, TVD_SPACE_RATIO_MINFP=1]\n"
        " autolearn=no autolearn_force=no",
    }


@pytest.mark.parametrize(
    ("tests", "autolearn", "status"),
    [
        (
            (("NO_RECEIVED", -0.001), ("NO_RELAYS", -0.001)),
            "ham autolearn_force=no",
            "\n tests=[NO_RECEIVED=-0.001, NO_RELAYS=-0.001] autolearn=ham autolearn_force=no",
        ),
        (
            (("GTUBE", 1000.0), ("MISSING_SUBJECT", 0.001), ("NO_RECEIVED", -0.001), ("NO_RELAYS", -0.001)),
            "no autolearn_force=no",
            "\n tests=[GTUBE=1000, MISSING_SUBJECT=0.001, NO_RECEIVED=-0.001,\n"
            " NO_RELAYS=-0.001] autolearn=no autolearn_force=no",
        ),
        ((), "", " tests=[]\n autolearn=unavailable"),
    ],
)
def test_the_status_is_broken_only_between_its_parts(
    tests: tuple[tuple[str, float], ...], autolearn: str, status: str
) -> None:
    written = fields(spam(-0.002, tests, autolearn), spam_tag_level_maps=constant(-999.0))["X-Spam-Status"]
    assert written == "No, score=-0.002 tagged_above=-999 required=6.31" + status


def test_spam_is_flagged_and_its_level_ends_at_64_stars() -> None:
    found = fields(spam(999.998))
    assert (found["X-Spam-Flag"], found["X-Spam-Level"]) == ("YES", "*" * 64)
    assert found["X-Spam-Status"].startswith("Yes, score=999.998 tagged_above=2 required=6.31")


def test_spam_fields_are_for_local_recipients_above_the_tag_level() -> None:
    assert not fields(spam(1.9))
    assert not fields(spam(99), message(MAIL, "b@example.org"))
    assert not fields(spam(99), bypass_spam_checks_maps=constant(True))


def test_alerts_tell_every_reason_and_fold_at_78_columns() -> None:
    found = Verdict(
        virus_scans=INFECTED.virus_scans,
        banned=(banned("application/octet-stream,setup.exe"),),
        header_defects=(
            HeaderDefect(2, r"Non-encoded non-ASCII data (and not UTF-8) (char E9 hex): X-Bad: \x{E9}\x{FC} hello"),
        ),
    )
    lovers: dict[str, Any] = {name: constant(True) for name in ("virus_lovers_maps", "banned_files_lovers_maps")}
    assert [value for name, value in edits(found, **lovers).prepend if name == "X-Amavis-Alert"] == [
        "INFECTED, message contains virus: Eicar-Signature",
        "BANNED, message contains application/octet-stream,setup.exe",
        "BAD HEADER SECTION, Non-encoded non-ASCII data (and not UTF-8)\n"
        r" (char E9 hex): X-Bad: \x{E9}\x{FC} hello",
    ]


def test_a_name_that_a_stranger_chose_cannot_start_a_field() -> None:
    found = Verdict(banned=(banned("a\r\nX-Spam-Flag: NO\n\u00fc" + "x" * 2000),))
    alert = fields(found, banned_files_lovers_maps=constant(True))["X-Amavis-Alert"]
    assert "a\\x0D\\x0AX-Spam-Flag: NO\\x0A\\xfc" in alert.replace("\n ", " ")
    assert alert.isascii()
    assert max(map(len, alert.split("\n"))) < 998


def test_an_exceeded_limit_is_told_on_top_of_the_rest() -> None:
    found = edits(Verdict(hold="Maximum decoding depth (14) exceeded"), x_header_line="amavis at example.net")
    assert found.prepend[0] == ("X-Amavis-Hold", "Maximum decoding depth (14) exceeded")


def test_the_quarantine_id_is_for_local_recipients_whose_own_copy_was_kept() -> None:
    mail = message(MAIL, "b@example.net", "b@example.org", "byp@example.net")
    in_bank = bank(bypass_virus_checks_maps=only("byp@example.net"), virus_lovers_maps=constant(True))
    local, foreign, bypassing = decided(INFECTED, mail, in_bank).recipients
    assert local.edits.prepend[0] == ("X-Quarantine-ID", "<Jnk7NzYB8pvl>")
    assert "X-Quarantine-ID" not in dict(foreign.edits.prepend)
    assert bypassing.edits == HeaderEdits()


def test_spam_and_unchecked_mails_get_a_subject_tag_unchecked_first() -> None:
    unchecked = Verdict(unchecked=(Unchecked(1, "zip"),), spam_scans=spam(7).spam_scans)
    assert edits(spam(7)).subject_tag == "***SPAM*** "
    assert edits(unchecked).subject_tag == "***UNCHECKED*** "
    assert edits(unchecked, undecipherable_subject_tag="").subject_tag == "***SPAM*** "
    assert edits(spam(6.3)).subject_tag == ""
    assert edits(spam(7), message(MAIL, "b@example.org")).subject_tag == ""


def test_a_subject_tag_may_tell_the_score() -> None:
    tagged = edits(spam(7.25), spam_subject_tag2_maps=constant("[_SCORE_/_REQD_ _MAILID_ _X_] "))
    assert tagged.subject_tag == "[7.25/6.31 Jnk7NzYB8pvl _X_] "


def test_each_recipient_may_have_a_subject_tag_of_his_own() -> None:
    mail = message(MAIL, "b@example.net", "c@example.net")
    tags = LookupList.of((Hash({"b@example.net": "[b] ", ".": "[all] "}),))
    one, other = decided(spam(7), mail, bank(spam_subject_tag2_maps=tags)).recipients
    assert (one.edits.subject_tag, other.edits.subject_tag) == ("[b] ", "[all] ")


FORGED = (
    b"x-spam-FLAG : NO\r\nX-Spam-Report: foo\r\n bar\r\nX-Amavis-Hold: none\r\nX-Virus-Scanned: me\r\n"
    b"To: x\r\n\r\nX-Spam-A: b\r\n"
)


def test_a_forged_verdict_does_not_survive() -> None:
    assert edits(Verdict(), message(FORGED)).remove == {"x-spam-flag", "x-spam-report", "x-amavis-hold"}


def test_removal_can_be_switched_off_and_extended() -> None:
    kept = edits(Verdict(), message(FORGED), remove_existing_spam_headers_maps=constant(False))
    assert kept.remove == {"x-amavis-hold"}
    scanned = edits(Verdict(), message(b"X-Virus-Scanned: me\r\n\r\n"), remove_existing_x_scanned_headers=True)
    assert scanned.remove == {"x-virus-scanned"}


def test_what_looks_like_a_field_in_the_body_is_no_field() -> None:
    assert edits(Verdict(), message(b"To: x\r\n\r\nX-Spam-Flag: NO\r\n")).remove == frozenset()


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (6.31, "6.31"),
        (2.0, "2"),
        (1006.064, "1006.064"),
        (-0.0001, "0"),
        (0.1 + 0.2, "0.3"),
        (None, "x"),
        (100.0, "100"),
    ],
)
def test_scores_have_at_most_three_decimals(score: float | None, text: str) -> None:
    assert number(score) == text

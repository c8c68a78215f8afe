"""What becomes of a mail, as a table of findings and wishes."""

from __future__ import annotations

import pytest

from amavispy.mail.disposition import Destiny, QuarantineTarget
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.mail.verdict import (
    Category,
    ContentsCategory,
    HeaderDefect,
    OnFailure,
    SpamScan,
    Unchecked,
    Verdict,
    VirusScan,
)
from amavispy.policy.decide import after_forwarding
from tests.making import MAIL, MTA, bank, banned, constant, decided, fate, message, only

CLEAN = ContentsCategory(Category.CLEAN)
INFECTED = Verdict(virus_scans=(VirusScan("ClamAV", ("Eicar-Signature",), is_infected=True),))
BANNED = Verdict(banned=(banned(),))
BADH = Verdict(header_defects=(HeaderDefect(7, 'Missing required header field: "Date"'),))
EIGHT_BIT = Verdict(header_defects=(HeaderDefect(2, "Non-encoded non-ASCII data"),))
ENCRYPTED = Verdict(unchecked=(Unchecked(1, "zip: encrypted"),))


def spam(score: float | None, **more: object) -> Verdict:
    return Verdict(spam_scans=(SpamScan("SpamAssassin", score, **more),))  # type: ignore[arg-type]


def majors(verdict: Verdict, **settings: object) -> list[tuple[int, int]]:
    (one,) = decided(verdict, in_bank=bank(**settings)).recipients
    return [(int(category.major), category.minor) for category in one.categories]


# --- categories


def test_a_mail_in_which_nothing_was_found_is_clean_and_passes() -> None:
    (one,) = decided(Verdict()).recipients
    assert one.categories == (CLEAN,)
    assert (one.blocking, one.destiny, one.reply, one.quarantine) == (None, Destiny.PASS, None, ())


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [
        (INFECTED, [(9, 0), (1, 0)]),
        (BANNED, [(8, 0), (1, 0)]),
        (ENCRYPTED, [(7, 1), (1, 0)]),
        (Verdict(unchecked=(Unchecked(0, "x"), Unchecked(2, "y"), Unchecked(3, "z"))),
         [(7, 3), (7, 2), (7, 0), (1, 0)]),
        (BADH, [(4, 7), (1, 0)]),
        (Verdict(header_defects=(HeaderDefect(1, "MIME"), HeaderDefect(2, "x"), HeaderDefect(6, "y"))),
         [(4, 6), (4, 1), (1, 0)]),
        (spam(1.9), [(1, 0)]),
        (spam(2.0), [(1, 1)]),
        (spam(6.31), [(6, 0), (5, 0), (1, 1)]),
        (spam(None), [(1, 0)]),
    ],
)  # fmt: skip
def test_findings_become_categories_in_descending_order(verdict: Verdict, expected: list[tuple[int, int]]) -> None:
    assert majors(verdict) == expected


def test_spammy_without_spam_lies_between_tag2_and_kill() -> None:
    assert majors(spam(7), spam_kill_level_maps=constant(8.0)) == [(5, 0), (1, 1)]


def test_without_a_tag_level_every_scored_mail_is_tagged() -> None:
    assert majors(spam(-50), spam_tag_level_maps=constant(None)) == [(1, 1)]


@pytest.mark.parametrize(
    ("verdict", "bypass"),
    [
        (INFECTED, "virus"), (BANNED, "banned"), (BADH, "header"), (spam(99), "spam"), (ENCRYPTED, "virus"),
        (Verdict(virus_scans=(VirusScan("C", error="down", on_failure=OnFailure.UNCHECKED),)), "virus"),
        (Verdict(spam_scans=(SpamScan("S", error="down", on_failure=OnFailure.UNCHECKED),)), "spam"),
    ],
)  # fmt: skip
def test_a_bypassed_check_adds_nothing(verdict: Verdict, bypass: str) -> None:
    assert majors(verdict) != [(1, 0)]
    assert majors(verdict, **{f"bypass_{bypass}_checks_maps": constant(True)}) == [(1, 0)]


def test_ambiguous_content_counts_even_for_who_bypasses_virus_checks() -> None:
    verdict = Verdict(unchecked=(Unchecked(3, "two boundaries"),))
    assert majors(verdict, bypass_virus_checks_maps=constant(True)) == [(7, 3), (1, 0)]


def test_each_recipient_has_findings_of_his_own() -> None:
    mail = message(
        sender="x@example.org", recipients=message(b"", "b@example.net", "c@example.net").envelope.recipients
    )
    one, other = decided(Verdict(banned=(None, banned())), mail).recipients
    assert (one.destiny, other.destiny) == (Destiny.PASS, Destiny.DISCARD)


def test_a_mail_above_the_recipients_limit_is_oversized_and_zero_is_no_limit() -> None:
    (one,) = decided(Verdict(), in_bank=bank(message_size_limit_maps=constant(10))).recipients
    assert one.blocking == ContentsCategory(Category.OVERSIZED)
    assert one.reply == Reply(552, "5.3.4", "Bounce, id=07655-01 - Message size exceeds recipient's size limit")
    assert majors(Verdict(), message_size_limit_maps=constant(0)) == [(1, 0)]


# --- destinies and replies


@pytest.mark.parametrize(
    ("verdict", "setting", "destiny", "reply"),
    [
        (INFECTED, "final_virus_destiny", "REJECT", "554 5.7.0 Reject, id=07655-01 - INFECTED: Eicar-Signature"),
        (INFECTED, "final_virus_destiny", "DISCARD",
         "250 2.7.0 Ok, discarded, id=07655-01 - INFECTED: Eicar-Signature"),
        (INFECTED, "final_virus_destiny", "BOUNCE", "554 5.7.0 Bounce, id=07655-01 - INFECTED: Eicar-Signature"),
        (INFECTED, "final_virus_destiny", "TEMPFAIL",
         "450 4.7.0 Temporary failure, id=07655-01 - INFECTED: Eicar-Signature"),
        (BANNED, "final_banned_destiny", "DISCARD", "250 2.7.0 Ok, discarded, id=07655-01 - BANNED: .exe,setup.exe"),
        (spam(7), "final_spam_destiny", "REJECT", "554 5.7.0 Reject, id=07655-01 - spam"),
        (BADH, "final_bad_header_destiny", "REJECT",
         "554 5.6.0 Reject, id=07655-01 - BAD HEADER: missing required header field"),
        (EIGHT_BIT, "final_bad_header_destiny", "REJECT",
         "554 5.6.3 Reject, id=07655-01 - BAD HEADER: nonencoded 8-bit character"),
        (ENCRYPTED, "final_unchecked_destiny", "REJECT", "554 5.7.0 Reject, id=07655-01 - UNCHECKED: encrypted"),
    ],
)  # fmt: skip
def test_a_blocked_mail_is_answered_with_amavis_words(verdict: Verdict, setting: str, destiny: str, reply: str) -> None:
    (one,) = decided(verdict, in_bank=bank(**{setting: Destiny[destiny]})).recipients
    assert (one.destiny, str(one.reply)) == (Destiny[destiny], reply)


@pytest.mark.parametrize("destiny", [Destiny.REJECT, Destiny.BOUNCE])
def test_soft_bounce_makes_refusals_temporary(destiny: Destiny) -> None:
    (one,) = decided(INFECTED, in_bank=bank(soft_bounce=True, final_virus_destiny=destiny)).recipients
    assert one.destiny is Destiny.TEMPFAIL
    assert str(one.reply).startswith("450 4.7.0 Temporary failure (soft_bounce), id=07655-01 - INFECTED")


def test_soft_bounce_leaves_discards_alone() -> None:
    (one,) = decided(INFECTED, in_bank=bank(soft_bounce=True)).recipients
    assert one.destiny is Destiny.DISCARD


def test_a_reply_carries_no_line_breaks_from_a_file_name_and_stays_short() -> None:
    (one,) = decided(Verdict(banned=(banned("a\r\n250 ok" + "x" * 900),))).recipients
    assert one.reply is not None
    assert "a\\x0D\\x0A250 ok" in one.reply.text
    assert len(one.reply.text) < 500


@pytest.mark.parametrize(
    ("verdict", "lovers"),
    [
        (INFECTED, "virus_lovers_maps"), (BANNED, "banned_files_lovers_maps"), (ENCRYPTED, "unchecked_lovers_maps"),
        (spam(99), "spam_lovers_maps"), (BADH, "bad_header_lovers_maps"),
    ],
)  # fmt: skip
def test_lovers_get_what_they_love_and_it_keeps_its_category(verdict: Verdict, lovers: str) -> None:
    destinies = dict.fromkeys(
        ("final_virus_destiny", "final_banned_destiny", "final_unchecked_destiny", "final_spam_destiny"), Destiny.REJECT
    )
    strict = bank(**destinies, final_bad_header_destiny=Destiny.REJECT, **{lovers: only("b@example.net")})
    one, other = decided(verdict, message(MAIL, "b@example.net", "c@example.org"), strict).recipients
    assert (one.blocking, one.main.major > Category.CLEAN) == (None, True)
    if not verdict.banned:
        assert other.destiny is Destiny.REJECT


def test_the_highest_category_that_blocks_decides_not_the_highest_of_all() -> None:
    both = Verdict(virus_scans=INFECTED.virus_scans, banned=(banned(),))
    (one,) = decided(both, in_bank=bank(virus_lovers_maps=constant(True))).recipients
    assert (one.main.major, one.decisive.major) == (Category.VIRUS, Category.BANNED)


@pytest.mark.parametrize(
    ("sender", "field", "destiny"),
    [
        ("a@example.org", b"", Destiny.BOUNCE),
        ("", b"", Destiny.PASS),
        ("a@example.org", b"Precedence: bulk\r\n", Destiny.PASS),
        ("a@example.org", b"List-Id: <x.example.org>\r\n", Destiny.PASS),
        ("a@example.org", b"Auto-Submitted: auto-replied (x)\r\n", Destiny.PASS),
        ("a@example.org", b"Auto-Submitted: no\r\n", Destiny.BOUNCE),
        ("owner-list@example.org", b"", Destiny.PASS),
        ("list-bounces@example.org", b"", Destiny.PASS),
    ],
)
def test_bad_headers_bounce_only_to_people(sender: str, field: bytes, destiny: Destiny) -> None:
    mail = message(field + b"To: x\r\n\r\n", sender=sender)
    (one,) = decided(BADH, mail, bank(final_bad_header_destiny=Destiny.BOUNCE)).recipients
    assert one.destiny is destiny


# --- failures of scanners


FAILED = VirusScan("ClamAV", error="timed out")
SCANNED = VirusScan("Rules")
UNCERTAIN = VirusScan("Rules", error="no", on_failure=OnFailure.UNCHECKED)


@pytest.mark.parametrize(
    ("scans", "text"),
    [((FAILED,), "AV: ALL VIRUS SCANNERS FAILED"), ((SCANNED, FAILED), "AV: A VIRUS SCANNER FAILED")],
)
def test_a_failed_virus_scanner_keeps_the_mail_with_the_client(scans: tuple[VirusScan, ...], text: str) -> None:
    with pytest.raises(TemporaryFailure) as caught:
        decided(Verdict(virus_scans=scans))
    assert str(caught.value.reply) == f"451 4.5.0 Error in processing, id=07655-01, virus_scan FAILED: {text}"


def test_a_virus_found_by_another_scanner_is_an_answer() -> None:
    (one,) = decided(Verdict(virus_scans=(FAILED, *INFECTED.virus_scans))).recipients
    assert one.destiny is Destiny.DISCARD


@pytest.mark.parametrize(
    ("found", "destiny"),
    [
        (Verdict(unchecked=(Unchecked(3, "two boundaries"),)), Destiny.REJECT),
        (Verdict(unchecked=(Unchecked(1, "encrypted"), Unchecked(3, "two boundaries"))), Destiny.REJECT),
        (ENCRYPTED, Destiny.PASS),
    ],
)
def test_ambiguous_mail_may_have_a_destiny_of_its_own(found: Verdict, destiny: Destiny) -> None:
    (fate,) = decided(found, in_bank=bank(final_ambiguous_destiny=Destiny.REJECT)).recipients
    assert fate.destiny is destiny


def test_ambiguous_mail_is_unchecked_mail_unless_told_otherwise() -> None:
    found = Verdict(unchecked=(Unchecked(3, "two boundaries"),))
    (fate,) = decided(found, in_bank=bank(final_unchecked_destiny=Destiny.DISCARD)).recipients
    assert (fate.destiny, fate.blocking) == (Destiny.DISCARD, (Category.UNCHECKED, 3))


def test_a_failed_scanner_may_leave_the_mail_unchecked_or_be_ignored() -> None:
    assert majors(Verdict(virus_scans=(SCANNED, UNCERTAIN))) == [(7, 0), (1, 0)]
    assert majors(Verdict(virus_scans=(VirusScan("R", error="no", on_failure=OnFailure.PASS),))) == [(1, 0)]


def test_a_failed_spam_scanner_keeps_the_mail_with_the_client_too() -> None:
    with pytest.raises(TemporaryFailure, match="spam_scan FAILED"):
        decided(spam(None, error="connection refused"))


def test_a_spam_scanner_that_failed_does_not_matter_when_a_virus_keeps_the_mail_from_everybody() -> None:
    scans = (SpamScan("S", error="down"),)
    verdict = Verdict(virus_scans=INFECTED.virus_scans, spam_scans=scans)
    assert decided(verdict).recipients[0].destiny is Destiny.DISCARD
    with pytest.raises(TemporaryFailure):
        decided(verdict, in_bank=bank(virus_lovers_maps=constant(True)))


# --- quarantine


@pytest.mark.parametrize(
    ("verdict", "settings", "expected"),
    [
        (INFECTED, {}, QuarantineTarget("local:virus-%m", "virus-quarantine")),
        (BANNED, {}, QuarantineTarget("local:banned-%m", "banned-quarantine")),
        (BADH, {}, QuarantineTarget("local:badh-%m", "bad-header-quarantine")),
        (spam(7), {}, QuarantineTarget("local:spam-%m.gz", "spam-quarantine")),
        (ENCRYPTED, {}, None),
        (ENCRYPTED, {"unchecked_quarantine_method": "local:u-%m"},
         QuarantineTarget("local:u-%m", "unchecked-quarantine")),
        (INFECTED, {"virus_quarantine_method": ""}, None),
        (INFECTED, {"virus_quarantine_to_maps": constant("")}, None),
        (INFECTED, {"virus_quarantine_to_maps": constant("%a")}, QuarantineTarget("local:virus-%m", "b@example.net")),
        (spam(20), {"spam_quarantine_cutoff_level_maps": constant(20.0)}, None),
        (spam(19), {"spam_quarantine_cutoff_level_maps": constant(20.0)},
         QuarantineTarget("local:spam-%m.gz", "spam-quarantine")),
        (INFECTED, {"final_virus_destiny": Destiny.TEMPFAIL}, None),
        (Verdict(), {}, None),
    ],
)  # fmt: skip
def test_the_category_chooses_the_quarantine(
    verdict: Verdict, settings: dict[str, object], expected: QuarantineTarget | None
) -> None:
    (one,) = decided(verdict, in_bank=bank(**settings)).recipients
    assert one.quarantine == ((expected,) if expected else ())


def test_a_quarantined_copy_tells_the_verdict_with_the_levels_of_its_recipient() -> None:
    fields = dict(decided(spam(7.5, tests=(("B", 5.0), ("A", 2.5)), autolearn="no")).quarantine_fields)
    assert fields["X-Spam-Flag"] == "YES"
    assert fields["X-Spam-Status"] == (
        "Yes, score=7.5 tag=2 tag2=6.31 kill=6.31 tests=[A=2.5, B=5]\n autolearn=no"
    )  # fmt: skip
    assert decided(Verdict()).quarantine_fields == ()


# --- bounces


@pytest.mark.parametrize(
    ("verdict", "settings", "expected"),
    [
        (INFECTED, {}, "INFECTED"),
        (INFECTED, {"viruses_that_fake_sender_maps": constant(False)}, ""),
        (INFECTED, {"viruses_that_fake_sender_maps": only("other")}, ""),
        (BANNED, {}, ""),
        (Verdict(banned=(banned(rule_value="DISCARD quietly"),)), {}, "BANNED:DISCARD quietly"),
        (spam(9.9), {"final_spam_destiny": Destiny.BOUNCE}, ""),
        (spam(10), {"final_spam_destiny": Destiny.BOUNCE}, "SPAM"),
        (spam(10), {}, ""),
    ],
)
def test_who_probably_did_not_send_it_is_not_told(verdict: Verdict, settings: dict[str, object], expected: str) -> None:
    assert decided(verdict, in_bank=bank(**settings)).recipients[0].suppresses_bounce == expected


# --- hand-back


def test_recipients_that_cannot_be_split_share_the_gravest_edits() -> None:
    mail = message(MAIL, "b@example.org", "c@example.net")
    in_bank = bank(banned_files_lovers_maps=constant(True))
    split = decided(Verdict(banned=(None, banned())), mail, in_bank).recipients
    joined = decided(Verdict(banned=(None, banned())), mail, in_bank, can_split=False).recipients
    assert split[0].edits != split[1].edits
    assert joined[0].edits == joined[1].edits == split[1].edits


# --- after forwarding


def test_a_refusal_of_the_next_hop_is_category_mta_and_says_so() -> None:
    said = Reply(554, "5.7.1", f"from MTA({MTA}): 554 5.7.1 no way")
    one, reply = after_forwarding(fate(), said, "26826-01")
    assert (
        str(reply) == f"554 5.7.1 id=26826-01 - Rejected by next-hop MTA on relaying, from MTA({MTA}): 554 5.7.1 no way"
    )
    assert (one.blocking, one.destiny) == (ContentsCategory(Category.MTA, 2), Destiny.REJECT)
    assert one.categories == (ContentsCategory(Category.MTA, 2), CLEAN)


def test_a_temporary_failure_of_the_next_hop_is_passed_on_as_one() -> None:
    said = Reply(451, "4.3.0", f"from MTA({MTA}): 451 4.3.0 try later")
    one, reply = after_forwarding(fate(), said, "26823-01")
    assert (
        str(reply) == f"451 4.3.0 id=26823-01 - Temporary MTA failure on relaying, from MTA({MTA}): 451 4.3.0 try later"
    )
    assert (one.destiny, one.reply) == (Destiny.TEMPFAIL, reply)


def test_a_delivered_recipient_stays_as_decided_and_an_odd_reply_is_a_temporary_failure() -> None:
    one = fate()
    assert after_forwarding(one, Reply(250, "2.0.0", "Ok"), "x") == (one, Reply(250, "2.0.0", "Ok"))
    assert str(after_forwarding(one, Reply(354, "", "go on"), "x")[1]).startswith("451 4.5.0 id=x - Temporary MTA")


def test_a_thousand_recipients_are_decided_without_making_their_edits_a_thousand_times() -> None:
    mail = message(MAIL, *(f"r{n}@example.net" for n in range(1000)))
    recipients = decided(spam(7), mail, bank(x_header_line="amavis at example.net")).recipients
    assert len({id(one.edits) for one in recipients}) == 1

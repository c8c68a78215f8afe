"""Spam levels, sender lists, users' own scores and scanners' advice, as they decide together (chapters 8.2 to 8.4)."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from amavispy.mail.disposition import Destiny, RecipientDisposition
from amavispy.mail.envelope import Recipient
from amavispy.mail.message import Message
from amavispy.mail.reply import TemporaryFailure
from amavispy.mail.verdict import Category, OnFailure, SpamAdvice, SpamScan, Verdict, VirusScan
from amavispy.policy.bank import PolicyBank
from amavispy.policy.decide import decide
from amavispy.policy.lookup import Hash, LookupList
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.spam import needs_scan
from tests.making import MAIL, bank, banned, constant, decided, message, only

B, C = "b@example.net", "c@example.net"
SENDER = "a@example.org"


def spam(*scores: float | None, **more: Any) -> Verdict:
    return Verdict(spam_scans=tuple(SpamScan(f"S{number}", score, **more) for number, score in enumerate(scores)))


def advised(action: str = "no action", score: float = 0.0, **advice: Any) -> Verdict:
    return Verdict(spam_scans=(SpamScan("rspamd", score, advice=SpamAdvice(action, **advice)),))


def fates(
    verdict: Verdict, mail: Message | None = None, in_bank: PolicyBank | None = None, *, can_split: bool = True
) -> tuple[RecipientDisposition, ...]:
    """As `making.decided`, with the sender lists asked."""
    mail, in_bank = mail or message(), in_bank or bank()
    policies = recipient_policies(mail.envelope, in_bank.settings, mail.content)
    return decide(mail, verdict, in_bank, policies, can_split=can_split, adds_received=True).recipients


def fate(verdict: Verdict, mail: Message | None = None, **settings: Any) -> RecipientDisposition:
    return fates(verdict, mail, bank(**settings))[0]


def majors(verdict: Verdict, **settings: Any) -> list[tuple[int, int]]:
    return [(category.major.value, category.minor) for category in fate(verdict, **settings).categories]


def fields(verdict: Verdict, mail: Message | None = None, **settings: Any) -> dict[str, str]:
    return {name: value.replace("\n", "") for name, value in fate(verdict, mail, **settings).edits.prepend}


def status(verdict: Verdict, **settings: Any) -> str:
    return fields(verdict, **settings)["X-Spam-Status"]


TAG, TAG2, TAG3, KILL = (1, 1), (5, 0), (5, 1), (6, 0)
LEVELS = {
    "spam_tag_level_maps": constant(2.0),
    "spam_tag2_level_maps": constant(5.0),
    "spam_tag3_level_maps": constant(8.0),
    "spam_kill_level_maps": constant(12.0),
}
WHITE = {"whitelist_sender_maps": only(SENDER)}
BLACK = {"blacklist_sender_maps": only(SENDER)}


# --- levels


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (1.9, [(1, 0)]),
        (2.0, [TAG]),
        (5.0, [TAG2, TAG]),
        (7.999, [TAG2, TAG]),
        (8.0, [TAG3, TAG2, TAG]),
        (12.0, [KILL, TAG3, TAG2, TAG]),
    ],
)
def test_each_level_adds_a_category(score: float, expected: list[tuple[int, int]]) -> None:
    assert majors(spam(score), **LEVELS) == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"spam_tag_level_maps": LookupList()}, [KILL, TAG3, TAG2, TAG]),  # no tag level: always tagged
        ({"spam_tag2_level_maps": LookupList()}, [KILL, TAG3, TAG2, TAG]),  # tag3 implies tag2
        ({"spam_tag2_level_maps": LookupList(), "spam_tag3_level_maps": LookupList()}, [KILL, TAG]),
        ({"spam_kill_level_maps": LookupList()}, [TAG3, TAG2, TAG]),
    ],
)
def test_a_level_that_nobody_set_is_never_reached(settings: dict[str, Any], expected: list[tuple[int, int]]) -> None:
    assert majors(spam(20.0), **{**LEVELS, **settings}) == expected


def test_scores_of_several_scanners_add_up() -> None:
    verdict = Verdict(
        spam_scans=(
            SpamScan("A", 4.0, (("A1", 4.0),)),
            SpamScan("B", None, error="down", on_failure=OnFailure.PASS),
            SpamScan("C", 1.5, (("C1", 2.0), ("C2", -0.5))),
        )
    )
    assert fate(verdict).score == 5.5
    assert "score=5.5 tagged_above=2 required=6.31 tests=[A1=4, C1=2, C2=-0.5]" in status(verdict)


def test_recipients_have_their_own_levels() -> None:
    levels = LookupList.of([Hash({B: 3.0, ".": 6.0})])
    found = fates(spam(4.0), message(MAIL, B, C), bank(spam_tag2_level_maps=levels))
    assert [Category.SPAMMY in {c.major for c in each.categories} for each in found] == [True, False]


# --- white- and blacklists


@pytest.mark.parametrize(
    ("score", "lists", "expected"),
    [
        (100.0, WHITE, [TAG]),
        (11.9, WHITE, [(1, 0)]),  # ten points less for the tag level
        (12.0, WHITE, [TAG]),
        (None, WHITE, [(1, 0)]),
        (0.0, BLACK, [KILL, TAG3, TAG2, TAG]),
        (None, BLACK, [KILL, TAG3, TAG2, TAG]),
        (100.0, {**WHITE, **BLACK}, [TAG]),  # white wins
        (0.0, {**WHITE, **BLACK}, [TAG]),
    ],
)
def test_hard_lists_decide_instead_of_levels(
    score: float | None, lists: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    assert majors(spam(score) if score is not None else Verdict(), **LEVELS, **lists) == expected


def test_lists_mean_nothing_to_who_bypasses_spam_checks() -> None:
    assert majors(spam(50.0), **BLACK, bypass_spam_checks_maps=constant(True)) == [(1, 0)]


@pytest.mark.parametrize(
    ("score", "lists", "shown", "stars", "said"),
    [
        (3.0, {}, "3", "***", "No, score=3 tagged_above=2 required=6.31 tests="),
        (3.0, BLACK, "64", "*" * 64, "Yes, score=3 tagged_above=2 required=6.31 BLACKLISTED tests="),
        (70.5, BLACK, "70.5", "*" * 64, "Yes, score=70.5 tagged_above=2 required=6.31 BLACKLISTED tests="),
        (13.0, WHITE, "0", "", "No, score=13 tagged_above=2 required=6.31 WHITELISTED tests="),
        (13.0, {**WHITE, **BLACK}, "0", "", "No, score=13 tagged_above=2 required=6.31 BLACKLISTED WHITELISTED tests="),
    ],
)
def test_fields_tell_of_hard_lists(score: float, lists: dict[str, Any], shown: str, stars: str, said: str) -> None:
    found = fields(spam(score), **lists)
    assert (found["X-Spam-Score"], found["X-Spam-Level"]) == (shown, stars)
    assert found["X-Spam-Status"].startswith(said)


def test_points_are_added_and_told_first() -> None:
    scores: dict[str, Any] = {"score_sender_maps": LookupList.of([Hash({".": LookupList.of([Hash({SENDER: 3.25})])})])}
    verdict = spam(4.0, tests=(("A", 4.0),))
    assert fate(verdict, **scores).score == 7.25
    assert "tests=[AM.WBL=3.25, A=4]" in status(verdict, **scores)


def test_points_count_when_no_scanner_was_asked() -> None:
    scores = {"score_sender_maps": LookupList.of([Hash({".": LookupList.of([Hash({SENDER: 7.0})])})])}
    assert majors(Verdict(), **scores) == [KILL, TAG2, TAG]


def test_each_recipient_has_his_own_points() -> None:
    scores = LookupList.of([Hash({B: LookupList.of([Hash({SENDER: 2.5})])})])
    found = fates(spam(1.0), message(MAIL, B, C), bank(score_sender_maps=scores))
    assert [each.score for each in found] == [3.5, 1.0]


def test_levels_that_are_not_set_are_not_told() -> None:
    assert status(spam(3.0), spam_tag_level_maps=LookupList(), spam_tag2_level_maps=LookupList()).startswith(
        "No, score=3 tests=[]"
    )


# --- users' own answers


def test_recipients_get_the_score_of_their_own_user() -> None:
    verdict = Verdict(
        spam_scans=(
            SpamScan("spamd", 1.0, (("LOW", 1.0),), recipients=(0, 2)),
            SpamScan("spamd", 9.0, (("HIGH", 9.0),), recipients=(1,)),
            SpamScan("rspamd", 2.0, (("R", 2.0),)),
        )
    )
    found = fates(verdict, message(MAIL, B, C, "d@example.net"))
    assert [each.score for each in found] == [3.0, 11.0, 3.0]
    assert found[0].edits == found[2].edits
    assert found[0].edits is found[2].edits
    told = dict(found[1].edits.prepend)["X-Spam-Status"]
    assert "tests=[HIGH=9, R=2]" in told.replace("\n", "")


def test_a_user_whose_scan_failed_is_unchecked_alone() -> None:
    failed = SpamScan("spamd", error="down", on_failure=OnFailure.UNCHECKED, recipients=(1,))
    found = fates(Verdict(spam_scans=(SpamScan("spamd", 1.0, recipients=(0,)), failed)), message(MAIL, B, C))
    assert [each.main.major for each in found] == [Category.CLEAN, Category.UNCHECKED]


# --- subjects


TAGS = {
    "spam_subject_tag_maps": constant("[tag] "),
    "spam_subject_tag2_maps": constant("[tag2] "),
    "spam_subject_tag3_maps": constant("[tag3] "),
}


@pytest.mark.parametrize(
    ("score", "changes", "tag"),
    [
        (1.0, {}, ""),
        (2.0, {}, "[tag] "),
        (5.0, {}, "[tag2] "),
        (8.0, {}, "[tag3] "),
        (8.0, {"spam_subject_tag3_maps": constant("")}, "[tag2] "),
        (8.0, {"spam_subject_tag3_maps": LookupList(), "spam_subject_tag2_maps": constant("")}, "[tag] "),
        (20.0, {"final_spam_destiny": Destiny.PASS}, "[tag3] "),
        (2.0, {"spam_subject_tag_maps": constant("_YESNO_ _SCORE_/_REQD_ ")}, "No 2/5 "),
        (5.5, {"spam_subject_tag2_maps": constant("_YESNOCAPS_ _SCORE_ ")}, "YES 5.5 "),
        (5.5, {"spam_subject_tag2_maps": LookupList.of([Hash({B: "for b "})])}, "for b "),
        (5.5, {"spam_subject_tag2_maps": LookupList.of([Hash({C: "for c "})])}, "[tag] "),
    ],
)
def test_each_level_has_a_subject_tag(score: float, changes: dict[str, Any], tag: str) -> None:
    assert fate(spam(score), **{**LEVELS, **TAGS, **changes}).edits.subject_tag == tag


def test_tags_per_recipient_are_not_mixed_up() -> None:
    tags = LookupList.of([Hash({B: "b3 ", C: "c3 "})])
    found = fates(spam(9.0), message(MAIL, B, C), bank(**{**LEVELS, "spam_subject_tag3_maps": tags}))
    assert [each.edits.subject_tag for each in found] == ["b3 ", "c3 "]


# --- cut-offs


BOUNCED = {**LEVELS, "final_spam_destiny": Destiny.BOUNCE, "spam_dsn_cutoff_level_maps": constant(20.0)}


@pytest.mark.parametrize(
    ("score", "settings", "suppresses"),
    [
        (13.0, {}, ""),
        (20.0, {}, "SPAM"),
        (13.0, BLACK, "SPAM"),
        (13.0, {**BLACK, "spam_dsn_cutoff_level_maps": LookupList()}, ""),
        (13.0, {"spam_dsn_cutoff_level_bysender_maps": LookupList.of([Hash({SENDER: 13.0})])}, "SPAM"),
        (13.0, {"spam_dsn_cutoff_level_bysender_maps": LookupList.of([Hash({"other.example": 13.0})])}, ""),
        (20.0, {"spam_dsn_cutoff_level_bysender_maps": constant(99.0)}, "SPAM"),
    ],
)
def test_beyond_a_cutoff_nobody_is_told(score: float, settings: dict[str, Any], suppresses: str) -> None:
    found = fate(spam(score), **{**BOUNCED, **settings})
    assert (found.destiny, found.suppresses_bounce) == (Destiny.BOUNCE, suppresses)


@pytest.mark.parametrize(
    ("score", "settings", "is_kept"),
    [
        (13.0, {}, True),
        (13.0, {"spam_quarantine_cutoff_level_maps": constant(13.0)}, False),
        (12.9, {"spam_quarantine_cutoff_level_maps": constant(13.0)}, True),
        (0.0, {**BLACK, "spam_quarantine_cutoff_level_maps": constant(13.0)}, False),
        (0.0, BLACK, True),
    ],
)
def test_beyond_a_cutoff_nothing_is_kept(score: float, settings: dict[str, Any], is_kept: bool) -> None:
    found = fate(spam(score), **{**LEVELS, "final_spam_destiny": Destiny.DISCARD, **settings})
    assert bool(found.quarantine) == is_kept


# --- scanners' advice


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("no action", [(1, 0)]),
        ("add header", [TAG2, TAG]),
        ("rewrite subject", [TAG2, TAG]),
        ("reject", [KILL, TAG2, TAG]),
        ("discard", [KILL, TAG2, TAG]),
        ("quarantine", [KILL, TAG2, TAG]),
        ("greylist", [(1, 0)]),
        ("custom", [(1, 0)]),
    ],
)
def test_an_action_means_a_level_at_least(action: str, expected: list[tuple[int, int]]) -> None:
    assert majors(advised(action), **LEVELS) == expected


def test_an_action_that_the_bank_does_not_honour_means_nothing() -> None:
    assert majors(advised("reject"), honoured_scanner_advice=frozenset({"add header"})) == [(1, 0)]
    assert majors(advised("reject"), **WHITE) == [(1, 0)]


@pytest.mark.parametrize(
    ("action", "honoured", "message_", "expected"),
    [
        ("soft reject", {"soft reject"}, "", "451 4.7.1 Try again later, id=07655-01"),
        ("soft reject", {"soft reject"}, "Greylisted", "451 4.7.1 Greylisted, id=07655-01"),
        ("greylist", {"greylist"}, "", "451 4.7.1 Try again later, id=07655-01"),
    ],
)
def test_a_mail_is_put_off_when_the_bank_honours_that(
    action: str, honoured: set[str], message_: str, expected: str
) -> None:
    with pytest.raises(TemporaryFailure) as raised:
        fate(advised(action, message=message_), honoured_scanner_advice=frozenset(honoured))
    assert str(raised.value.reply) == expected


@pytest.mark.parametrize(
    ("action", "settings"),
    [
        ("soft reject", {"honoured_scanner_advice": frozenset()}),
        ("greylist", {}),  # rspamd says so of every doubtful mail, however often it comes
        ("soft reject", WHITE),
        ("soft reject", {"bypass_spam_checks_maps": constant(True)}),
    ],
)
def test_a_mail_is_not_put_off_otherwise(action: str, settings: dict[str, Any]) -> None:
    assert fate(advised(action), **settings).destiny is Destiny.PASS


def test_one_recipient_whose_mail_is_checked_puts_it_off_for_all() -> None:
    with pytest.raises(TemporaryFailure):
        fates(advised("soft reject"), message(MAIL, B, C), bank(bypass_spam_checks_maps=only(B)))


def test_a_mail_with_a_virus_that_nobody_gets_is_not_put_off() -> None:
    infected = replace(advised("soft reject"), virus_scans=(VirusScan("clamd", ("Worm",), is_infected=True),))
    assert fate(infected).destiny is Destiny.DISCARD


ADD = (("X-Spamd-Bar", "+++"), ("X-Spam-Status", "theirs"), ("Subject", "theirs"), ("X-Folded", "a\n b\x07"))


def test_header_fields_of_scanners_are_added_but_ours_stay_ours() -> None:
    found = fate(advised(score=3.0, add=ADD)).edits.prepend
    assert found[:2] == (("X-Spamd-Bar", "+++"), ("X-Folded", "a\n b\\x07"))
    names = [name for name, _ in found]
    assert names.count("X-Spam-Status") == 1
    assert "Subject" not in names


@pytest.mark.parametrize(
    ("is_for_local", "recipient", "settings", "is_added"),
    [
        (False, B, {}, True),
        (False, "x@elsewhere.example", {}, True),
        (True, B, {}, True),
        (True, "x@elsewhere.example", {}, False),
        (False, B, {"honoured_scanner_advice": frozenset()}, False),
        (True, B, {"honoured_scanner_advice": frozenset()}, True),
        (False, B, {"bypass_spam_checks_maps": constant(True)}, False),
    ],
)
def test_for_whom_fields_are_added(
    is_for_local: bool, recipient: str, settings: dict[str, Any], is_added: bool
) -> None:
    verdict = advised(add=(("X-Spamd-Bar", "+"),), is_for_local=is_for_local)
    assert (("X-Spamd-Bar", "+") in fate(verdict, message(MAIL, recipient), **settings).edits.prepend) == is_added


def test_header_fields_that_scanners_want_gone_go_when_they_are_there() -> None:
    mail = message(b"X-Old: 1\r\nX-Old: 2\r\nX-Old: 3\r\nX-Foo: x\r\nFrom: a\r\nSubject: x\r\n\r\n", B)
    remove = (("x-foo", 0), ("x-none", 0), ("x-old", 1), ("x-old", -1), ("x-old", 7), ("from", 0), ("subject", 1))
    edits = fate(advised(remove=remove), mail).edits
    assert edits.remove == {"x-foo"}
    assert edits.remove_at == {("x-old", 1), ("x-old", 3)}


def test_forged_and_unwanted_fields_go_together() -> None:
    mail = message(b"X-Spam-Flag: NO\r\nX-Spam: x\r\nX-Foo: x\r\n\r\n", B)
    assert fate(advised(remove=(("x-foo", 0),)), mail).edits.remove == {"x-spam-flag", "x-foo"}


# --- when scanning is worth it


@pytest.mark.parametrize(
    ("settings", "forbidden", "expected"),
    [
        ({}, (), True),
        (WHITE, (), False),
        (BLACK, (), False),
        ({"blacklist_sender_maps": only("other@x.example")}, (), True),
        ({"bypass_spam_checks_maps": constant(True)}, (), False),
        ({"final_banned_destiny": Destiny.DISCARD}, (0, 1), False),
        ({"final_banned_destiny": Destiny.REJECT}, (0, 1), False),
        ({"final_banned_destiny": Destiny.BOUNCE}, (0, 1), True),  # the score decides whether it bounces
        ({"final_banned_destiny": Destiny.PASS}, (0, 1), True),
        ({"final_banned_destiny": Destiny.DISCARD}, (0,), True),
        ({"final_banned_destiny": Destiny.DISCARD, "bypass_spam_checks_maps": only(C)}, (0,), False),
        ({"final_banned_destiny": Destiny.REJECT, "bypass_spam_checks_maps": only(C)}, (0,), True),
        ({"final_banned_destiny": Destiny.DISCARD, "banned_files_lovers_maps": only(C)}, (0, 1), True),
    ],
)
def test_scanners_are_asked_where_a_score_can_matter(
    settings: dict[str, Any], forbidden: tuple[int, ...], expected: bool
) -> None:
    mail = message(MAIL, B, C)
    in_bank = bank(**settings)
    policies = recipient_policies(mail.envelope, in_bank.settings, mail.content)
    found = tuple(banned() if number in forbidden else None for number in range(2))
    assert needs_scan(policies, found, in_bank.settings) == expected


# --- telling


def test_tags_are_logged_at_level_2(caplog: pytest.LogCaptureFixture) -> None:
    mail = message(MAIL, B, C, "x@elsewhere.example")
    with caplog.at_level(15, "amavispy.policy"):
        decided(spam(7.0, tests=(("A", 7.0),)), mail)
    assert [record.message for record in caplog.records] == [
        "spam-tag, <a@example.org> -> <b@example.net>,<c@example.net>, Yes, score=7 tagged_above=2 required=6.31 "
        "tests=[A=7] autolearn=unavailable"
    ]
    assert logging.getLogger("amavispy.policy").isEnabledFor(logging.WARNING)


def test_nothing_untagged_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(15, "amavispy.policy"):
        decided(spam(1.0))
    assert not caplog.records


def test_a_thousand_recipients_are_rated_once() -> None:
    recipients = [Recipient(f"r{number}@example.net") for number in range(1000)]
    found = fates(spam(9.0, tests=tuple((f"T{n}", 1.0) for n in range(100))), message(MAIL, recipients=recipients))
    assert len({id(each.edits) for each in found}) == 1

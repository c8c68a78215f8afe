"""What the lookup lists say of every recipient."""

from __future__ import annotations

import logging
import time
from typing import Any

import pytest

from amavispy.mail.address import Address
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.next_hop import NextHop
from amavispy.mail.verdict import Category
from amavispy.policy.lookup import AccessList, Constant, Hash, LookupList
from amavispy.policy.recipient import Checks, RecipientPolicy, recipient_policies
from amavispy.policy.settings import Settings


class _Counting:
    """A table that answers True and counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def find(self, address: Address) -> Any | None:
        self.asked += 1
        return True


def _policies(settings: Settings, *addresses: str) -> tuple[RecipientPolicy, ...]:
    return recipient_policies(Envelope("", tuple(Recipient(address) for address in addresses)), settings)


def _policy(address: str = "user@example.com", **settings: Any) -> RecipientPolicy:
    return _policies(Settings(**settings), address)[0]


def _hash(**keys: Any) -> LookupList:
    return LookupList.of([Hash({f"{key}@example.com": value for key, value in keys.items()})])


def test_with_default_settings_everything_is_checked_and_nothing_loved() -> None:
    policy = _policy()
    assert policy.bypass == Checks()
    assert policy.loves == frozenset()
    assert (policy.tag, policy.tag2, policy.kill) == (2.0, 6.31, 6.31)
    assert (policy.dsn_cutoff, policy.quarantine_cutoff) == (10.0, None)
    assert policy.size_limit == 0
    assert policy.next_hops == (NextHop("smtp", "127.0.0.1", 10025),)


def test_policies_stand_in_the_envelopes_order_with_their_recipients() -> None:
    recipients = (Recipient("b@example.com", notify=frozenset({"NEVER"})), Recipient("a@example.com"))
    policies = recipient_policies(Envelope("", recipients), Settings())
    assert [policy.recipient for policy in policies] == list(recipients)
    assert [policy.address.path for policy in policies] == ["b@example.com", "a@example.com"]


@pytest.mark.parametrize("check", ["virus", "spam", "banned", "header"])
def test_each_check_is_bypassed_by_its_own_list(check: str) -> None:
    policy = _policy(**{f"bypass_{check}_checks_maps": LookupList.constant(True)})
    assert policy.bypass == Checks(**{check: True})


@pytest.mark.parametrize(
    ("setting", "loved"),
    [
        ("virus_lovers_maps", {Category.VIRUS}),
        ("banned_files_lovers_maps", {Category.BANNED}),
        ("unchecked_lovers_maps", {Category.UNCHECKED}),
        ("spam_lovers_maps", {Category.SPAM, Category.SPAMMY}),
        ("bad_header_lovers_maps", {Category.BADH}),
    ],
)
def test_each_love_is_told_by_its_own_list(setting: str, loved: set[Category]) -> None:
    assert _policy(**{setting: LookupList.constant(True)}).loves == loved


def test_recipients_of_one_mail_may_differ_in_everything() -> None:
    settings = Settings(
        bypass_spam_checks_maps=_hash(a=True),
        virus_lovers_maps=_hash(b=True),
        spam_tag_level_maps=_hash(a=1.0, b=-999),
        spam_tag2_level_maps=_hash(a=2.0),
        spam_kill_level_maps=_hash(a=3.0),
        spam_dsn_cutoff_level_maps=_hash(a=4.0),
        spam_quarantine_cutoff_level_maps=_hash(a=5.0),
        message_size_limit_maps=_hash(a=1000),
        smtpd_message_size_limit=2000,
    )
    a, b = _policies(settings, "a@example.com", "b@example.com")
    assert (a.bypass.spam, b.bypass.spam) == (True, False)
    assert (a.loves, b.loves) == (frozenset(), {Category.VIRUS})
    assert (a.tag, a.tag2, a.kill, a.dsn_cutoff, a.quarantine_cutoff) == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert (b.tag, b.tag2, b.kill, b.dsn_cutoff, b.quarantine_cutoff) == (-999, None, None, None, None)
    assert (a.size_limit, b.size_limit) == (1000, 2000)


def test_local_recipients_are_those_of_local_domains_and_those_without_a_domain() -> None:
    settings = Settings(local_domains_maps=LookupList.of([AccessList(("!not.example.com", ".example.com"))]))
    addresses = ["a@example.com", "a@sub.EXAMPLE.com", "a@not.example.com", "a@example.org", "postmaster"]
    assert [policy.is_local for policy in _policies(settings, *addresses)] == [True, True, False, False, True]


def test_without_local_domains_only_addresses_without_a_domain_are_local() -> None:
    assert [policy.is_local for policy in _policies(Settings(), "a@example.com", "root")] == [False, True]


def test_the_settings_say_how_an_address_is_split() -> None:
    split = _policy("User+x@example.com", recipient_delimiter="+")
    assert split.address == Address.of("User+x@example.com", delimiter="+")
    cased = _policy("User+x@example.com", localpart_is_case_sensitive=True)
    assert cased.address == Address.of("User+x@example.com", case_sensitive=True)


def test_a_zero_of_a_text_table_is_no_and_its_numbers_are_numbers() -> None:
    policy = _policy(
        bypass_virus_checks_maps=_hash(user="0"),
        virus_lovers_maps=_hash(user="0"),
        spam_kill_level_maps=_hash(user="7.5"),
        message_size_limit_maps=_hash(user="1000000"),
    )
    assert (policy.bypass, policy.loves, policy.kill) == (Checks(), frozenset(), 7.5)
    assert policy.size_limit == 1_000_000


def test_a_level_that_is_no_number_counts_as_no_opinion_and_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "amavispy.policy"):
        assert _policy(spam_kill_level_maps=_hash(user="high")).kill is None
    assert caplog.messages == ["a lookup list answers 'high' where a number is expected; ignored"]


def test_a_table_is_asked_once_a_recipient_and_not_at_all_behind_a_constant() -> None:
    asked, behind = _Counting(), _Counting()
    settings = Settings(
        bypass_virus_checks_maps=LookupList.of([asked]),
        bypass_spam_checks_maps=LookupList.of([Constant(False), behind]),
    )
    policies = _policies(settings, "a@example.com", "b@example.com")
    assert all(policy.bypass == Checks(virus=True) for policy in policies)
    assert (asked.asked, behind.asked) == (2, 0)


def test_recipients_share_what_is_the_same_for_everybody() -> None:
    first, second = _policies(Settings(), "a@example.com", "b@example.com")
    assert first.bypass is second.bypass
    assert first.loves is second.loves


def test_a_thousand_recipients_with_lists_of_their_own_take_no_noticeable_time() -> None:
    settings = Settings(
        local_domains_maps=LookupList.of([AccessList((".example.com",))]),
        spam_kill_level_maps=LookupList.of([Hash({f"user{n}@example.com": n for n in range(1000)}), Constant(5.0)]),
    )
    envelope = Envelope("", tuple(Recipient(f"user{n}@example.com") for n in range(1000)))
    best = float("inf")
    for _ in range(5):
        started = time.process_time()
        policies = recipient_policies(envelope, settings)
        best = min(best, time.process_time() - started)
    assert [policy.kill for policy in policies[:3]] == [0, 1, 2]
    assert best < 0.1, "well under 30 ms when the machine is ours alone"

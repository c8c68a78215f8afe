"""White-, black- and score lists of senders, each recipient's own before those for everybody (chapter 8.2)."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from amavispy.mail.address import Address
from amavispy.mail.message import Content
from amavispy.policy.lookup import Constant, Hash, LookupList, RegexpList
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.sender_lists import NEUTRAL, SenderLists, SenderOpinion, senders_of
from amavispy.policy.settings import Settings
from tests.making import message, only

FROM = b"From: Ann <ann@author.example>\r\nSubject: x\r\n\r\n"
B = "b@example.net"


def lists(*tables: Any) -> LookupList:
    return LookupList.of(tables)


def by_recipient(**answers: LookupList) -> LookupList:
    names = {"b": B, "domain": "example.net", "everybody": "."}
    return lists(Hash({names[name]: answer for name, answer in answers.items()}))


def points(**senders: float) -> LookupList:
    names = {"author": "ann@author.example", "sender": "s@sender.example", "sender_domain": "sender.example"}
    return lists(Hash({names[name]: score for name, score in senders.items()}))


def opinion(sender: str = "s@sender.example", header: bytes = FROM, to: str = B, **settings: Any) -> SenderOpinion:
    senders = [Address.of(path) for path in senders_of(sender, Content(header))]
    return SenderLists(senders, Settings(**settings)).opinion(Address.of(to))


WHITE, BLACK = SenderOpinion(is_white=True), SenderOpinion(is_black=True)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, NEUTRAL),
        ({"whitelist_sender_maps": only("s@sender.example")}, WHITE),
        ({"whitelist_sender_maps": only(".sender.example")}, WHITE),
        ({"whitelist_sender_maps": only("ann@author.example")}, WHITE),
        ({"whitelist_sender_maps": only("other@sender.example")}, NEUTRAL),
        ({"blacklist_sender_maps": only("S@SENDER.example")}, BLACK),
        ({"blacklist_sender_maps": only("!s@sender.example", ".sender.example")}, NEUTRAL),
        ({"blacklist_sender_maps": lists(RegexpList(((r"@author\.", True),)))}, BLACK),
        (
            {"blacklist_sender_maps": only(".example"), "whitelist_sender_maps": only("s@sender.example")},
            SenderOpinion(is_white=True, is_black=True),
        ),
        # The first sender that is listed decides; the author is not asked about any more.
        (
            {
                "blacklist_sender_maps": only("ann@author.example"),
                "whitelist_sender_maps": only("s@sender.example"),
            },
            WHITE,
        ),
    ],
)
def test_lists_for_everybody(settings: dict[str, Any], expected: SenderOpinion) -> None:
    assert opinion(**settings) == expected


def test_a_recipients_own_tables_are_asked_first() -> None:
    settings: dict[str, Any] = {
        "per_recip_blacklist_sender_lookup_tables": by_recipient(b=only("!s@sender.example", "x@y.example")),
        "blacklist_sender_maps": only(".example"),
    }
    assert opinion(**settings, header=b"\r\n") == NEUTRAL
    assert opinion(**settings, header=b"\r\n", sender="x@y.example") == BLACK
    assert opinion(**settings, header=b"\r\n", sender="z@y.example") == BLACK
    assert opinion(**settings, header=b"\r\n", to="c@example.net") == BLACK


def test_a_recipients_own_whitelist() -> None:
    settings: dict[str, Any] = {"per_recip_whitelist_sender_lookup_tables": by_recipient(b=only(".sender.example"))}
    assert opinion(**settings) == WHITE
    assert opinion(**settings, to="c@example.net") == NEUTRAL


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"everybody": points(sender=3.0)}, 3.0),
        ({"everybody": points(sender=3.0), "domain": points(sender_domain=-1.0), "b": points(author=50.0)}, 2.0),
        ({"everybody": points(author=-2.5)}, -2.5),
        ({"everybody": points(sender=3.0, author=10.0)}, 3.0),  # the second sender adds nothing
        ({"b": lists(Hash({"sender.example": 1.0}), Hash({"s@sender.example": 9.0}))}, 1.0),  # first match in each list
        ({"everybody": points(sender=0.0, author=4.0)}, 4.0),
        ({}, 0.0),
    ],
)
def test_points_of_all_tables_that_fit_the_recipient_add_up(tables: dict[str, LookupList], expected: float) -> None:
    found = opinion(score_sender_maps=by_recipient(**tables))
    assert found == SenderOpinion(points=expected)


def test_several_score_maps_all_count() -> None:
    maps = lists(
        Hash({".": points(sender=1.0)}), RegexpList(((r"^b@", points(sender=2.0)),)), Constant(points(sender=4.0))
    )
    assert opinion(score_sender_maps=maps).points == 7.0


def test_every_author_of_every_from_field_counts() -> None:
    header = b"From: x@y.example, ann@author.example\r\nFrom: bob@second.example\r\n\r\n"
    for author in ("ann@author.example", "bob@second.example"):
        assert opinion(header=header, blacklist_sender_maps=only(author)).is_black


def test_the_null_sender_may_be_listed_by_what_matches_everybody_only() -> None:
    assert opinion(sender="", header=b"\r\n", blacklist_sender_maps=only(".")).is_black
    assert not opinion(sender="", header=b"\r\n", blacklist_sender_maps=only(".example")).is_black


def test_a_display_name_is_no_author() -> None:
    header = b'From: "ann@author.example" <spammer@bad.example>\r\n\r\n'
    assert opinion(header=header, whitelist_sender_maps=only("ann@author.example")) == NEUTRAL


def test_recipients_with_the_same_tables_are_answered_once() -> None:
    asked: list[str] = []

    class Counting:
        def find(self, address: Address) -> bool | None:
            asked.append(address.path)
            return None

    settings = Settings(whitelist_sender_maps=lists(Counting()))
    found = recipient_policies(
        message(FROM, *(f"r{n}@example.net" for n in range(500))).envelope, settings, Content(FROM)
    )
    assert {policy.sender for policy in found} == {NEUTRAL}
    assert asked == ["a@example.org", "ann@author.example"]


def test_policies_carry_the_opinion_only_when_there_are_lists() -> None:
    envelope = message(FROM).envelope
    settings = Settings(whitelist_sender_maps=only("ann@author.example"))
    assert recipient_policies(envelope, settings, Content(FROM))[0].sender == WHITE
    assert recipient_policies(envelope, settings)[0].sender == NEUTRAL


def test_what_was_listed_is_told_at_level_2(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(15, "amavispy.policy"):
        opinion(score_sender_maps=by_recipient(everybody=points(sender=-3.0)), blacklist_sender_maps=only(".example"))
    assert [record.message for record in caplog.records] == [
        "wbl: blacklisted sender <s@sender.example>,<ann@author.example> => <b@example.net>",
        "wbl: soft-whitelisted (-3) sender <s@sender.example>,<ann@author.example> => <b@example.net>",
    ]
    assert logging.getLevelName(caplog.records[0].levelno)

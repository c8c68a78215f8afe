"""What databases know of people: keys, columns as answers, and one question a message."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from amavispy.mail.address import Address
from amavispy.mail.message import Content
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.policy.bank import Banks, NamedBank
from amavispy.policy.directory import NUMBER, TEXT, TRUTH, WBLIST, Field, keys_of, truth, wanted
from amavispy.policy.lookup import Constant, Hash, LookupList
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import Settings
from amavispy.tables.directory import Databases
from tests.making import message

Row = Mapping[str, Any]


def knowing(*rows: Row, path: str = "ann@example.org", source: str = "sql") -> Address:
    return Address.of(path).knowing({source: rows})


@pytest.mark.parametrize(
    ("path", "is_local", "keys"),
    [
        (
            "User+Foo@Sub.Example.COM", True,
            ("User+Foo@Sub.Example.COM", "user+foo@sub.example.com", "user@sub.example.com", "user+foo", "user",
             "@sub.example.com", "@.sub.example.com", "@.example.com", "@.com", "@."),
        ),
        ("user@example.com", False, ("user@example.com", "@example.com", "@.example.com", "@.com", "@.")),
        ('"a b"@example.org', False, ("a b@example.org", "@example.org", "@.example.org", "@.org", "@.")),
        ("x@[192.0.2.1]", False, ("x@[192.0.2.1]", "@[192.0.2.1]", "@.")),
        ("postmaster", True, ("postmaster", "postmaster@", "@", "@.")),
        ("", False, ("", "@", "@.")),
    ],
)  # fmt: skip
def test_keys_of_databases_from_particular_to_general(path: str, is_local: bool, keys: tuple[str, ...]) -> None:
    assert keys_of(Address.of(path, delimiter="+"), is_local=is_local) == keys


def test_keys_may_be_written_as_those_of_hash_tables() -> None:
    address = Address.of("user+foo@example.com", delimiter="+")
    assert keys_of(address, is_local=True, no_at_means_domain=True) == address.keys


def test_a_hostile_domain_has_few_keys() -> None:
    assert len(keys_of(Address.of("a@" + "x." * 1000 + "y"), is_local=False)) < 25


@pytest.mark.parametrize(
    "value", ["N", "n", "F", "f", "0", "00", " ", "", "\0", "N  ", "false", "FALSE", "no", 0, False, 0.0]
)
def test_these_values_are_false(value: Any) -> None:
    assert truth(value) is False


@pytest.mark.parametrize("value", ["Y", "y", "T", "1", "yes", "TRUE", "x", "01", "none", 1, True])
def test_all_others_are_true(value: Any) -> None:
    assert truth(value) is True


def test_the_first_row_with_a_defined_value_answers() -> None:
    address = knowing({"level": None}, {}, {"level": 0.0}, {"level": 5})
    assert Field("sql", "Level", NUMBER).find(address) == 0.0
    assert Field("sql", "level", NUMBER).find_all(address) == [0.0, 5]
    assert Field("ldap", "level", NUMBER).find(address) is None
    assert Field("sql", "level", NUMBER).find(Address.of("ann@example.org")) is None


def test_texts_and_numbers_are_read_as_such(caplog: pytest.LogCaptureFixture) -> None:
    assert Field("sql", "a", TEXT).find(knowing({"a": ""})) == ""
    assert Field("sql", "a", TEXT).find(knowing({"a": 7})) == "7"
    assert Field("sql", "a", NUMBER).find(knowing({"a": " 4.5 "})) == 4.5
    assert Field("sql", "a", NUMBER).find(knowing({"a": Decimal("4.25")})) == 4.25
    with caplog.at_level(logging.WARNING):
        assert Field("sql", "a", NUMBER).find(knowing({"a": "much"}, {"a": 3})) == 3
    assert caplog.messages == ["sql: a answers 'much' where a number is expected; ignored"]


def test_a_row_without_the_column_may_have_an_answer() -> None:
    local = Field("sql", "local", TRUTH, True)
    assert local.find(knowing({"id": 1})) is True
    assert local.find(knowing({"local": None}, {"local": "N"})) is False
    assert local.find(knowing({"local": None})) is None


class FakeSource:
    """Rows by path; counts what it is asked."""

    def __init__(self, rows: Mapping[str, Sequence[Row]], wb: Sequence[Row] = ()) -> None:
        self.rows = rows
        self.wb = wb
        self.asked: list[list[str]] = []

    def fetch(self, addresses: Sequence[Address], settings: Settings) -> list[tuple[Row, ...]]:
        self.asked.append([address.path for address in addresses])
        return [tuple(self.rows.get(address.path, ())) for address in addresses]

    def listings(
        self, recipients: Sequence[tuple[Row, ...]], senders: Sequence[Address], settings: Settings
    ) -> list[tuple[Row, ...]]:
        return [tuple(self.wb) if rows else () for rows in recipients]


TAG2 = LookupList.of([Field("sql", "tag2", NUMBER), Constant(6.31)])


def test_recipients_get_their_answers_by_one_question() -> None:
    source = FakeSource({"b@example.net": [{"tag2": 3.0}]})
    mail = message(b"", "b@example.net", "c@example.net", "d@example.net")
    policies = recipient_policies(
        mail.envelope, Settings(spam_tag2_level_maps=TAG2), mail.content, Databases({"sql": source})
    )
    assert [policy.tag2 for policy in policies] == [3.0, 6.31, 6.31]
    assert source.asked == [["b@example.net", "c@example.net", "d@example.net"]]


def test_senders_are_asked_for_where_a_list_of_senders_needs_them() -> None:
    source = FakeSource({"a@example.org": [{"black": "Y"}]})
    settings = Settings(blacklist_sender_maps=LookupList.of([Field("sql", "black", TRUTH)]))
    mail = message()
    (policy,) = recipient_policies(mail.envelope, settings, mail.content, Databases({"sql": source}))
    assert policy.sender.is_black
    assert source.asked == [["a@example.org"]]


def test_inner_lists_of_senders_need_them_too() -> None:
    inner = LookupList.of([Field("redis", "x", TRUTH)])
    found = wanted(Settings(per_recip_whitelist_sender_lookup_tables=LookupList.of([Hash({".": inner})])))
    assert (found.recipients, found.senders) == (frozenset(), {"redis"})


def test_without_columns_nobody_is_asked() -> None:
    source = FakeSource({})
    mail = message()
    recipient_policies(mail.envelope, Settings(), mail.content, Databases({"sql": source}))
    assert source.asked == []


def rows_of(source: str, *values: str, sender: str = "a@example.org") -> list[Row]:
    return [{"sender": sender, "wb": value, "source": source} for value in values]


@pytest.mark.parametrize(
    ("rows", "is_white", "is_black", "points"),
    [
        (rows_of("sql", "W"), True, False, 0.0),
        (rows_of("sql", "b "), False, True, 0.0),
        (rows_of("sql", "Y", "B"), True, False, 0.0),
        (rows_of("sql", "anything"), True, False, 0.0),
        (rows_of("sql", "-2.5", "1", "N"), False, True, -1.5),
        (rows_of("sql", "3"), True, False, 3.0),
        (rows_of("sql", " ", "B"), False, False, 0.0),
        (rows_of("ldap", "B", "W"), True, True, 0.0),
        ([*rows_of("sql", " "), *rows_of("ldap", "B")], False, False, 0.0),
        ([*rows_of("sql", "1"), *rows_of("ldap", "B")], False, True, 1.0),
        (rows_of("sql", "B", sender="other@example.org"), True, False, 0.0),
    ],
)
def test_what_databases_say_of_a_sender_comes_before_the_static_lists(
    rows: list[Row], is_white: bool, is_black: bool, points: float
) -> None:
    source = FakeSource({"b@example.net": [{"id": 1}]}, rows)
    settings = Settings(spam_tag2_level_maps=TAG2, whitelist_sender_maps=LookupList.constant(True))
    mail = message()
    (policy,) = recipient_policies(mail.envelope, settings, mail.content, Databases({"sql": source}))
    assert policy.address.records[WBLIST] == tuple(rows)
    assert (policy.sender.is_white, policy.sender.is_black, policy.sender.points) == (is_white, is_black, points)


def test_the_senders_cutoff_may_stand_in_a_database() -> None:
    maps = LookupList.of([Field("sql", "cutoff", NUMBER)])
    source = FakeSource({"a@example.org": [{"cutoff": 2.0}]})
    mail = message()
    settings = Settings(spam_dsn_cutoff_level_bysender_maps=maps)
    (policy,) = recipient_policies(mail.envelope, settings, Content(b""), Databases({"sql": source}))
    assert policy.sender_address is not None
    assert maps.find(policy.sender_address) == 2.0


def test_a_sender_found_in_a_database_is_a_user_of_ours() -> None:
    local = LookupList.of([Field("sql", "local", TRUTH, True)])
    banks = Banks(Settings(originating=True, local_domains_maps=local), {"MYUSERS": NamedBank("MYUSERS", {})})
    assert banks.for_sender(banks.base, "ann@example.org").name == ""
    banks.directory = Databases({"sql": FakeSource({"ann@example.org": [{"id": 1}]})})
    assert banks.for_sender(banks.base, "ann@example.org").name == "MYUSERS"
    assert banks.for_sender(banks.base, "bob@example.org").name == ""


def test_a_database_that_does_not_answer_defers_the_mail() -> None:
    class Dead(FakeSource):
        def fetch(self, addresses: Sequence[Address], settings: Settings) -> list[tuple[Row, ...]]:
            raise TemporaryFailure(Reply(451, "4.5.0", "Error in processing, lookup_sql FAILED"))

    mail = message()
    with pytest.raises(TemporaryFailure):
        recipient_policies(
            mail.envelope, Settings(spam_tag2_level_maps=TAG2), mail.content, Databases({"sql": Dead({})})
        )

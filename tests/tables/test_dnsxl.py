"""Blocklists: which names are asked, which answers count, and how a name server is asked."""

from __future__ import annotations

import socket
import time

import pytest

from amavispy.mail.address import Address
from amavispy.mail.reply import TemporaryFailure
from amavispy.policy.bank import Banks, NamedBank
from amavispy.policy.blocklist import Blocklist, Blocklisted
from amavispy.policy.lookup import IpTable, LookupList
from amavispy.policy.settings import ClientRule, Settings
from amavispy.tables.directory import Databases
from amavispy.tables.dnsxl import BlocklistResolver
from tests.tables.fake_dns import FakeNameServer

ZEN = Blocklist(("zen.example",))


@pytest.mark.parametrize(
    ("expected", "answers", "is_listed"),
    [
        (("127.0.0.2",), ["127.0.0.2"], True),
        (("127.0.0.2",), ["127.0.0.3", "127.0.0.2"], True),
        (("127.0.0.2",), ["127.0.0.22"], False),
        (("127.0.0.2",), [], False),
        (("2",), ["127.0.1.2"], True),
        (("2",), ["127.0.1.12"], False),
        (("1.2", "9"), ["127.0.1.2"], True),
        (("1.2", "9"), ["127.0.11.2"], False),
        (("/^127\\.0\\.0\\.[4-7]$/",), ["127.0.0.6"], True),
        (("2",), ["192.0.2.2"], False),
        (("127.0.0.2",), ["127.255.255.254"], False),
    ],
)
def test_answers_of_127_that_are_expected_mean_listed(
    expected: tuple[str, ...], answers: list[str], is_listed: bool
) -> None:
    assert Blocklist(("zen.example",), expected).lists(answers) is is_listed


@pytest.mark.parametrize(
    ("ip", "name"),
    [
        ("192.0.2.1", "1.2.0.192.zen.example"),
        ("::ffff:192.0.2.1", "1.2.0.192.zen.example"),
        ("2001:db8::1", "1." + "0." * 23 + "8.b.d.0.1.0.0.2.zen.example"),
    ],
)
def test_the_name_for_a_client_is_its_reverse(ip: str, name: str) -> None:
    assert ZEN.names_for(ip) == [name]


def test_an_unknown_client_is_asked_nothing() -> None:
    assert ZEN.names_for(None) == ZEN.names_for("unknown") == []


def test_a_zone_may_say_where_the_address_goes() -> None:
    assert Blocklist(("key.%a.zen.example",)).names_for("192.0.2.1") == ["key.1.2.0.192.zen.example"]


@pytest.mark.parametrize("path", ["", "postmaster", "a@localhost", "a@[192.0.2.1]", "a@\udce4.example"])
def test_an_address_without_a_domain_of_dns_is_asked_nothing(path: str) -> None:
    assert ZEN.domains_for(Address.of(path)) == []


def test_all_names_are_asked_at_the_same_time_and_remembered() -> None:
    with FakeNameServer({"a.zen.example": ["127.0.0.2", "127.0.0.3"]}) as server:
        resolver = BlocklistResolver([server.address])
        for names in (["a.zen.example", "b.zen.example", "a.zen.example"], ["b.zen.example", "a.zen.example"]):
            found = resolver.ask(names)
            assert sorted(found["a.zen.example"]) == ["127.0.0.2", "127.0.0.3"]
            assert found["b.zen.example"] == ()
        assert sorted(server.asked) == ["a.zen.example", "b.zen.example"]


def test_answers_are_forgotten_when_they_say_so() -> None:
    now = [time.monotonic()]
    with FakeNameServer({"a.zen.example": ["127.0.0.2"]}, ttl=300) as server:
        resolver = BlocklistResolver([server.address], clock=lambda: now[0])
        for moment, count in ((0, 2), (299, 2), (301, 4)):
            now[0] = time.monotonic() + moment
            resolver.ask(["a.zen.example", "b.zen.example"])
            assert len(server.asked) == count


def test_a_long_answer_is_fetched_by_tcp() -> None:
    with FakeNameServer({"a.zen.example": ["LONG", "127.0.0.2"]}) as server:
        assert BlocklistResolver([server.address]).ask(["a.zen.example"]) == {"a.zen.example": ("127.0.0.2",)}


def test_an_answer_to_another_question_is_passed_over() -> None:
    with FakeNameServer({"a.zen.example": ["STRANGER", "127.0.0.4"]}) as server:
        assert BlocklistResolver([server.address]).ask(["a.zen.example"]) == {"a.zen.example": ("127.0.0.4",)}


@pytest.mark.parametrize("trouble", ["SERVFAIL", "SILENT"])
def test_no_answer_is_unknown_and_unknown_defers_the_mail(trouble: str, caplog: pytest.LogCaptureFixture) -> None:
    with FakeNameServer({"a.zen.example": [trouble]}) as server:
        with pytest.raises(TemporaryFailure) as caught:
            BlocklistResolver([server.address], seconds=0.1).ask(["a.zen.example", "b.zen.example"])
        assert server.asked.count("a.zen.example") == 3
        assert server.asked.count("b.zen.example") == 1
    assert str(caught.value.reply) == "451 4.5.0 Error in processing, lookup_dnsxl FAILED"
    assert len(caplog.records) == 1


def test_another_server_is_asked_when_one_is_silent_or_gone() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        gone.bind(("127.0.0.1", 0))
        nobody = gone.getsockname()
    with (
        FakeNameServer({"a.zen.example": ["SILENT"]}) as silent,
        FakeNameServer({"a.zen.example": ["127.0.0.2"]}) as other,
    ):
        for first in (nobody, silent.address):
            resolver = BlocklistResolver([first, other.address], seconds=0.2)
            assert resolver.ask(["a.zen.example"]) == {"a.zen.example": ("127.0.0.2",)}


@pytest.mark.parametrize(
    "name", ["a" * 64 + ".zen.example", "a..zen.example", "a." * 130 + "zen.example", "\\300.zen.example"]
)
def test_what_dns_cannot_name_is_in_no_list(name: str) -> None:
    assert BlocklistResolver([("127.0.0.1", 9)]).ask([name]) == {name: ()}


def test_many_names_are_asked_in_portions() -> None:
    with FakeNameServer({"n7.zen.example": ["127.0.0.2"]}) as server:
        found = BlocklistResolver([server.address]).ask([f"n{n}.zen.example" for n in range(250)])
    assert [name for name, answers in found.items() if answers] == ["n7.zen.example"]


def test_a_domain_in_a_blocklist_is_true_in_a_list_of_senders() -> None:
    settings = Settings(blacklist_sender_maps=LookupList.of([Blocklisted(ZEN)]))
    with FakeNameServer({"bad.example.zen.example": ["127.0.0.2"]}) as server:
        directory = Databases({}, BlocklistResolver([server.address]))
        people = [Address.of(path) for path in ("x@bad.example", "x@good.example", "")]
        (recipient,), senders = directory.know([Address.of("b@bad.example")], people, settings)
        assert [settings.blacklist_sender_maps.find(sender) for sender in senders] == [True, None, None]
        assert recipient.records == {}
        assert sorted(server.asked) == ["bad.example.zen.example", "good.example.zen.example"]


def test_a_client_in_a_blocklist_gets_its_policy_bank() -> None:
    rules = (
        ClientRule(IpTable.of(("10.0.0.0/8", "!192.0.2.3")), ("LISTED",), dnsxl=ZEN),
        ClientRule(IpTable.of(("0.0.0.0/0",)), ("OTHERS",)),
    )
    banks = Banks(Settings(client_ipaddr_policy=rules), {name: NamedBank(name, {}) for name in ("LISTED", "OTHERS")})
    clients = ("10.1.2.3", "192.0.2.1", "192.0.2.2", "192.0.2.3", None)
    assert [banks.for_client(banks.base, client).name for client in clients] == ["LISTED", *["OTHERS"] * 4]
    with FakeNameServer({f"{n}.2.0.192.zen.example": ["127.0.0.2"] for n in (1, 3)}) as server:
        banks.directory = Databases({}, BlocklistResolver([server.address]))
        names = [banks.for_client(banks.base, client).name for client in clients]
        assert names == ["LISTED", "LISTED", "OTHERS", "OTHERS", "OTHERS"]
        assert sorted(server.asked) == ["1.2.0.192.zen.example", "2.2.0.192.zen.example"]

"""Policy banks: what is loaded, in which order, by which rule, and which bank set which setting."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Connection
from amavispy.policy.bank import Banks, NamedBank, PolicyBank
from amavispy.policy.lookup import AccessList, IpTable, LookupList
from amavispy.policy.settings import ClientRule, Settings

_TCP = Connection("[::1]:10026", peer="::1", local="::1", local_port=10026, interface="lo")
_SOCK = Connection("/run/amavisd.sock")
_LOCAL = LookupList.of([AccessList((".example.com",))])


def _banks(base: Settings | None = None, /, interface: dict[str, tuple[str, ...]] | None = None, **named: Any) -> Banks:
    """Banks whose names are the keywords; a double underscore stands for a hyphen."""
    banks = (NamedBank(name.replace("__", "-"), overrides) for name, overrides in named.items())
    return Banks(base or Settings(), {bank.name: bank for bank in banks}, interface or {})


def _rules(*rules: tuple[list[str], list[str], bool]) -> Settings:
    return Settings(client_ipaddr_policy=tuple(ClientRule(IpTable.of(n), tuple(b), also) for n, b, also in rules))


# -- loading one bank over another


def test_a_bank_replaces_what_it_names_and_leaves_the_rest() -> None:
    loaded = PolicyBank(Settings(log_level=2)).overlaid_with(NamedBank("A", {"final_spam_destiny": Destiny.REJECT}))
    assert loaded.settings == Settings(log_level=2, final_spam_destiny=Destiny.REJECT)


def test_the_bank_under_another_stays_as_it_is() -> None:
    base = PolicyBank(Settings())
    base.overlaid_with(NamedBank("A", {"log_level": 5}))
    assert (base.settings, base.path, dict(base.origins)) == (Settings(), (), {})


def test_every_setting_remembers_the_bank_that_set_it_last() -> None:
    banks = _banks(A={"log_level": 1, "originating": True}, B={"log_level": 2})
    loaded = banks.restore(("A", "B"))
    assert loaded.settings.log_level == 2
    assert dict(loaded.origins) == {"log_level": "B", "originating": "A"}


def test_the_names_of_the_banks_make_the_path() -> None:
    loaded = _banks(AM_PDP={}, MYNETS={}).restore(("AM_PDP", "MYNETS"))
    assert loaded.path == ("AM_PDP", "MYNETS")
    assert loaded.name == "AM_PDP/MYNETS"
    assert PolicyBank(Settings()).name == ""


def test_the_bank_that_was_loaded_last_is_not_loaded_again() -> None:
    banks = _banks(A={"log_level": 1}, B={})
    assert banks.restore(("A", "A", "B", "A")).path == ("A", "B", "A")


def test_mynets_originates_unless_it_says_otherwise() -> None:
    plain = _banks(MYNETS={"log_level": 1}).restore(("MYNETS",))
    assert plain.settings.originating
    assert plain.origins["originating"] == "MYNETS"
    assert not _banks(MYNETS={"originating": False}).restore(("MYNETS",)).settings.originating
    assert not _banks(OTHERS={"log_level": 1}).restore(("OTHERS",)).settings.originating


def test_a_lookup_list_is_replaced_as_a_whole() -> None:
    base = Settings(spam_lovers_maps=LookupList.of([AccessList((".",))]))
    loaded = _banks(base, A={"spam_lovers_maps": LookupList.constant(False)}).restore(("A",))
    assert loaded.settings.spam_lovers_maps == LookupList.constant(False)


def test_a_setting_that_no_bank_can_override_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match='policy bank "A": unknown setting max_servers, nonsense'):
        NamedBank("A", {"nonsense": 1, "max_servers": 2, "log_level": 3})


# -- by interface


def test_a_unix_socket_gets_the_banks_of_sock_and_then_of_its_path() -> None:
    banks = _banks(interface={"/run/amavisd.sock": ("B",), "SOCK": ("A",)}, A={}, B={})
    assert banks.for_interface(_SOCK).path == ("A", "B")
    assert banks.for_interface(Connection("/run/other.sock")).path == ("A",)
    assert banks.for_interface(_TCP).path == ()


def test_a_tcp_socket_gets_the_banks_of_port_address_and_interface_in_this_order() -> None:
    banks = _banks(interface={"lo:10026": ("C",), "[::1]:10026": ("B",), "10026": ("A",)}, A={}, B={}, C={})
    assert banks.for_interface(_TCP).path == ("A", "B", "C")


def test_an_ipv4_address_stands_without_brackets() -> None:
    banks = _banks(interface={"192.0.2.1:25": ("A",)}, A={})
    assert banks.for_interface(Connection("*:25", local="192.0.2.1", local_port=25)).path == ("A",)
    assert banks.for_interface(Connection("*:25", local="192.0.2.2", local_port=25)).path == ()


def test_the_listen_socket_as_written_is_a_key_too() -> None:
    banks = _banks(interface={"*:25": ("B",), "25": ("A",)}, A={}, B={})
    assert banks.for_interface(Connection("*:25", local="192.0.2.1", local_port=25)).path == ("A", "B")


def test_one_interface_may_have_several_banks() -> None:
    banks = _banks(interface={"10026": ("A", "B")}, A={"log_level": 1}, B={"log_level": 2})
    loaded = banks.for_interface(_TCP)
    assert loaded.path == ("A", "B")
    assert loaded.settings.log_level == 2


def test_an_interface_without_an_entry_gets_the_base_bank_itself() -> None:
    banks = _banks(interface={"9998": ("A",)}, A={})
    assert banks.for_interface(_TCP) is banks.base


def test_a_bank_that_is_not_defined_loads_nothing() -> None:
    banks = _banks(interface={"10026": ("GONE", "A")}, A={})
    assert banks.for_interface(_TCP).path == ("A",)


# -- by client


def test_the_first_rule_that_matches_the_client_counts() -> None:
    base = _rules((["192.0.2.1"], ["A"], False), (["192.0.2.0/24"], ["B"], False), (["::/0"], ["C"], False))
    banks = _banks(base, A={}, B={}, C={})
    assert banks.for_client(banks.base, "192.0.2.1").path == ("A",)
    assert banks.for_client(banks.base, "192.0.2.2").path == ("B",)
    assert banks.for_client(banks.base, "2001:db8::1").path == ("C",)


def test_a_later_rule_with_also_adds_its_banks() -> None:
    base = _rules(
        (["192.0.2.1"], ["A"], False),
        (["192.0.2.0/24"], ["B"], False),
        (["192.0.0.0/8"], ["C", "D"], True),
        (["10.0.0.0/8"], ["E"], True),
        (["::/0"], ["F"], True),
    )
    banks = _banks(base, A={}, B={}, C={}, D={}, E={}, F={})
    assert banks.for_client(banks.base, "192.0.2.1").path == ("A", "C", "D", "F")
    assert banks.for_client(banks.base, "203.0.113.1").path == ("F",)


def test_a_rule_with_also_that_matches_first_is_the_first_match() -> None:
    base = _rules((["192.0.2.1"], ["A"], True), (["192.0.2.0/24"], ["B"], False))
    banks = _banks(base, A={}, B={})
    assert banks.for_client(banks.base, "192.0.2.1").path == ("A",)


def test_an_excluded_client_goes_on_to_the_next_rule() -> None:
    base = _rules((["!172.16.1.0/24", "172.16.0.0/12"], ["PRIVATE"], False), (["172.16.0.0/16"], ["NEXT"], False))
    banks = _banks(base, PRIVATE={}, NEXT={})
    assert banks.for_client(banks.base, "172.16.2.1").path == ("PRIVATE",)
    assert banks.for_client(banks.base, "172.16.1.1").path == ("NEXT",)


def test_an_unknown_client_is_not_local() -> None:
    base = _rules((["0.0.0.0/8", "127.0.0.1/32", "::", "::1"], ["LOCALHOST"], False), (["::/0"], ["ALL"], False))
    banks = _banks(base, LOCALHOST={"originating": True}, ALL={})
    assert banks.for_client(banks.base, None).path == ("ALL",)


def test_an_interface_bank_can_switch_the_rules_for_clients_off() -> None:
    banks = _banks(
        _rules((["::/0"], ["A"], False)),
        interface={"10026": ("DEAF",)},
        A={},
        DEAF={"client_ipaddr_policy": ()},
    )
    assert banks.for_client(banks.for_interface(_TCP), "192.0.2.1").path == ("DEAF",)


def test_an_interface_bank_can_bring_rules_of_its_own() -> None:
    own = (ClientRule(IpTable.of(["192.0.2.1"]), ("B",)),)
    banks = _banks(
        _rules((["::/0"], ["A"], False)), interface={"10026": ("OWN",)}, A={}, B={}, OWN={"client_ipaddr_policy": own}
    )
    assert banks.for_client(banks.for_interface(_TCP), "192.0.2.1").path == ("OWN", "B")


# -- by names, by sender


@pytest.mark.parametrize("names", [["A", "B"], ["A,B"], [" A , ,B,"], ["A,NONE", "B"]])
def test_names_asked_for_may_come_as_comma_lists(names: list[str]) -> None:
    banks = _banks(A={}, B={})
    assert banks.for_names(banks.base, names).path == ("A", "B")


def test_an_undefined_name_is_only_a_note_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    banks = _banks(A={})
    with caplog.at_level(logging.DEBUG, "amavispy.policy"):
        assert banks.for_names(banks.base, ["SMTP_AUTH"]) is banks.base
    assert caplog.messages == ['policy bank "SMTP_AUTH" does not exist, ignored']


def test_a_client_cannot_make_a_path_without_end() -> None:
    banks = _banks(A={}, B={})
    assert len(banks.for_names(banks.base, ["A,B," * 10_000]).path) <= 100


@pytest.mark.parametrize(
    ("sender", "path"),
    [
        ("user@example.com", ("A", "MYUSERS")),
        ("user@host.EXAMPLE.com", ("A", "MYUSERS")),
        ("user@example.org", ("A",)),
        ("", ("A",)),
    ],
)
def test_a_local_sender_of_originating_mail_gets_myusers(sender: str, path: tuple[str, ...]) -> None:
    banks = _banks(Settings(local_domains_maps=_LOCAL), A={"originating": True}, MYUSERS={})
    assert banks.for_sender(banks.restore(("A",)), sender).path == path


def test_mail_from_outside_never_gets_myusers() -> None:
    banks = _banks(Settings(local_domains_maps=_LOCAL), MYUSERS={})
    assert banks.for_sender(banks.base, "user@example.com") is banks.base


def test_myusers_needs_not_exist() -> None:
    banks = _banks(Settings(local_domains_maps=_LOCAL, originating=True))
    assert banks.for_sender(banks.base, "user@example.com") is banks.base


# -- restoring and remembering


def test_a_bank_comes_back_the_same_from_its_path() -> None:
    base = _rules((["192.0.2.1"], ["B", "C"], False))
    banks = _banks(base, interface={"10026": ("A",)}, A={"log_level": 1}, B={"log_level": 2}, C={"originating": True})
    loaded = banks.for_client(banks.for_interface(_TCP), "192.0.2.1")
    assert banks.restore(loaded.path) == loaded
    assert banks.restore(()) is banks.base


def test_a_bank_that_a_reload_removed_is_left_out_of_a_restored_path() -> None:
    assert _banks(A={}, C={}).restore(("A", "GONE", "C")).path == ("A", "C")


def test_what_was_made_once_is_handed_out_again() -> None:
    base = _rules((["192.0.2.0/24"], ["B"], False))
    banks = _banks(base, interface={"10026": ("A",)}, A={}, B={})
    first = banks.for_client(banks.for_interface(_TCP), "192.0.2.1")
    assert banks.for_client(banks.for_interface(_TCP), "192.0.2.2") is first


def test_a_client_that_names_banks_in_every_order_does_not_fill_the_memory() -> None:
    banks = _banks(A={"log_level": 1}, B={"log_level": 2})
    for number in range(3000):
        names = [letter for bit in f"{number:b}" for letter in ("A" if bit == "0" else "B")]
        loaded = banks.for_names(banks.base, names)
        assert loaded.settings.log_level == (1 if names[-1] == "A" else 2)
    assert len(banks._known) <= 1000

"""Network tables: the first match in list order counts, whatever the entries and however many."""

from __future__ import annotations

import random
import time
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.policy.ip_table import IpTable

# Few different networks and addresses close to one another, so that most of them nest and meet.
_FOURS = st.integers(0, 15).map(lambda n: IPv4Address(0x0A000000 | n << 20 | n))
_SIXES = st.integers(0, 15).map(lambda n: IPv6Address(0x20010DB8 << 96 | n << 92 | n << 62 | n))
_LOW_SIXES = st.integers(0, 3).map(IPv6Address)
_ANY_ADDRESS = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), _FOURS, _SIXES, _LOW_SIXES).map(str)


def _network(address: IPv4Address | IPv6Address, length: int, bangs: int) -> str:
    return "!" * bangs + f"{address}/{length}"


_ENTRIES = st.lists(
    st.one_of(
        st.builds(_network, _FOURS, st.integers(0, 32), st.integers(0, 2)),
        st.builds(_network, _SIXES, st.integers(0, 128), st.integers(0, 2)),
        st.builds(_network, _LOW_SIXES, st.integers(60, 128), st.integers(0, 2)),
        st.builds(_network, st.just(IPv6Address("::ffff:10.1.0.0")), st.integers(80, 128), st.integers(0, 2)),
    ),
    max_size=12,
)


def _mapped(text: str) -> int:
    address = ip_address(text)
    return int(address) if address.version == 6 else 0xFFFF << 32 | int(address)


def _first_match(entries: list[str], ip: str) -> str | None:
    """The plain reading of the specification: entry after entry, IPv4 as IPv4-mapped IPv6."""
    for entry in entries:
        address, _, length = entry.lstrip("!").partition("/")
        prefix = int(length) + (0 if ":" in address else 96)
        if _mapped(address) >> 128 - prefix == _mapped(ip) >> 128 - prefix:
            return entry
    return None


@given(_ENTRIES, _ANY_ADDRESS)
def test_agrees_with_reading_the_list_entry_by_entry(entries: list[str], ip: str) -> None:
    table = IpTable.of(entries)
    decisive = _first_match(entries, ip)
    expected = None if decisive is None else (len(decisive) - len(decisive.lstrip("!"))) % 2 == 0
    assert table.find(ip) is expected
    assert table.contains(ip) is (expected is True)
    assert table.matching(ip) == decisive


@given(st.lists(st.one_of(st.builds(_network, _FOURS, st.integers(0, 32), st.just(0))), min_size=1), _FOURS)
def test_agrees_with_the_standard_library_on_what_a_network_holds(entries: list[str], ip: IPv4Address) -> None:
    assert IpTable.of(entries).contains(str(ip)) == any(ip in ip_network(entry, strict=False) for entry in entries)


@given(_ENTRIES)
def test_every_edge_of_a_network_falls_on_the_right_side(entries: list[str]) -> None:
    table = IpTable.of(entries)
    for entry in entries:
        network = ip_network(entry.lstrip("!"), strict=False)
        for number in (int(network[0]) - 1, int(network[0]), int(network[-1]), int(network[-1]) + 1):
            if 0 <= number < 1 << network.max_prefixlen:
                ip = str(type(network[0])(number))
                assert table.matching(ip) == _first_match(entries, ip)


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("192.0.2.77/24", "192.0.2.1", "192.0.3.0"),
        ("192.0.2.0/255.255.255.0", "192.0.2.255", "192.0.3.0"),
        ("10", "10.255.255.255", "11.0.0.0"),
        ("10.1", "10.1.255.255", "10.2.0.0"),
        ("10/8", "10.255.255.255", "11.0.0.0"),
        ("172.16/12", "172.31.255.255", "172.32.0.0"),
        ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("[2001:db8::]/32", "2001:db8:ffff::1", "2001:db9::"),
        ("[2001:db8::1]", "2001:db8::1", "2001:db8::2"),
        ("[IPv6:2001:db8::1]", "2001:db8::1", "2001:db8::2"),
        ("IPv6:2001:DB8::/32", "2001:db8::1", "2001:db9::"),
        ("fe80::%eth0/10", "fe80::1", "fec0::1"),
        ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.1"),
        ("0/0", "203.0.113.1", "2001:db8::1"),
        (" !!192.0.2.1 ", "192.0.2.1", "192.0.2.2"),
    ],
)
def test_an_entry_may_be_written_so(entry: str, inside: str, outside: str) -> None:
    table = IpTable.of([entry])
    assert table.find(inside) is True
    assert table.find(outside) is None


@pytest.mark.parametrize(
    "asked", ["::ffff:192.0.2.1", "::FFFF:c000:201", "[192.0.2.1]", "[IPv6:::ffff:192.0.2.1]", " 192.0.2.1 "]
)
def test_an_address_may_be_asked_for_so(asked: str) -> None:
    assert IpTable.of(["192.0.2.1"]).find(asked) is True


def test_a_scope_of_the_address_asked_for_is_ignored() -> None:
    assert IpTable.of(["fe80::/10"]).find("fe80::1%eth0") is True


@pytest.mark.parametrize(
    "unknown", [None, "", "unknown", "192.0.2", "192.0.2.1\0", "\udcff", "10.0.0.256", "010.0.0.1"]
)
def test_what_is_no_address_matches_only_the_all_embracing_networks(unknown: str | None) -> None:
    assert IpTable.of(["0.0.0.0/8", "127.0.0.0/8", "::", "::1", "::/1", "10.0.0.0/8"]).find(unknown) is None
    assert IpTable.of(["192.0.2.1", "::/0"]).find(unknown) is True
    assert IpTable.of(["192.0.2.1", "0/0"]).find(unknown) is True
    assert IpTable.of(["!::/0", "0/0"]).find(unknown) is False
    assert IpTable.of(["!::/0", "0/0"]).matching(unknown) == "!::/0"


def test_an_excluded_network_is_no_match_but_an_answer() -> None:
    private = IpTable.of(["!172.16.1.0/24", "172.16.0.0/12", "192.168.0.0/16"])
    assert private.find("172.16.1.9") is False
    assert not private.contains("172.16.1.9")
    assert private.find("172.16.2.9") is True
    assert private.find("192.0.2.1") is None


def test_an_exclusion_behind_the_network_comes_too_late() -> None:
    assert IpTable.of(["172.16.0.0/12", "!172.16.1.0/24"]).find("172.16.1.9") is True


def test_an_empty_table_has_no_opinion() -> None:
    table = IpTable.of([])
    assert [table.find(ip) for ip in ("0.0.0.0", "255.255.255.255", "::", "::1", "ffff::1", None)] == [None] * 6


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("", "expected an IPv4 or IPv6 address"),
        ("localhost", "expected an IPv4 or IPv6 address"),
        ("192.0.2.256", "expected an IPv4 or IPv6 address"),
        ("1.2.3.4.5", "expected an IPv4 or IPv6 address"),
        ("010.0.0.1", "expected an IPv4 or IPv6 address"),
        ("192.0.2.0/33", "expected a prefix length of 0 to 32"),
        ("192.0.2.0/", "expected a prefix length of 0 to 32"),
        ("2001:db8::/129", "expected a prefix length of 0 to 128"),
        ("2001:db8::/255.0.0.0", "expected a prefix length of 0 to 128"),
        ("192.0.2.0/255.0.255.0", "its netmask has holes"),
    ],
)
def test_a_bad_entry_is_named(entry: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as caught:
        IpTable.of(["192.0.2.1", entry])
    assert f'"{entry}"' in str(caught.value)


def test_tables_of_the_same_texts_are_the_same_value() -> None:
    assert IpTable.of(["::1"]) == IpTable.of(("::1",))
    assert hash(IpTable.of(["::1"])) == hash(IpTable.of(["::1"]))
    assert IpTable.of(["::1"]) != IpTable.of(["::2"])
    assert repr(IpTable.of(["::1"])) == "IpTable.of(('::1',))"


def _microseconds(table: IpTable, addresses: list[str]) -> float:
    """Microseconds a look-up, the best of several runs: others use this machine as well."""
    best = float("inf")
    for _ in range(7):
        started = time.process_time()
        for address in addresses:
            table.find(address)
        best = min(best, time.process_time() - started)
    return best / len(addresses) * 1e6


def test_a_hundred_thousand_prefixes_cost_little_more_than_ten() -> None:
    chance = random.Random(1)
    addresses = [str(IPv4Address(chance.getrandbits(32))) for _ in range(5000)]
    many = IpTable.of(f"{IPv4Address(chance.getrandbits(24) << 8)}/24" for _ in range(100_000))
    few = IpTable.of(f"{IPv4Address(chance.getrandbits(24) << 8)}/24" for _ in range(10))
    assert _microseconds(many, addresses) < 4 * _microseconds(few, addresses)
    assert all(many.contains(text.partition("/")[0]) for text in many.texts[::1000])

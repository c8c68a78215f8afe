"""Which entries of network lists can never match."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.config.spans import dead_entries, span_of, taken_whole


@pytest.mark.parametrize(
    ("text", "network", "excludes"),
    [
        ("192.0.2.1", "192.0.2.1/32", False),
        ("10", "10.0.0.0/8", False),
        ("10.1", "10.1.0.0/16", False),
        ("!10.1/16", "10.1.0.0/16", True),
        ("!!10.0.0.0/255.0.0.0", "10.0.0.0/8", False),
        ("[2001:db8::]/32", "2001:db8::/32", False),
        ("IPv6:::1", "::1/128", False),
        ("fe80::1%eth0", "fe80::1/128", False),
        ("::ffff:10.0.0.0/104", "10.0.0.0/8", False),
        ("0/0", "0.0.0.0/0", False),
        ("::/0", "::/0", False),
    ],
)
def test_every_form_covers_what_it_means(text: str, network: str, excludes: bool) -> None:
    span = span_of(text)
    assert (span.network(), span.excludes) == (network, excludes)


def test_host_bits_are_noticed() -> None:
    assert span_of("10.0.0.1/8").has_host_bits
    assert not span_of("10.0.0.0/8").has_host_bits


_NETWORKS = st.tuples(st.integers(0, 15), st.integers(28, 32)).map(
    lambda pair: str(ipaddress.ip_network((pair[0], pair[1]), strict=False))
)


@given(st.lists(_NETWORKS, max_size=12))
def test_an_entry_is_dead_when_one_before_it_covers_it(texts: list[str]) -> None:
    networks = [ipaddress.IPv4Network(text) for text in texts]
    expected = [
        index for index, one in enumerate(networks) if any(one.subnet_of(earlier) for earlier in networks[:index])
    ]
    assert [index for index, _ in dead_entries([span_of(text) for text in texts])] == expected


def test_an_exclusion_lets_addresses_through_to_later_rules() -> None:
    spans = [
        span_of(text) for text in ("192.0.2.0/24", "!10.1.0.0/16", "10.0.0.0/8", "172.16.0.0/12", "!172.16.1.0/24")
    ]
    assert [span.text for span in taken_whole(spans)] == ["192.0.2.0/24", "172.16.0.0/12"]

"""XFORWARD values and lines."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.mail.envelope import Client
from amavispy.protocols.smtp_client_commands import parse_extensions, xforward_commands, xforward_value

ALL = {"XFORWARD": "NAME ADDR PORT PROTO HELO IDENT SOURCE"}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "[UNAVAILABLE]"),
        ("mail.example.org", "mail.example.org"),
        ("a+b=c", "a+2Bb+3Dc"),
        ("a b\r\nRSET\0", "a?b??RSET?"),
        ('<x>("y");@\\', "?x???y?????"),
        ("jörg", "j?rg"),
        ("x" * 300, "x" * 255),
        ("x" * 254 + "+", "x" * 254),
        ("x" * 253 + "+", "x" * 253),
        ("x" * 252 + "+", "x" * 252 + "+2B"),
    ],
)
def test_a_value_is_made_harmless_and_short(value: str, said: str) -> None:
    assert xforward_value(value) == said


@given(st.text())
def test_whatever_a_client_calls_itself_stays_one_word(value: str) -> None:
    said = xforward_value(value)
    assert 0 < len(said) <= 255
    assert said.isascii()
    assert said.isprintable()
    assert not set(said) & set(' =<>()\\";@') - set("" if value else "[]")


def test_an_unknown_client_is_said_to_be_unknown() -> None:
    assert xforward_commands(Client(), ALL) == [
        b"XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] "
        b"SOURCE=[UNAVAILABLE] IDENT=[UNAVAILABLE]\r\n"
    ]


def test_only_offered_attributes_are_said_and_ipv6_is_marked() -> None:
    assert xforward_commands(Client("2001:db8::1", name="x"), {"XFORWARD": "addr"}) == [
        b"XFORWARD ADDR=IPv6:2001:db8::1\r\n"
    ]
    assert xforward_commands(Client("192.0.2.1"), {"XFORWARD": ""}) == []


def test_long_values_are_spread_over_several_commands() -> None:
    client = Client("192.0.2.1", name="n" * 250, helo="h" * 250, queue_id="q" * 250)
    commands = xforward_commands(client, ALL)
    assert len(commands) > 1
    assert all(len(command) <= 512 and command.startswith(b"XFORWARD ") for command in commands)
    words = b" ".join(commands).replace(b"XFORWARD", b"").split()
    assert [word.partition(b"=")[0] for word in words] == [
        b"NAME", b"ADDR", b"PORT", b"PROTO", b"HELO", b"SOURCE", b"IDENT",
    ]  # fmt: skip


def test_keywords_are_read_without_regard_to_case_and_odd_lines_do_no_harm() -> None:
    assert parse_extensions("mx greets you\nPipelining\n\nSIZE 10\n  \nAUTH=LOGIN PLAIN") == {
        "PIPELINING": "",
        "SIZE": "10",
        "AUTH=LOGIN": "PLAIN",
    }

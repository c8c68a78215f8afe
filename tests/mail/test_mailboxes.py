"""Addresses in From fields, as honest and as hostile senders write them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.mail.mailboxes import mailboxes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a@b", ("a@b",)),
        (b"Ann <a@b>", ("a@b",)),
        (b"<a@b>", ("a@b",)),
        (b'"Ann, the <x@y>" <a@b>', ("a@b",)),
        (b'"x@y" <a@b>', ("a@b",)),
        (b"x@y <a@b>", ("a@b",)),
        (b"<a@b> x@y", ("a@b",)),
        (b"Ann (x@y (z)) <a@b> (c@d)", ("a@b",)),
        (b"a@b, Bob <c@d>,,<e@f>", ("a@b", "c@d", "e@f")),
        (b"friends: a@b, c@d;", ("a@b", "c@d")),
        (b"undisclosed-recipients:;", ()),
        (b"<@relay,@other:a@b>", ("a@b",)),
        (b'"a b"@c', ('"a b"@c',)),
        (b'"a\\"b@x"@c', ('"a\\"b@x"@c',)),
        (b"a @ b", ("a@b",)),
        (b"a@b (never closed", ("a@b",)),
        (b'"never closed <a@b>', ("a@b",)),
        (b"<a@b", ("a@b",)),
        (b"a\xe9@b", ("a\udce9@b",)),
        ("jürgen@b".encode(), ("jürgen@b",)),
        (b"=?utf-8?q?x=40y?= <a@b>", ("a@b",)),
        (b"nobody", ()),
        (b"<>", ()),
        (b"", ()),
    ],
)
def test_addresses_are_found_where_mail_programs_find_them(value: bytes, expected: tuple[str, ...]) -> None:
    assert mailboxes(value) == expected


def test_a_flood_of_addresses_is_cut() -> None:
    assert len(mailboxes(b"a@b," * 10_000)) == 50


@pytest.mark.parametrize(
    "piece", [b"(", b'"', b'"\\', b"<", b">", b"\\", b": ", b"a ", b"()", b'""', b"(a", b"\\\\", b"<@a b,"]
)
def test_a_long_field_is_read_in_linear_time(piece: bytes) -> None:
    start = time.process_time()
    mailboxes(piece * 200_000)
    mailboxes(b"<@" + b"a " * 16_000 + piece * 32_000)
    assert time.process_time() - start < 1


@given(st.binary(max_size=200))
def test_whatever_stands_there_is_read(value: bytes) -> None:
    assert all("@" in address for address in mailboxes(value))

"""Header checks against the texts recorded from amavisd 2.13 for the same headers."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.inspection.header_checks import check_header
from amavispy.mail.headers import Headers
from amavispy.policy.settings import Settings
from tests.corpus import build

TESTS = Settings().allowed_header_tests


def check(section: bytes, tests: frozenset[str] = TESTS, *, smtputf8: bool = False) -> list[tuple[int, str]]:
    found = check_header(Headers.parse(section + b"\r\nhello\r\n"), tests, smtputf8=smtputf8)
    return [(defect.minor, defect.text) for defect in found]


def with_field(octets: bytes) -> bytes:
    return build.header() + octets + b"\r\n"


@pytest.mark.parametrize(
    "field",
    [
        b"X-A: plain",
        "X-A: abc é def".encode(),
        b"X-A:",
        b"X-A : blank before the colon",
        b"X-A: a\x01\x07\x1b\x7f other control characters",
        b"X-A: a\r\n\tfold\r\n another",
        b"X-A: " + b"x" * 993,
        b"X-A: \xc2\xa0",
        b"Resent-From: a\r\nResent-From: b",
    ],
)
def test_what_amavis_lets_pass_is_no_defect(field: bytes):
    assert check(with_field(field)) == []


@pytest.mark.parametrize(
    ("field", "minor", "text"),
    [
        (b"foo bar", 6, "Invalid header field syntax: foo bar"),
        (b": value", 6, "Invalid header field syntax: : value"),
        (b"X A : value", 6, "Invalid header field syntax: X A : value"),
        (b"X\x01A: value", 6, r"Invalid header field syntax: X\x{01}A: value"),
        (b"From foo bar", 6, "Invalid header field syntax: From foo bar"),
        (
            b"X-\xe9: value",
            6,
            r"Invalid header field name, contains non-ASCII char (char E9 hex): X-\x{E9}: value",
        ),
        (
            b"X-A: abc\r\n \t\r\n def",
            4,
            "Improper folded header field made up entirely of whitespace (char 20 09 hex): X-A: abc \t def",
        ),
        (
            b"X-A: abc\r\n   ",
            4,
            "Improper folded header field made up entirely of whitespace (char 20 20 20 hex): X-A: abc   ",
        ),
        (
            b"X-A: a\r\n " + b" " * 60 + b"\r\n x",
            4,
            "Improper folded header field made up entirely of whitespace: X-A: a               [...] x",
        ),
        (
            b"X-A: " + b"x" * 994,
            5,
            f"Header line longer than 998 characters: X-A: {'x' * 45}[...]",
        ),
        (b"X-A: a\r\n " + b"y" * 998, 5, f"Header line longer than 998 characters:  {'y' * 49}[...]"),
        (b"X-A: abc\x00def", 3, r"Improper use of control character (char 00 hex): X-A: abc\x{00}def"),
        (b"X-A: abc\rdef", 3, r"Improper use of control character (char 0D hex): X-A: abc\x{0D}def"),
        (
            b"X-A: " + b"a" * 100 + b"\x00" + b"b" * 100,
            3,
            rf"Improper use of control character (char 00 hex): X-A: ...{'a' * 25}\x{{00}}{'b' * 15}[...]",
        ),
        (
            b"X-A: abc \xe9\xe8 def",
            2,
            r"Non-encoded non-ASCII data (and not UTF-8) (char E9 hex): X-A: abc \x{E9}\x{E8} def",
        ),
        (
            b"X-A: " + b"a" * 50 + b"\xe9" + b"b" * 17,
            2,
            rf"Non-encoded non-ASCII data (and not UTF-8) (char E9 hex): X-A: ...{'a' * 28}\x{{E9}}{'b' * 17}",
        ),
        (
            b"X-A: " + b"a" * 30 + b"\xe9" + b"b" * 20,
            2,
            rf"Non-encoded non-ASCII data (and not UTF-8) (char E9 hex): X-A: {'a' * 30}\x{{E9}}{'b' * 20}",
        ),
        (
            b"X-A: aaa\r\n bbb\xe9\r\n ccc",
            2,
            r"Non-encoded non-ASCII data (and not UTF-8) (char E9 hex): X-A: aaa\x{0A} bbb\x{E9}\x{0A} ccc",
        ),
        (
            "X-A: é\u0085 def".encode(),
            2,
            r"UTF-8 string contains C1 Controls (char C2 85 hex): X-A: \x{C3}\x{A9}\x{C2}\x{85} def",
        ),
        (
            "X-A: é\x07 def".encode(),
            2,
            r"UTF-8 string contains C0 Controls (char 07 hex): X-A: \x{C3}\x{A9}\x{07} def",
        ),
        (b"--b1: value", 6, "Invalid header field syntax: --b1: value"),
        (b"X-A: abc\r", 3, r"Improper use of control character (char 0D hex): X-A: abc\x{0D}"),
        (b"X-A: \xe9\\x{41}", 2, r"Non-encoded non-ASCII data (and not UTF-8) (char E9 hex): X-A: \x{E9}\x{5C}x{41}"),
        (
            b"X-A: a\x00" + "0123456789abcdé".encode() + b"x" * 20,
            3,
            r"Improper use of control character (char 00 hex): X-A: a\x{00}0123456789abcd[...]",
        ),
        (b"X-A: \xc0\x80", 2, r"Non-encoded non-ASCII data (and not UTF-8) (char C0 hex): X-A: \x{C0}\x{80}"),
    ],
)
def test_a_defect_is_told_in_amavis_words(field: bytes, minor: int, text: str):
    assert check(with_field(field)) == [(minor, text)]


@pytest.mark.parametrize(
    ("changes", "extra", "defects"),
    [
        ({"Date": None}, b"", [(7, 'Missing required header field: "Date"')]),
        ({"From": None}, b"", [(7, 'Missing required header field: "From"')]),
        (
            {"From": None, "Date": None},
            b"",
            [(7, 'Missing required header field: "Date"'), (7, 'Missing required header field: "From"')],
        ),
        ({}, b"From: x@y\r\n", [(8, 'Duplicate header field: "From"')]),
        ({}, b"SUBJECT: x\r\n", [(8, 'Duplicate header field: "Subject"')]),
        (
            {},
            b"From: x\r\nTo: x\r\nFrom: z\r\n",
            [
                (8, 'Header field occurs more than once: "From" occurs 3 times'),
                (8, 'Duplicate header field: "To"'),
            ],
        ),
    ],
)
def test_missing_and_repeated_fields_are_told(changes: dict, extra: bytes, defects: list):
    assert check(build.header(changes) + extra) == defects


def test_an_empty_header_misses_the_required_fields():
    found = check_header(Headers.parse(b"\r\nno header\r\n"), TESTS)
    assert [d.minor for d in found] == [7, 7]


def test_a_section_that_begins_with_a_fold_is_bad_syntax():
    assert check(b" foo: x\r\n" + build.header()) == [(6, "Invalid header field syntax:  foo: x")]


def test_one_field_has_one_defect_and_the_order_is_that_of_amavis():
    assert [m for m, _ in check(with_field(b"X-A: a\x00b\xe9" + b"x" * 1000 + b"\r\n  "))] == [4]
    assert [m for m, _ in check(with_field(b"X-A: a\x00b\xe9" + b"x" * 1000))] == [5]
    assert [m for m, _ in check(with_field(b"X-A: a\x00b\xe9"))] == [3]


@pytest.mark.parametrize(
    ("group", "section"),
    [
        ("syntax", with_field(b"foo bar")),
        ("empty", with_field(b"X-A: a\r\n \r\n b")),
        ("long", with_field(b"X-A: " + b"x" * 994)),
        ("control", with_field(b"X-A: \x00")),
        ("8bit", with_field(b"X-A: \xe9")),
        ("8bit", with_field("X-A: \u0085".encode())),
        ("missing", build.header({"Date": None})),
        ("multiple", with_field(b"From: x")),
    ],
)
def test_each_group_can_be_switched_off(group: str, section: bytes):
    assert check(section)
    assert check(section, TESTS - {group}) == []


def test_utf8_is_a_defect_only_where_it_is_asked_for_and_not_announced():
    section = with_field("X-A: é".encode())
    asked = TESTS | {"utf8"}
    assert check(section, asked) == [
        (2, r"Non-encoded UTF-8 string in non-EAI mail (char C3 A9 hex): X-A: \x{C3}\x{A9}"),
    ]
    assert check(section, asked, smtputf8=True) == []


def test_utf8_can_be_asked_for_alone():
    section = with_field("X-A: é".encode())
    assert [minor for minor, _ in check(section, frozenset(("utf8",)))] == [2]
    assert check(with_field(b"X-A: \xe9"), frozenset(("utf8",))) == []


def test_a_field_without_a_name_has_no_other_defect():
    assert check(with_field(b"foo\x00bar " + b"x" * 1000), TESTS - {"syntax"}) == []


def test_a_hundred_bad_fields_are_told_and_what_the_whole_section_lacks():
    found = check(build.header({"Date": None}) + b"nonsense\r\n" * 500)
    assert [minor for minor, _ in found] == [6] * 100 + [7]


def test_a_repeated_field_behind_a_hundred_defects_is_found():
    assert check(build.header() + b"nonsense\r\n" * 500 + b"From: x\r\n")[-1] == (8, 'Duplicate header field: "From"')


def test_a_flood_of_fields_is_a_defect_of_its_own():
    flood = build.header() + b"X-A: b\r\n" * 10_000
    assert check(flood) == [(0, "Too many header fields: 10005")]
    assert check(flood, TESTS - {"other"}) == []


def test_a_million_fields_are_checked_in_bounded_time():
    headers = Headers.parse(build.header() + b"X:\x00\r\n" * 1_000_000)
    started = time.process_time()
    found = check_header(headers, TESTS)
    assert time.process_time() - started < 8
    assert len(found) == 101


def test_defects_are_logged_at_level_2(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(15, "amavispy.header_checks"):
        check(build.header({"Date": None}))
    assert caplog.messages == ['check_header: 7, Missing required header field: "Date"']


@given(st.binary(max_size=200))
def test_whatever_a_header_holds_the_texts_are_printable(section: bytes):
    for defect in check_header(Headers.parse(section), TESTS | {"utf8"}):
        assert defect.text.replace("\t", " ").isprintable()
        assert defect.text.isascii()

"""rspamd's /checkv2: what the request tells, and what the answer's JSON means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.verdict import SpamAdvice
from amavispy.protocols.rspamd import Response, ResponseReader, RspamdError, parsed, request_head

CLIENT = Client("192.0.2.1", 41831, "c.example.org", "helo.example.org", "ESMTP", "ABC123", "REMOTE", "ann")


def head(*to: str, sender: str = "a@example.org", client: Client = CLIENT, **more: str) -> list[str]:
    envelope = Envelope(sender, tuple(Recipient(address) for address in to), client)
    text = request_head(7, envelope, "127.0.0.1:11333", **more).decode("utf-8", "surrogateescape")
    assert text.endswith("\r\n\r\n")
    return text.removesuffix("\r\n\r\n").split("\r\n")


def test_the_request_tells_everything_of_the_envelope() -> None:
    assert head("b@example.net", "c@example.net", mta_name="mx.example.net", password="q1") == [
        "POST /checkv2 HTTP/1.1",
        "Host: 127.0.0.1:11333",
        "Content-Length: 7",
        "User-Agent: amavispy",
        "MTA-Name: mx.example.net",
        "Password: q1",
        "IP: 192.0.2.1",
        "Helo: helo.example.org",
        "Hostname: c.example.org",
        "User: ann",
        "Queue-Id: ABC123",
        "From: <a@example.org>",
        "Rcpt: <b@example.net>",
        "Rcpt: <c@example.net>",
    ]


def test_what_is_not_known_is_not_told() -> None:
    assert head("b@example.net", sender="", client=Client()) == [
        "POST /checkv2 HTTP/1.1",
        "Host: 127.0.0.1:11333",
        "Content-Length: 7",
        "User-Agent: amavispy",
        "Deliver-To: <b@example.net>",
        "From: <>",
        "Rcpt: <b@example.net>",
    ]


def test_a_thousand_ordinary_recipients_are_all_told() -> None:
    lines = head(*(f"user{number}@mailing.example.net" for number in range(1100)))
    assert sum(line.startswith("Rcpt: ") for line in lines) == 1100


def test_recipients_beyond_what_rspamd_reads_are_left_out() -> None:
    lines = head(*(f"{'u' * 60}{number}@{'d' * 60}.example.net" for number in range(1100)))
    assert sum(map(len, lines)) < 65_000


def test_nothing_in_an_envelope_ends_a_line() -> None:
    client = Client(name="x\r\nIP: 1.2.3.4", helo="a\nb", login="\x00", queue_id="\x7f")
    lines = head("b\r\nPassword: x@y", "c@d", sender="a\r\n\r\nGET /", client=client)
    assert not [line for line in lines if line.startswith(("IP:", "Password:", "GET"))]
    assert "Rcpt: <b??Password: x@y>" in lines


def test_addresses_keep_their_octets() -> None:
    assert "Rcpt: <j\u00fcrgen@example.net>" in head("jürgen@example.net", "b@c")
    assert "Rcpt: <\udce9@example.net>" in head("\udce9@example.net", "b@c")


ANSWER = {
    "is_skipped": False,
    "score": 7.5,
    "required_score": 15.0,
    "action": "add header",
    "symbols": {
        "MISSING_MID": {"name": "MISSING_MID", "score": 2.5, "metric_score": 2.5},
        "R_SPF_ALLOW": {"name": "R_SPF_ALLOW", "score": -0.2},
    },
    "messages": {"smtp_message": "Gtube pattern"},
    "dkim-signature": "v=1; a=rsa-sha256;\r\n\tb=abc",
    "milter": {
        "add_headers": {
            "X-Spamd-Bar": {"value": "++", "order": 0},
            "X-Spam": "Yes",
            "X-Several": [{"value": "one"}, "two"],
        },
        "remove_headers": {"X-Spam": 0, "X-Old": 1, "X-Older": [-1, 2]},
    },
}


def test_an_answer_is_taken_apart() -> None:
    assert parsed(json.dumps(ANSWER).encode()) == Response(
        7.5,
        15.0,
        (("MISSING_MID", 2.5), ("R_SPF_ALLOW", -0.2)),
        SpamAdvice(
            "add header",
            "Gtube pattern",
            (
                ("DKIM-Signature", "v=1; a=rsa-sha256;\n b=abc"),
                ("X-Spamd-Bar", "++"),
                ("X-Spam", "Yes"),
                ("X-Several", "one"),
                ("X-Several", "two"),
            ),
            (("x-spam", 0), ("x-old", 1), ("x-older", -1), ("x-older", 2)),
        ),
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"symbols": None}, ()),
        ({"symbols": {"A": {}, "B": {"score": "x"}, "C": None}}, (("A", 0.0), ("B", 0.0), ("C", 0.0))),
        ({"symbols": {f"T{n}": {} for n in range(5000)}}, 1000),
    ],
)
def test_symbols_of_any_form_do_no_harm(changes: dict[str, Any], expected: Any) -> None:
    tests = parsed(json.dumps({**ANSWER, **changes}).encode()).tests
    assert tests == expected or len(tests) == expected


@pytest.mark.parametrize(
    "milter",
    [
        None,
        [],
        {"add_headers": [], "remove_headers": "x"},
        {"add_headers": {"Bad Name": "x", "": "x", "A:b": "x", "X-None": None, "X-Empty": ""}},
        {"remove_headers": {"Bad Name": 0, "X-A": True, "X-B": "0", "X-C": None}},
    ],
)
def test_improper_edits_are_left_out(milter: Any) -> None:
    answer = {"score": 1, "action": "no action", "milter": milter}
    assert parsed(json.dumps(answer).encode()).advice == SpamAdvice("no action")


def test_edits_are_limited() -> None:
    answer = {"score": 1, "milter": {"add_headers": {f"X-{n}": "y" * 100_000 for n in range(1000)}}}
    added = parsed(json.dumps(answer).encode()).advice.add
    assert (len(added), len(added[0][1])) == (64, 8192)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "answer is no JSON"),
        (b"{", "answer is no JSON"),
        (b"[" * 100_000, "answer is no JSON"),
        (b"[]", "answer is no object"),
        (b"{}", "answer without a score"),
        (b'{"score": "1"}', "answer without a score"),
        (b'{"score": true}', "answer without a score"),
        (b'{"score": NaN}', "answer without a score"),
        (b'{"score": 1e999}', "answer without a score"),
        (b'{"score": 1' + b"0" * 400 + b"}", "answer without a score"),
        (b'{"error": "invalid command"}', "answer without a score: {.error.: .invalid command.}"),
    ],
)
def test_an_answer_without_a_score_is_an_error(body: bytes, message: str) -> None:
    with pytest.raises(RspamdError, match=message):
        parsed(body)


def test_an_error_status_is_an_error() -> None:
    with pytest.raises(RspamdError, match="status 500: invalid command"):
        ResponseReader().receive(b"HTTP/1.1 500 invalid command\r\nContent-Length: 2\r\n\r\n{}")


def test_a_connection_that_stays_open_is_told() -> None:
    reader = ResponseReader()
    reader.receive(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"score":1}')
    assert reader.response
    assert reader.response.is_reusable
    assert reader.response.score == 1.0


Json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ANSWER, "value", "add_headers", "remove_headers", "X-Y"]), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(list(ANSWER)), Json))
def test_whatever_json_comes_is_an_answer_or_an_error(answer: dict[str, Any]) -> None:
    try:
        parsed(json.dumps(answer).encode())
    except RspamdError:
        pass

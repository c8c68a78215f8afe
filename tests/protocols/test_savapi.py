"""SAVAPI's dialogue: the settings come first, then one file after the other."""

from __future__ import annotations

import pytest

from amavispy.protocols.savapi import SavapiSession
from amavispy.protocols.scanner_talk import Answer, Sample, ScannerError


def sent(session: SavapiSession) -> bytes:
    return b"".join(session.take_output())


def asked() -> SavapiSession:
    session = SavapiSession("10776", 30)
    session.ask(Sample(2, path="/tmp/p002"))
    for line in (b"100 SAVAPI:4.0\n", b"100 PRODUCT:10776\n", b"100 SCAN_TIMEOUT:30\n"):
        session.receive(line)
    return session


def test_product_and_timeout_are_set_before_anything_is_scanned() -> None:
    session = SavapiSession("10776", 30)
    session.ask(Sample(2, path="/tmp/p002"))
    assert sent(session) == b""
    session.receive(b"100 SAVAPI:4.0\n")
    assert sent(session) == b"SET PRODUCT 10776\n"
    session.receive(b"100 PRODUCT:10776\n")
    assert sent(session) == b"SET SCAN_TIMEOUT 30\n"
    session.receive(b"100 SCAN_TIMEOUT:30\n")
    assert sent(session) == b"SCAN /tmp/p002\n"


ANSWERS = [
    (b"200 /tmp/p002\n", [Answer(2)]),
    (b"210 /tmp/p002\n", [Answer(2)]),
    (b"310 /tmp/p002 <<< EICAR ; virus ; a pattern\n319 1\n", [Answer(2, name="EICAR")]),
    (b"310 EICAR ; virus ; a pattern\n319 1\n", [Answer(2, name="EICAR")]),
    (b"310 a <<< A ; x\n310 b <<< B ; x\n319 2\n", [Answer(2, name="A"), Answer(2, name="B")]),
    (b"420 a <<< HEUR/Crypted ; x\n319 1\n", [Answer(2, name="HEUR/Crypted")]),
    (b"319 1\n", [Answer(2, name="unknown")]),
    (b"310\n319 1\n", [Answer(2, name="unknown")]),
    (b"421 encrypted\n430 archive\n200 /tmp/p002\n", [Answer(2)]),
    (b"350 file: an error\n200 /tmp/p002\n", [Answer(2, error="350 file: an error")]),
    (b"300 /tmp/p002 cannot be opened\n", [Answer(2, error="failed: 300 /tmp/p002 cannot be opened")]),
    (b"501 syntax error\n", [Answer(2, error="failed: 501 syntax error")]),
    (b"310 a <<< A ; x\n999 broken\n", [Answer(2, name="A"), Answer(2, error="failed: 999 broken")]),
    (b"\n", [Answer(2, error="failed: an empty line")]),
]


@pytest.mark.parametrize(("octets", "expected"), ANSWERS)
def test_an_answer_is_read_whole_and_octet_by_octet(octets: bytes, expected: list[Answer]) -> None:
    whole, single = asked(), asked()
    assert whole.receive(octets) == expected
    assert [a for i in range(len(octets)) for a in single.receive(octets[i : i + 1])] == expected
    assert whole.takes_more


def test_the_next_file_needs_no_settings() -> None:
    session = asked()
    session.receive(b"200 /tmp/p002\n")
    session.take_output()
    session.ask(Sample(3, path="/tmp/p003"))
    assert sent(session) == b"SCAN /tmp/p003\n"
    assert session.receive(b"200 x\n") == [Answer(3)]


@pytest.mark.parametrize(
    "lines",
    [
        [b""],
        [b"220 ready\n"],
        [b"500 SAVAPI is busy\n"],
        [b"100 OTHER:1\n"],
        [b"100 SAVAPI:4.0\n", b"401 PRODUCT unknown\n"],  # a licence that is not valid is no clean mail
        [b"100 SAVAPI:4.0\n", b"100 PRODUCT:1\n", b""],
    ],
)
def test_a_daemon_that_refuses_is_an_error(lines: list[bytes]) -> None:
    session = SavapiSession("1", 30)
    session.ask(Sample(2, path="/tmp/p002"))
    *before, last = lines
    for line in before:
        session.receive(line)
    with pytest.raises(ScannerError):
        session.receive(last)


def test_an_answer_to_no_question_is_an_error() -> None:
    session = asked()
    session.receive(b"200 x\n")
    with pytest.raises(ScannerError, match="unexpected answer"):
        session.receive(b"200 x\n")

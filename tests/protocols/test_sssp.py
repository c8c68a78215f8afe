"""SAVDI's dialogue: what is sent when, and what its answers mean."""

from __future__ import annotations

import pytest

from amavispy.mail.verdict import Unchecked
from amavispy.protocols.scanner_talk import Answer, Sample, ScannerError
from amavispy.protocols.sssp import SsspSession

GREETING = b"OK SSSP/1.0\r\n"


SAMPLE = Sample(3, b"octets")


def asked(sample: Sample = SAMPLE) -> SsspSession:
    session = SsspSession()
    session.ask(sample)
    session.receive(GREETING)
    return session


def test_nothing_is_sent_before_the_daemon_has_greeted() -> None:
    session = SsspSession()
    session.ask(Sample(1, b"octets"))
    assert session.take_output() == []
    assert session.receive(GREETING) == []
    assert b"".join(session.take_output()) == b"SSSP/1.0 SCANDATA 6\r\noctets"
    assert session.take_output() == []


def test_a_path_is_sent_in_place_of_octets_with_strange_characters_quoted() -> None:
    session = asked(Sample(1, path="/tmp/a b%c\x7f\ud8ff/p001".replace("\ud8ff", "\udcff")))
    assert b"".join(session.take_output()) == b"SSSP/1.0 SCANDIRR /tmp/a%20b%25c%7F%FF/p001\r\n"


ANSWERS = [
    (b"ACC 5B3A1F00/1\r\nDONE OK 0000 The function call succeeded\r\n\r\n", [Answer(3)]),
    (
        b"ACC 1\r\nVIRUS EICAR-AV-Test /tmp/p003\r\nOK 0203 /tmp/p003\r\nDONE OK 0203 Virus found\r\n\r\n",
        [Answer(3, name="EICAR-AV-Test")],
    ),
    (b"ACC 1\r\nVIRUS A /x\r\nVIRUS B /x\r\nDONE OK 0203 x\r\n\r\n", [Answer(3, name="A"), Answer(3, name="B")]),
    (b"ACC 1\r\nVIRUS\r\nDONE OK 0203 x\r\n\r\n", [Answer(3, name="unknown")]),
    (b"ACC 1\r\nDONE OK 0203 Virus found\r\n\r\n", [Answer(3, name="unknown")]),
    (b"ACC 1\r\nEVENT FILE /x\r\nTYPE 24\r\nDONE OK 0000 x\r\n\r\n", [Answer(3)]),
    (b"ACC 1\r\nDONE FAIL 0212 File was encrypted\r\n\r\n", [Answer(3, unchecked=Unchecked(1, "encrypted"))]),
    (b"ACC 1\r\nFAIL 021a /x\r\nDONE OK 0000 x\r\n\r\n", [Answer(3, unchecked=Unchecked(0, "damaged"))]),
    (b"ACC 1\r\nDONE FAIL 0210 Could not open\r\n\r\n", [Answer(3, error="failed: 0210 Could not open")]),
    (b"ACC 1\r\nDONE\r\n\r\n", [Answer(3, error="failed: no reason given")]),
    (b"ACC 1\r\nVIRUS A /x\r\n\r\n", [Answer(3, name="A"), Answer(3, error="the daemon did not finish its answer")]),
    (b"REJ 4 Message too big\r\n", [Answer(3, error="rejected: 4 Message too big")]),
]


@pytest.mark.parametrize(("octets", "expected"), ANSWERS)
def test_an_answer_is_read_whole_and_octet_by_octet(octets: bytes, expected: list[Answer]) -> None:
    whole, single = asked(), asked()
    assert whole.receive(octets) == expected
    assert [a for i in range(len(octets)) for a in single.receive(octets[i : i + 1])] == expected
    assert not whole.is_waiting
    assert not single.is_waiting


def test_one_connection_serves_many_samples() -> None:
    session = asked()
    session.receive(ANSWERS[0][0])
    assert session.takes_more
    session.take_output()
    session.ask(Sample(4, b"more"))
    assert not session.takes_more
    assert b"".join(session.take_output()) == b"SSSP/1.0 SCANDATA 4\r\nmore"
    assert session.receive(b"ACC 2\r\nVIRUS X /y\r\nDONE OK 0203 x\r\n\r\n") == [Answer(4, name="X")]


def test_a_rejection_costs_the_connection_for_the_sample_may_be_read_as_commands() -> None:
    session = asked()
    session.receive(b"REJ 1\r\n")
    assert session.is_spent
    assert not session.takes_more


@pytest.mark.parametrize("octets", [b"", b"220 smtp ready\r\n", b"x" * 20_000])
def test_what_is_no_greeting_is_an_error(octets: bytes) -> None:
    session = SsspSession()
    session.ask(Sample(1, b"x"))
    with pytest.raises(ScannerError):
        session.receive(octets)


def test_a_daemon_that_closes_in_the_middle_or_talks_unasked_is_an_error() -> None:
    with pytest.raises(ScannerError, match="closed"):
        asked().receive(b"")
    session = asked()
    session.receive(ANSWERS[0][0])
    with pytest.raises(ScannerError, match="unexpected answer: VIRUS"):
        session.receive(b"VIRUS A /x\r\n")


def test_a_flood_of_findings_is_bounded() -> None:
    found = asked().receive(b"ACC 1\r\n" + b"VIRUS A /x\r\n" * 5000 + b"DONE OK 0203\r\n\r\n")
    assert len(found) == 100

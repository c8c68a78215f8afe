"""clamd's IDSESSION dialogue: what is sent, and what its answers mean."""

from __future__ import annotations

import pytest

from amavispy.protocols.clamd import ClamdError, ClamdSession
from amavispy.protocols.scanner_talk import Answer


def test_the_first_request_opens_the_session() -> None:
    session = ClamdSession()
    assert session.ask_descriptor() == b"zIDSESSION\0zFILDES\0\0"
    assert session.ask_descriptor() == b"zFILDES\0\0"


def test_a_stream_goes_in_one_chunk_with_its_length() -> None:
    before, behind = ClamdSession().ask_stream(258)
    assert before == b"zIDSESSION\0zINSTREAM\0\x00\x00\x01\x02"
    assert behind == b"\0\0\0\0"


SAMPLES = [
    (b"1: fd[12]: OK\0", Answer(1)),
    (b"1: stream: OK\0", Answer(1)),
    (b"1: fd[12]: Eicar-Test-Signature.UNOFFICIAL FOUND\0", Answer(1, name="Eicar-Test-Signature.UNOFFICIAL")),
    (b"1: stream: Win.Test: two words FOUND\0", Answer(1, name="Win.Test: two words")),
    (b"1: stream:  FOUND\0", Answer(1, name="unknown")),
    (b"1: INSTREAM size limit exceeded. ERROR\0", Answer(1, error="INSTREAM size limit exceeded.")),
    (b"1: fd[12]: Can't read file ERROR\0", Answer(1, error="Can't read file")),
    (b"1: Command invalid inside IDSESSION. ERROR\0", Answer(1, error="Command invalid inside IDSESSION.")),
    (b"1: fd[12]: a\r\nb\x1b[2J FOUND\0", Answer(1, name="a b [2J")),
]


@pytest.mark.parametrize(("octets", "expected"), SAMPLES)
def test_an_answer_is_read_whole_and_octet_by_octet(octets: bytes, expected: Answer) -> None:
    whole, single = ClamdSession(), ClamdSession()
    whole.ask_descriptor()
    single.ask_descriptor()
    assert whole.receive(octets) == [expected]
    assert [a for i in range(len(octets)) for a in single.receive(octets[i : i + 1])] == [expected]
    assert whole.outstanding == single.outstanding == 0


def test_answers_may_come_in_any_order() -> None:
    session = ClamdSession()
    for _ in range(3):
        session.ask_descriptor()
    assert session.receive(b"3: fd[9]: OK\x001: fd[10]: X FOUND\x002: fd") == [Answer(3), Answer(1, name="X")]
    assert session.outstanding == 1
    assert session.receive(b"[11]: OK\0") == [Answer(2)]


def test_an_answer_is_about_the_part_that_was_asked_for() -> None:
    session = ClamdSession()
    session.ask_descriptor(0)
    session.ask_stream(7, 12)
    assert session.receive(b"2: stream: X FOUND\x001: fd[9]: OK\0") == [Answer(12, name="X"), Answer(0)]


def test_eight_requests_may_be_under_way() -> None:
    session = ClamdSession()
    for _ in range(8):
        assert session.takes_more
        session.ask_descriptor()
    assert not session.takes_more
    session.receive(b"1: fd[9]: OK\0")
    assert session.takes_more
    assert session.is_waiting


@pytest.mark.parametrize(
    "octets",
    [
        b"",  # closed
        b"UNKNOWN COMMAND\0",
        b"COMMAND READ TIMED OUT\0",
        b"1: stream: NOT OK\0",
        b"1: fd[12]: OKAY\0",
        b"2: fd[12]: OK\0",  # never asked
        b"1: fd[12]: OK\x001: fd[12]: OK\0",  # answered twice
        b"220 mail.example.com ESMTP\r\n\0",
        b"x" * 20_000,
    ],
)
def test_what_is_no_answer_is_an_error_and_never_clean(octets: bytes) -> None:
    session = ClamdSession()
    session.ask_descriptor()
    with pytest.raises(ClamdError):
        session.receive(octets)

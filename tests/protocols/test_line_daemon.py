"""Daemons asked by a line, and how text is judged: the same for daemons and programs."""

from __future__ import annotations

import pytest

from amavispy.protocols.line_daemon import OUTPUT_LIMIT, LineDaemonSession, Reading, questions
from amavispy.protocols.scanner_talk import SOMEWHERE, Answer, Sample, ScannerError

# As amavis' tables have it for clamd asked by CONTSCAN.
CLAMD = Reading.of(r"\bFOUND$", r"\bOK$", r"^.*?: (?!Infected Archive)(.*) FOUND$")
SOPHIE = Reading.of(r"^1(:|\s*$)", r"^0+(:|\s*$)", r"^[-+]?\d+:(.*?)\s*$")


def test_one_query_for_the_directory_or_one_for_each_file() -> None:
    assert questions("CONTSCAN {}\n", "/d", ("p000", "p001")) == [Sample(SOMEWHERE, b"CONTSCAN /d\n")]
    assert questions("SCAN {}/*\n", "/d", ("p000", "p012")) == [
        Sample(0, b"SCAN /d/p000\n"),
        Sample(12, b"SCAN /d/p012\n"),
    ]
    assert questions("in {} scan *", "/d", ("p001",)) == [Sample(1, b"in /d scan p001")]


JUDGED = [
    (CLAMD, b"/d: OK\n", SOMEWHERE, [Answer(SOMEWHERE)]),
    (
        CLAMD,
        b"/d/parts-1/p000: Eicar FOUND\n/d/parts-1/p012: Worm.A FOUND\n/d: OK\n",
        SOMEWHERE,
        [Answer(0, name="Eicar"), Answer(12, name="Worm.A")],
    ),
    (CLAMD, b"/d/p001: Infected Archive FOUND\n", SOMEWHERE, [Answer(SOMEWHERE, name="unknown")]),
    (CLAMD, b"/d/p007: X FOUND\n", 3, [Answer(3, name="X")]),
    (CLAMD, b"/d: lstat() failed. ERROR\n", 1, [Answer(1, error="unexpected answer: /d: lstat() failed. ERROR")]),
    (CLAMD, b"", 1, [Answer(1, error="unexpected answer: nothing")]),
    (SOPHIE, b"0\n", 2, [Answer(2)]),
    (SOPHIE, b"1:W32/Klez-H\n", 2, [Answer(2, name="W32/Klez-H")]),
    (SOPHIE, b"1\n", 2, [Answer(2, name="unknown")]),
    (Reading.of("bad", None, ""), b"fine\n", 2, [Answer(2, is_inconclusive=True)]),
    (Reading.of("(b)(a)(x)?d", "", "(b)(a)(x)?d"), b"bad", 2, [Answer(2, name="b"), Answer(2, name="a")]),
    (Reading.of("FOUND", "OK", "(.*) FOUND"), b"a\x1b[2J\xff FOUND", 2, [Answer(2, name="a [2J?")]),
]


@pytest.mark.parametrize(("reading", "output", "number", "expected"), JUDGED)
def test_infected_is_looked_for_before_clean(
    reading: Reading, output: bytes, number: int, expected: list[Answer]
) -> None:
    assert reading.answers(output, number) == expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (0, Answer(1)),
        (1, Answer(1, name="unknown")),
        (2, Answer(1, error="unexpected answer, exit 2: out of memory")),
        (-9, Answer(1, error="unexpected answer, exit -9: out of memory")),
    ],
)
def test_exit_statuses_may_judge(status: int, expected: Answer) -> None:
    assert Reading.of([1], [0], "").answers(b"out of memory\n", 1, status) == [expected]


def test_a_flood_of_names_is_bounded() -> None:
    assert len(CLAMD.answers(b"/d/p001: X FOUND\n" * 5000, SOMEWHERE)) == 100


def test_a_pattern_that_is_none_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="no regular expression"):
        Reading.of("FOUND(", "OK", "")


def asked(*, keeps_open: bool) -> LineDaemonSession:
    session = LineDaemonSession(CLAMD, keeps_open=keeps_open)
    session.ask(Sample(1, b"SCAN /d/p001\n"))
    assert session.take_output() == [b"SCAN /d/p001\n"]
    return session


def test_an_answer_that_ends_with_the_connection_is_over_then() -> None:
    session = asked(keeps_open=False)
    assert session.receive(b"/d/p001: X FOUND\n") == []
    assert session.receive(b"/d: OK\n") == []
    assert session.receive(b"") == [Answer(1, name="X")]
    assert session.is_spent


@pytest.mark.parametrize("end", [b"\n", b"\0"])
def test_an_answer_that_is_a_line_leaves_the_connection_open(end: bytes) -> None:
    session = asked(keeps_open=True)
    assert session.receive(b"/d/p001: ") == []
    assert session.receive(b"OK" + end) == [Answer(1)]
    assert session.takes_more
    assert not session.is_spent


def test_what_exceeds_the_limit_is_read_and_forgotten() -> None:
    session = asked(keeps_open=False)
    session.receive(b"x" * OUTPUT_LIMIT)
    session.receive(b"\n/d/p001: X FOUND\n" * 1000)
    (answer,) = session.receive(b"")
    assert answer.error


@pytest.mark.parametrize("keeps_open", [False, True])
def test_a_daemon_that_closes_without_a_word_is_an_error(keeps_open: bool) -> None:
    with pytest.raises(ScannerError, match="closed"):
        asked(keeps_open=keeps_open).receive(b"")


def test_an_answer_to_no_question_is_an_error() -> None:
    session = asked(keeps_open=True)
    session.receive(b"/d/p001: OK\n")
    with pytest.raises(ScannerError, match="no question"):
        session.receive(b"/d/p001: OK\n")

"""Every dialogue of tests/dialogues: as written, octet by octet, in one segment, and travelling between processes."""

import pytest

from amavispy.protocols.events import Signal
from tests.protocols.dialogue import DIRECTORY, Caller, Case, read_cases

CASES = read_cases()
PUSHED = [case for case in CASES if not {"G", "TLS", "FIN"} & {kind for kind, _ in case.steps}]


def play(case: Case, width: int, *, travels: bool = False) -> Caller:
    """Feed the client's octets `width` at a time, and compare what is said with the script, turn by turn."""
    caller = Caller(case, travels=travels)
    for kind, octets in case.steps:
        if kind == "C":
            for at in range(0, len(octets), width):
                caller.feed(octets[at : at + width])
        elif kind == "S":
            assert caller.output == octets
            caller.output = b""
        elif kind == "CLOSED":
            assert caller.is_closed
        elif kind not in "ME":
            caller.step(kind, octets)
    assert caller.output == b""
    compare_the_rest(case, caller)
    return caller


def compare_the_rest(case: Case, caller: Caller) -> None:
    kinds = {event.split()[0] for event in case.events}
    assert [event for event in caller.events if event.split()[0] in kinds] == case.events
    assert caller.is_closed == any(kind == "CLOSED" for kind, _ in case.steps)
    if case.text("M"):
        assert caller.mails == case.text("M")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_as_written(case: Case):
    play(case, 1 << 20)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_octet_by_octet(case: Case):
    play(case, 1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_travelling_between_gateway_and_worker(case: Case):
    play(case, 1 << 20, travels=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_travelling_octet_by_octet(case: Case):
    play(case, 7, travels=True)


@pytest.mark.parametrize("case", PUSHED, ids=lambda case: case.title)
def test_all_in_one_segment(case: Case):
    """Nobody waits for a reply, not even for 354: what is said stays the same, in one write."""
    caller = Caller(case)
    for kind, octets in case.steps:
        if kind == "A":
            caller.step(kind, octets)
    caller.feed(case.text("C"))
    assert caller.output == case.text("S")
    compare_the_rest(case, caller)


def test_every_case_has_a_title_of_its_own():
    assert len({case.title for case in CASES}) == len(CASES)
    assert len(CASES) > 100
    assert not [path for path in DIRECTORY.iterdir() if path.suffix != ".txt"]


def test_a_closed_engine_stays_closed_and_takes_no_more():
    caller = Caller(CASES[0])
    caller.feed(b"QUIT\r\n")
    caller.engine.receive(b"NOOP\r\n")
    assert caller.engine.next_event() is Signal.CLOSED
    assert not caller.engine.has_input

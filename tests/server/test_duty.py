"""When a worker may be interrupted, and when not. Signals are real; each test runs in a child of its own."""

import os
import signal
import time

import pytest

from amavispy.mail.envelope import Connection
from amavispy.server.duty import WorkerDuty
from amavispy.server.loan import Loan
from amavispy.server.plan import Shutdown
from amavispy.server.scoreboard import GATEWAYS, IDLE, Scoreboard

LOAN = Loan("SMTP", (), Connection("127.0.0.1:10024"), b"")


@pytest.fixture
def in_child(tmp_path):
    """Run a function with a duty in a child; what it answers comes back as text."""
    board = Scoreboard.create(str(tmp_path / "scoreboard"), 4)

    def running(act):
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            try:
                duty = WorkerDuty(board.slot(GATEWAYS))
                duty.take_signals()
                duty.begin_session(LOAN)
                os.write(writing, repr(act(duty)).encode())
            except BaseException as error:
                os.write(writing, f"raised {error!r}".encode())
            finally:
                os._exit(0)
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading) as pipe:
            return pipe.read()

    running.slot = board.slot(GATEWAYS)
    return running


def wait_until_signalled(seconds: float = 5.0) -> None:
    time.sleep(seconds)  # ends early only by an exception of the handler


def kill_self(number):
    os.kill(os.getpid(), number)


def test_term_interrupts_waiting_for_the_client(in_child):
    def act(duty):
        try:
            with duty.waiting():
                kill_self(signal.SIGTERM)
                wait_until_signalled()
        except Shutdown:
            return "interrupted", duty.is_retiring

    assert in_child(act) == "('interrupted', True)"


def test_term_outside_of_waiting_counts_at_the_next_waiting(in_child):
    def act(duty):
        kill_self(signal.SIGTERM)
        work_goes_on = True
        try:
            with duty.waiting():
                return "waits for ever"
        except Shutdown:
            return work_goes_on

    assert in_child(act) == "True"


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGHUP])
def test_retiring_interrupts_nothing(in_child, number):
    def act(duty):
        with duty.waiting():
            kill_self(number)
        return duty.is_retiring, duty.is_stopping

    assert in_child(act) == "(True, False)"


def test_the_alarm_raises_in_the_middle_of_the_work(in_child):
    def act(duty):
        duty.begin_message(0.05)
        try:
            wait_until_signalled()
        except TimeoutError as error:
            return str(error)

    assert in_child(act) == "'task exceeded allowed time'"


def test_an_alarm_taken_for_a_peers_time_out_comes_again(in_child):
    def act(duty):
        duty.begin_message(0.05)
        heard = 0
        for _ in range(2):
            try:
                wait_until_signalled()
            except OSError:  # as network code would
                heard += 1
        return heard

    assert in_child(act) == "2"


def test_after_the_message_no_alarm_rings(in_child):
    def act(duty):
        duty.begin_message(0.05)
        duty.end_message()
        wait_until_signalled(0.2)
        return "quiet"

    assert in_child(act) == "'quiet'"


def test_a_late_alarm_is_ignored(in_child):
    def act(duty):
        kill_self(signal.SIGALRM)
        return "quiet"

    assert in_child(act) == "'quiet'"


def test_the_scoreboard_shows_the_work(in_child):
    def act(duty):
        first = duty.begin_message(100)
        duty.end_message()
        second = duty.begin_message(100)
        duty.mark("V")
        return first, second, os.getpid()

    first, second, pid = eval(in_child(act))
    assert first == f"{pid:05d}-01"
    assert second == f"{pid:05d}-01-2"
    row = in_child.slot.row(time.monotonic())
    assert (row.state, row.tasks, row.sessions) == ("virus scan", 2, 1)
    assert 90 < row.deadline <= 100


def test_the_end_of_a_session_leaves_no_trace(in_child):
    def act(duty):
        duty.begin_message(100)
        duty.end_message()
        duty.end_session(IDLE)

    in_child(act)
    assert in_child.slot.state == IDLE
    assert in_child.slot.deadline == 0.0

"""Who hangs and who does not, and a fork that keeps the signals of one process from another."""

import subprocess
import sys
import time

import pytest

from amavispy.server.children import Child, is_runnable
from amavispy.server.crew import GATEWAY, WORKER, Crew, Lines
from amavispy.server.scoreboard import GATEWAYS, Scoreboard
from amavispy.server.signals import SignalQueue
from tests.running import ROOT, wait_until

FORK = """
import os, signal, sys, time
from amavispy.server.children import fork
from amavispy.server.signals import SignalQueue

queue = SignalQueue([signal.SIGTERM, signal.SIGUSR1])
os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), signal.SIGTERM))
pid = fork(lambda: time.sleep(60), [])
_, status = os.waitpid(pid, 0)
print(os.WTERMSIG(status), queue.take())
"""


@pytest.fixture
def crew(tmp_path):
    """A crew without children of its own, and a way to give it one: `sleep`, in a slot of the board."""
    board = Scoreboard.create(str(tmp_path / "scoreboard"), 4)
    lines = Lines.make(SignalQueue([]))
    crew = Crew(board, lines)
    processes = []

    def add(role, command=("sleep", "60")):
        process = subprocess.Popen(command)
        processes.append(process)
        slot = board.slot(0 if role == GATEWAY else GATEWAYS)
        slot.assign(0)
        slot.mark(b"g" if role == GATEWAY else b"=")
        child = Child(process.pid, role, slot, 0, time.monotonic())
        crew._children[process.pid] = child
        return process, child

    crew.add = add
    yield crew
    for process in processes:
        process.kill()
        process.wait()
    lines.close()


def looks(crew, start, *moments):
    """The master looks after its crew at these moments, seconds after `start`."""
    for moment in moments:
        crew.end_hanging(start + moment)


def tenths(first, last):
    return [tenth / 10 for tenth in range(first, last + 1)]


def is_killed(process) -> bool:
    try:
        return process.wait(0.3) == -9
    except subprocess.TimeoutExpired:
        return False


def test_a_gateway_without_a_heartbeat_is_killed(crew):
    process, child = crew.add(GATEWAY)
    looks(crew, child.slot.heartbeat, *tenths(0, 7))
    assert not is_killed(process)
    looks(crew, child.slot.heartbeat, 0.9)
    assert is_killed(process)


def test_a_master_that_was_away_itself_gives_everybody_time(crew):
    process, child = crew.add(GATEWAY)
    looks(crew, child.slot.heartbeat, 0.0, 60.0, *tenths(601, 607))
    assert not is_killed(process)
    looks(crew, child.slot.heartbeat, *tenths(608, 610))
    assert is_killed(process)


def test_a_gateway_that_only_lacks_the_processor_gets_longer(crew):
    process, child = crew.add(GATEWAY, (sys.executable, "-c", "while True: pass"))
    wait_until(lambda: is_runnable(process.pid), "a runnable process")
    looks(crew, child.slot.heartbeat, *tenths(0, 49))
    assert not is_killed(process)
    looks(crew, child.slot.heartbeat, *tenths(50, 52))
    assert is_killed(process)


def test_a_gateway_that_hands_over_gets_longer(crew):
    process, child = crew.add(GATEWAY)
    child.slot.mark(b"h")
    looks(crew, child.slot.heartbeat, *tenths(0, 49))
    assert not is_killed(process)


def test_a_worker_past_its_deadline_and_grace_is_killed(crew):
    process, child = crew.add(WORKER)
    start = time.monotonic()
    child.slot.set_deadline(start + 10)
    looks(crew, start, *tenths(0, 149))
    assert not is_killed(process)
    looks(crew, start, 15.1)
    assert is_killed(process)


def test_a_worker_without_a_message_may_wait_for_ever(crew):
    process, child = crew.add(WORKER)
    looks(crew, time.monotonic(), *tenths(0, 10), 100_000.0)
    assert not is_killed(process)


def test_a_signal_for_a_child_at_birth_is_not_the_parents():
    done = subprocess.run([sys.executable, "-c", FORK], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.stdout == "15 []\n", done.stderr

"""The scoreboard: one writer a slot, readers anywhere, nothing left over from a process that is gone."""

import os
import stat
import time

import pytest

from amavispy.server.scoreboard import EMPTY, GATEWAYS, IDLE, Scoreboard


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "scoreboard")


def test_a_reader_in_another_mapping_sees_what_the_owner_wrote(path):
    slot = Scoreboard.create(path, 4).slot(GATEWAYS)
    slot.assign(1)
    slot.set_pid(4711)
    slot.count_session()
    assert slot.count_task() == 1
    slot.set_deadline(time.monotonic() + 100)
    slot.mark(b"V")
    (row,) = Scoreboard.open(path).rows()
    assert (row.role, row.pid, row.state, row.tasks, row.sessions) == ("worker", 4711, "virus scan", 1, 1)
    assert row.deadline == pytest.approx(100, abs=5)


def test_a_child_writes_and_its_parent_reads(path):
    board = Scoreboard.create(path, 4)
    child = os.fork()
    if not child:
        board.slot(GATEWAYS + 1).mark(IDLE)
        os._exit(0)
    os.waitpid(child, 0)
    assert board.idle_workers() == 1


def test_workers_are_counted_by_what_they_do(path):
    board = Scoreboard.create(path, 6)
    for number, state in enumerate([IDLE, IDLE, b"d", b"A", b"*", b"x"]):
        board.slot(GATEWAYS + number).mark(state)
    board.slot(0).mark(IDLE)  # a gateway is no worker
    board.slot(GATEWAYS + 3).set_pinned(True)
    assert (board.idle_workers(), board.busy_workers(), board.pinned_workers()) == (2, 1, 1)


def test_a_slot_forgets_its_predecessor(path):
    board = Scoreboard.create(path, 2)
    slot = board.slot(GATEWAYS)
    slot.count_task()
    slot.set_deadline(5.0)
    slot.set_pinned(True)
    slot.assign(2)
    assert (slot.tasks, slot.deadline, slot.is_pinned) == (0, 0.0, False)


def test_a_cleared_slot_is_not_shown(path):
    board = Scoreboard.create(path, 2)
    board.slot(0).assign(1)
    board.slot(0).clear()
    assert list(board.rows()) == []
    assert board.slot(0).state == EMPTY


def test_waiting_clients_of_both_gateways_are_added(path):
    board = Scoreboard.create(path, 2)
    board.slot(0).show_sessions(100, 3)
    board.slot(1).show_sessions(10, 4)
    assert board.waiting_sessions() == 7


def test_reloads_are_counted(path):
    board = Scoreboard.create(path, 2)
    board.count_reload(is_taken=True)
    board.count_reload(is_taken=False)
    board.count_reload(is_taken=True)
    assert (board.reloads, board.rejections, board.master) == (2, 1, os.getpid())


def test_only_owner_and_group_may_read_it(path):
    Scoreboard.create(path, 2)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o640


def test_a_link_planted_at_its_place_is_replaced_and_not_followed(path, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    os.symlink(victim, path + ".new")
    os.symlink(victim, path)
    Scoreboard.create(path, 2)
    assert victim.read_text() == "precious"
    assert not os.path.islink(path)


@pytest.mark.parametrize("content", [b"", b"something else" * 100])
def test_another_file_is_no_scoreboard(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(OSError, match="not a scoreboard"):
        Scoreboard.open(path)


def test_a_slot_that_does_not_exist_is_refused(path):
    with pytest.raises(IndexError):
        Scoreboard.create(path, 2).slot(1000)

"""Who the master is: told by a lock the kernel drops with its process, not by a number somebody wrote."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from amavispy.server.pid_file import AlreadyRunning, PidFile, end, find_master, holder, is_alive

HOLD = """
import sys, time
from amavispy.server.pid_file import PidFile
PidFile(sys.argv[1]).take()
print("held", flush=True)
time.sleep(60)
"""
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "pid")


@pytest.fixture
def run():
    """Start Python with this code; wait for its first line; killed at the end."""
    processes = []

    def running(code, *arguments):
        command = [sys.executable, "-c", code, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        processes.append(process)
        process.stdout.readline()
        return process

    yield running
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_file_says_who_holds_it(path, run):
    process = run(HOLD, path)
    assert Path(path).read_text() == f"{process.pid}\n"
    assert holder(path) == process.pid


def test_a_second_holder_is_refused_and_told_who_the_first_is(path, run):
    process = run(HOLD, path)
    with pytest.raises(AlreadyRunning, match=f"already running with process id {process.pid}"):
        PidFile(path).take()


def test_a_file_whose_process_is_gone_blocks_nobody(path, run):
    process = run(HOLD, path)
    process.kill()
    process.wait()
    assert holder(path) is None
    pid_file = PidFile(path)
    pid_file.take()
    assert Path(path).read_text() == f"{os.getpid()}\n"
    pid_file.release()
    assert not os.path.exists(path)


@pytest.mark.parametrize("content", ["", "1\n", "junk\n", "1\n2\n3\n"])
def test_a_number_that_somebody_wrote_means_nothing(path, content):
    with open(path, "w") as file:
        file.write(content)
    assert find_master(path, {}) is None


def test_a_longer_number_is_not_left_behind_the_new_one(path):
    with open(path, "w") as file:
        file.write("123456789012345\n")
    pid_file = PidFile(path)
    pid_file.take()
    assert Path(path).read_text() == f"{os.getpid()}\n"
    pid_file.release()


def test_a_link_is_not_followed(path, tmp_path):
    (tmp_path / "victim").write_text("precious")
    os.symlink(tmp_path / "victim", path)
    with pytest.raises(OSError, match="symbolic links"):
        PidFile(path).take()
    assert (tmp_path / "victim").read_text() == "precious"


def test_a_pipe_at_its_place_does_not_hang_the_start(path):
    os.mkfifo(path)
    with pytest.raises(OSError, match="not a regular file"):
        PidFile(path).take()


def test_without_a_path_there_is_no_file():
    pid_file = PidFile("")
    pid_file.take()
    pid_file.release()
    assert find_master("", {}) is None


def test_mainpid_comes_before_the_file(path, run):
    holding = run(HOLD, path)
    assert find_master(path, {"MAINPID": str(os.getpid())}) == os.getpid()
    assert find_master(path, {"MAINPID": "0"}) == holding.pid
    assert find_master(path, {"MAINPID": "99999999"}) == holding.pid
    assert find_master(path, {"MAINPID": "-1"}) == holding.pid


def test_a_zombie_is_not_alive(run):
    process = run("print('here')")
    with open(f"/proc/{process.pid}/stat"):
        pass
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not is_alive(process.pid)


def test_a_process_is_ended_by_term(path, run):
    process = run(HOLD, path)
    assert end(process.pid) == signal.SIGTERM
    assert process.wait() == -signal.SIGTERM


def test_a_deaf_process_is_killed_after_a_while(run):
    process = run(DEAF)
    assert end(process.pid, seconds=0.2) == signal.SIGKILL
    assert process.wait() == -signal.SIGKILL


def test_ending_nobody_does_nothing():
    assert end(99999999) is None

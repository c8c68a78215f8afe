"""Starting in the background: the command waits for the daemon, and hears why it does not come up."""

import os
import sys

import pytest

from amavispy.server import background
from tests.running import wait_until


@pytest.fixture(autouse=True)
def real_streams(monkeypatch):
    """A command has real files there; pytest puts something else."""
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, f"__{name}__"))


def test_the_command_returns_when_the_daemon_is_ready_and_the_daemon_goes_on(tmp_path):
    def run(ready):
        ready()
        wait_until((tmp_path / "end").exists, "the test's permission to end")
        (tmp_path / "facts").write_text(f"{os.getsid(0)} {os.umask(0)} {os.getcwd()} {os.getppid()}")
        return 0

    assert background.start(run) == ""
    (tmp_path / "end").touch()
    wait_until(lambda: (tmp_path / "facts").exists() and (tmp_path / "facts").read_text(), "the daemon's facts")
    session, umask, directory, _ = (tmp_path / "facts").read_text().split()
    assert int(session) != os.getsid(0)
    assert int(umask) == 0o027
    assert directory == "/"


def test_children_of_the_daemon_do_not_keep_the_command_waiting(tmp_path):
    def run(ready):
        child = os.fork()
        if not child:
            wait_until((tmp_path / "end").exists, "the test's permission to end")
            os._exit(0)
        ready()
        os.waitpid(child, 0)
        (tmp_path / "ended").touch()
        return 0

    assert background.start(run) == ""
    (tmp_path / "end").touch()
    wait_until((tmp_path / "ended").exists, "the daemon's end")


def test_an_error_of_the_start_comes_back():
    def run(ready):
        raise RuntimeError("no such thing")

    assert background.start(run) == "no such thing"


def test_a_daemon_that_ends_before_it_is_ready_is_noticed():
    assert "ended before it was ready" in background.start(lambda ready: 3)


def test_an_error_after_ready_is_the_logs_business():
    def run(ready):
        ready()
        raise RuntimeError("too late")

    assert background.start(run) == ""


def test_descriptors_to_keep_stay_open():
    reading, writing = os.pipe()

    def run(ready):
        os.write(writing, b"still open")
        ready()
        return 0

    assert background.start(run, [writing]) == ""
    assert os.read(reading, 100) == b"still open"
    os.close(reading)
    os.close(writing)

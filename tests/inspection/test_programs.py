"""Programs: what they get, what is kept of what they say, and that none outlives its run."""

from __future__ import annotations

import errno
import functools
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from amavispy.inspection.programs import OUTPUT_LIMIT, ProgramError, Run, check_command, memory_file
from tests.running import wait_until


@contextmanager
def running(*command: str, stdin: bytes = b"mail\n") -> Iterator[Run]:
    descriptor = memory_file([stdin])
    try:
        run = Run(command, descriptor, cpu_seconds=5)
    finally:
        os.close(descriptor)
    try:
        yield run
    finally:
        run.close()


def finish(run: Run, seconds: float = 10) -> Run:
    ends_at = time.monotonic() + seconds
    while run.status is None:
        assert select.select([run], [], [], max(0, ends_at - time.monotonic()))[0], "the program did not end"
        run.advance()
    return run


def shell(script: str, stdin: bytes = b"mail\n") -> tuple[int | None, bytes, bytes]:
    with running("/bin/sh", "-c", script, stdin=stdin) as run:
        finish(run)
        return run.status, run.output, run.errors


def is_gone(pid: int) -> bool:
    """Whether the process has ended; a zombie waits only for its parent."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("cat", (0, b"mail\n", b"")),
        ("echo said; echo moaned >&2; exit 3", (3, b"said\n", b"moaned\n")),
        ("exec 0<&- 1>&- 2>&-; exit 1", (1, b"", b"")),
        ("kill -TERM $$", (-signal.SIGTERM, b"", b"")),
        ("echo x | grep -q y", (1, b"", b"")),
    ],
)
def test_output_errors_and_status_are_kept(script: str, expected: tuple[int, bytes, bytes]) -> None:
    assert shell(script) == expected


def test_a_large_input_is_read_in_full() -> None:
    assert shell("wc -c", b"x" * 3_000_000)[1].strip() == b"3000000"


def test_endless_output_is_cut_and_does_not_block_the_program() -> None:
    status, output, errors = shell("head -c 5000000 /dev/zero; head -c 5000000 /dev/zero >&2; echo end")
    assert (status, len(output), len(errors)) == (0, OUTPUT_LIMIT, 4096)


def test_a_program_gets_three_descriptors_and_little_environment() -> None:
    secret, other = os.pipe()
    try:
        listed = shell("ls /proc/$$/fd | tr '\\n' ' '; echo; env")[1].decode()
    finally:
        os.close(secret)
        os.close(other)
    descriptors, _, environment = listed.partition("\n")
    assert not {str(secret), str(other)} & set(descriptors.split())
    assert {line.partition("=")[0] for line in environment.splitlines()} <= {
        "PATH",
        "HOME",
        "LC_ALL",
        "PWD",
        "_",
        "OLDPWD",
        "SHLVL",
    }


def test_signals_have_their_usual_meaning_for_a_program() -> None:
    ignored = next(line for line in shell("grep SigIgn /proc/self/status")[1].decode().splitlines())
    assert not int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1)


def test_closing_kills_a_program_and_what_it_started() -> None:
    with running("/bin/sh", "-c", "sleep 1000 & echo $!; wait") as run:
        while not run.output.endswith(b"\n"):
            assert select.select([run], [], [], 10)[0]
            run.advance()
    for pid in (run.pid, int(run.output)):
        wait_until(functools.partial(is_gone, pid), "it is gone")
    assert run.status == -signal.SIGKILL


def test_what_a_program_leaves_running_is_killed_and_does_not_keep_the_run_open() -> None:
    _, output, _ = shell("sleep 1000 & echo $!")
    wait_until(lambda: is_gone(int(output)), "it is gone")


def test_a_program_that_computes_without_end_is_ended_by_the_kernel() -> None:
    descriptor = memory_file([])
    run = Run(("/bin/sh", "-c", "while :; do :; done"), descriptor, cpu_seconds=0)
    os.close(descriptor)
    assert finish(run).status in (-signal.SIGXCPU, -signal.SIGKILL)
    run.close()


def test_a_run_leaves_no_descriptor_and_no_zombie_behind() -> None:
    before = os.listdir("/proc/self/fd")
    for script in ("exit 0", "exit 1"):
        shell(script)
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ProgramError, match="can't run /nowhere/x: No such file or directory"), running("/nowhere/x"):
        pass
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_a_program_that_cannot_be_watched_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    watched: list[int] = []

    def fail(pid: int) -> int:
        watched.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "pidfd_open", fail)
    with pytest.raises(ProgramError, match="Too many open files"), running("/bin/sleep", "1000"):
        pass
    assert is_gone(watched[0])
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.parametrize("command", [(), ("cat",), ("/nowhere/cat",), ("/etc/passwd",), ("/bin",)])
def test_a_command_that_cannot_run_is_told_at_the_start(command: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"expected the path of a program|there is no such program"):
        check_command(command)


def test_a_program_that_is_there_is_accepted() -> None:
    check_command(("/bin/cat", "--"))

"""pid file - which process is the master: written by it, locked by it, asked by the commands.

The truth is a record lock, not the number in the file: the kernel tells who holds it (fcntl(2), F_GETLK) and drops it
with the process, so a stale file never blocks a start and a number written by somebody else never gets a process
killed. Children do not inherit the lock.

**Failures:** `PidFile.take` raises AlreadyRunning, or OSError when the file cannot be written.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import struct
import time
from collections.abc import Callable, Mapping

_FLOCK = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid


class AlreadyRunning(Exception):
    """Another master holds the file; `pid` is its process id."""

    def __init__(self, path: str, pid: int) -> None:
        super().__init__(f"already running with process id {pid} ({path})")
        self.pid = pid


class PidFile:
    """Held while the daemon runs. An empty path means: without a file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def take(self) -> None:
        """Lock the file and write this process's id into it."""
        if not self._path:
            return
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(f"{self._path} is not a regular file")
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, b"%d\n" % os.getpid())
        except BlockingIOError:
            os.close(descriptor)
            raise AlreadyRunning(self._path, holder(self._path) or 0) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Remove the file, if it is there still; only its holder may call this."""
        if self._descriptor is not None:
            try:
                os.unlink(self._path)
            except OSError:
                pass
            os.close(self._descriptor)
            self._descriptor = None


def holder(path: str) -> int | None:
    """The process that holds the file, None when nobody does or there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, OSError):
        return None
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    finally:
        os.close(descriptor)
    kind, _, _, _, pid = _FLOCK.unpack(answer)
    return pid if kind != fcntl.F_UNLCK and pid > 0 else None


def find_master(path: str, environment: Mapping[str, str]) -> int | None:
    """The running master: MAINPID when a supervisor says so and it lives, else the holder of the pid file."""
    told = environment.get("MAINPID", "")
    if told.isdigit() and int(told) > 0 and is_alive(int(told)):
        return int(told)
    return holder(path) if path else None


def is_alive(pid: int) -> bool:
    """Whether the process exists and is not a zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def end(pid: int, *, seconds: float = 60.0, tick: Callable[[float], None] = time.sleep) -> signal.Signals | None:
    """TERM, wait, KILL after `seconds`. Answers the signal that ended it, None when it was not there.

    PermissionError when it belongs to somebody else.
    """
    waited = 0.0
    number = signal.SIGTERM
    if not _send(pid, number):
        return None
    while is_alive(pid):
        if waited >= seconds and number != signal.SIGKILL:
            number = signal.SIGKILL
            _send(pid, number)
        pause = 0.05 if waited < 5 else 0.5
        tick(pause)
        waited += pause
    return number


def _send(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True

"""Programs - runs another program: its input a file, its output collected, its end awaited by whoever polls.

A `Run` starts when it is made (posix_spawn: no fork of ours, no shell; decision 0004), in a process group of its own.
`fileno` is one descriptor that becomes readable whenever `advance` has something to do, so a run is polled beside
sockets. It is over when the program has ended; what it leaves running is killed.

In: a command, whose first word is a path, and a descriptor that it reads as standard input. Out: `output`, `errors` and
`status`. Must not know what programs are asked, or what their words mean.

**Failures:** ValueError at the start (`check_command`); ProgramError when it cannot be run. The worker's alarm passes
through; `close` still has to be called then.
"""

from __future__ import annotations

import os
import resource
import select
import signal
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from amavispy.inspection.wire import lost

OUTPUT_LIMIT = 262_144  # octets; what comes after them is read and forgotten
_ERRORS_LIMIT = 4096
_READ_SIZE = 65_536
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_GRACE = 1.0  # seconds for a killed program to be gone
# Python ignores SIGPIPE and SIGXFSZ, the daemon some others; a program expects none of that.
_SIGNALS = [signal.SIGPIPE, signal.SIGXFSZ, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGALRM]


class ProgramError(Exception):
    """The program cannot be run."""


def check_command(command: Sequence[str]) -> None:
    """ValueError when the command's first word is no program that could be run."""
    if not command or not command[0].startswith("/"):
        raise ValueError(f"{' '.join(command)!r}: expected the path of a program")
    if not os.path.isfile(command[0]) or not os.access(command[0], os.X_OK):
        raise ValueError(f"{command[0]}: there is no such program")


def memory_file(pieces: Iterable[bytes | memoryview]) -> int:
    """A descriptor of a file in memory that holds these octets, at its beginning. The caller closes it."""
    descriptor = os.memfd_create("mail", os.MFD_CLOEXEC)
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.writelines(pieces)
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


class Run:
    """One run of a program. `status` is its exit status, or the negative number of the signal that ended it."""

    __slots__ = ("_errors", "_output", "_pidfd", "_pipes", "_poll", "pid", "status")

    def __init__(
        self,
        command: Sequence[str],
        stdin: int,
        *,
        cpu_seconds: float,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it. After `cpu_seconds` of work the kernel ends it, also when the worker is gone."""
        self._output = bytearray()
        self._errors = bytearray()
        self.status: int | None = None
        self.pid = 0
        self._pidfd = -1
        self._poll = select.epoll()
        self._pipes: dict[int, bytearray] = {}
        try:
            self.pid = self._spawned(command, stdin, environment or {})
            self._watch(cpu_seconds)
        except OSError as error:
            self.close()
            raise ProgramError(f"can't run {command[0]}: {lost(error)}") from error

    @property
    def output(self) -> bytes:
        return bytes(self._output)

    @property
    def errors(self) -> bytes:
        """The beginning of its standard error."""
        return bytes(self._errors)

    def fileno(self) -> int:
        return self._poll.fileno()

    def advance(self) -> None:
        """Read what there is; when the program has ended, take its status."""
        for descriptor, _ in self._poll.poll(0):
            if descriptor == self._pidfd:
                self._ended()
                return
            self._read(descriptor)

    def close(self) -> None:
        """Forget the program; if it runs, it and what it started are killed."""
        if self._pidfd >= 0:
            if self.status is None:
                self._kill()
            os.close(self._pidfd)
            self._pidfd = -1
        elif self.pid and self.status is None:  # it could not even be watched
            self._kill_group()
            self.status = -os.WTERMSIG(os.waitpid(self.pid, 0)[1])
        for descriptor in self._pipes:
            os.close(descriptor)
        self._pipes.clear()
        self._poll.close()

    def _spawned(self, command: Sequence[str], stdin: int, environment: Mapping[str, str]) -> int:
        ends = [os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)]
        self._pipes = {ends[0][0]: self._output, ends[1][0]: self._errors}
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), *((os.POSIX_SPAWN_DUP2, ends[n][1], n + 1) for n in (0, 1))]
        surroundings = {"PATH": _PATH, "HOME": os.environ.get("HOME", "/"), "LC_ALL": "C", **environment}
        try:
            return os.posix_spawn(
                command[0],
                list(command),
                surroundings,
                file_actions=actions,
                setpgroup=0,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        finally:
            for _, theirs in ends:
                os.close(theirs)

    def _watch(self, cpu_seconds: float) -> None:
        self._pidfd = os.pidfd_open(self.pid)
        self._poll.register(self._pidfd, select.EPOLLIN)
        for descriptor in self._pipes:
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.EPOLLIN)
        seconds = int(cpu_seconds) + 1
        with suppress(ProcessLookupError, PermissionError):  # it has ended already, or is setuid
            resource.prlimit(self.pid, resource.RLIMIT_CPU, (seconds, seconds + 1))
            resource.prlimit(self.pid, resource.RLIMIT_CORE, (0, 0))

    def _read(self, descriptor: int) -> bool:
        """Whether there was something to read. At the end of the stream the descriptor is closed."""
        try:
            octets = os.read(descriptor, _READ_SIZE)
        except BlockingIOError:
            return False
        kept = self._pipes[descriptor]
        kept += octets[: (OUTPUT_LIMIT if kept is self._output else _ERRORS_LIMIT) - len(kept)]
        if not octets:
            self._poll.unregister(descriptor)
            os.close(descriptor)
            del self._pipes[descriptor]
        return bool(octets)

    def _ended(self) -> None:
        for descriptor in list(self._pipes):
            left = OUTPUT_LIMIT // _READ_SIZE + 1  # a child of it may write for ever
            while left and self._read(descriptor):
                left -= 1
        self._kill_group()  # before the program is reaped, while its number cannot be another's
        self._reap()

    def _reap(self) -> None:
        found = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        if found:
            self.status = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def _kill(self) -> None:
        self._kill_group()
        gone = select.poll()
        gone.register(self._pidfd, select.POLLIN)
        gone.poll(_GRACE * 1000)
        self._reap()

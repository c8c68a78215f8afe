"""children - forking the daemon's processes, and what the master knows about each of them.

`fork` gives the child a clean start: no signal meant for one process is ever seen by another, nothing of the master's
is left open, and the child can only leave by exiting.

**Failures:** OSError when there is no process or memory to be had; the master tries again.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from amavispy.server.scoreboard import EMPTY, STARTING, Slot
from amavispy.server.signals import SignalQueue

_LOG = logging.getLogger("amavispy.server")
_BUG = 70  # EX_SOFTWARE of sysexits.h


@dataclass(slots=True, eq=False)
class Child:
    """`generation` counts configurations; `told` is when it was told to go (0.0: it was not), `trusted_until`
    when its heartbeat counts again."""

    pid: int
    role: str
    slot: Slot
    generation: int
    born: float
    told: float = 0.0
    was_ready: bool = False
    trusted_until: float = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether it ever got so far as to serve; once true it stays so, also after its death."""
        if not self.was_ready and self.slot.state not in (STARTING, EMPTY):
            self.was_ready = True
        return self.was_ready

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal; it may be gone already."""
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return


def fork(run: Callable[[], None], leave_behind: Sequence[socket.socket | SignalQueue | int]) -> int:
    """Run `run` in a child; `leave_behind` are the parent's sockets and pipes that it closes. Answers its pid."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid:
            return pid
        status = _BUG
        try:
            _detach_signals(blocked)
            for each in leave_behind:
                _close(each)
            run()
            status = 0
        except BaseException:
            _LOG.critical("a process ends with a bug", exc_info=True)
        finally:
            os._exit(status)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _detach_signals(blocked: set[signal.Signals] | set[int]) -> None:
    """Forget the parent's handlers and its wakeup socket before a signal can get through."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _close(each: socket.socket | SignalQueue | int) -> None:
    if isinstance(each, int):
        os.close(each)
    else:
        each.close()


def is_runnable(pid: int) -> bool:
    """Whether the process would run if it only got the processor: a starved one is not a hanging one."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"R"
    except (FileNotFoundError, ProcessLookupError):
        return False

"""duty - the worker as its sessions see it: tasks, time limits, and when to stop.

TERM interrupts a session only while it waits for its client's input; QUIT and HUP let the current message end. The
alarm at child_timeout raises TimeoutError in the middle of the work, again every second should somebody have taken
it for a peer's time-out, until `end_message`.

**Failures:** `waiting` raises Shutdown after TERM; anything between `begin_message` and
`end_message` may raise TimeoutError.
"""

from __future__ import annotations

import os
import signal
import time
from types import TracebackType

import setproctitle

from amavispy.server.loan import Loan
from amavispy.server.plan import Shutdown
from amavispy.server.scoreboard import Slot
from amavispy.server.signals import on

_AGAIN = 1.0  # seconds between alarms


class WorkerDuty:
    """Implements plan.Duty on a scoreboard slot and this process's signals."""

    def __init__(self, slot: Slot) -> None:
        self.is_stopping = False
        self.is_retiring = False
        self._slot = slot
        self._pid = os.getpid()
        self._is_in_message = False
        self._waiting = _Waiting(self)
        self._sessions = 0
        self._transactions = 0

    def take_signals(self) -> None:
        """From now on signals act on this worker."""
        for number in (signal.SIGTERM, signal.SIGINT):
            on(number, self._stop)
        for number in (signal.SIGQUIT, signal.SIGHUP):
            on(number, self.retire)
        on(signal.SIGALRM, self._time_is_up)

    # --- the worker's side

    def begin_session(self, loan: Loan) -> None:
        """A connection has been lent to this worker."""
        self._sessions = self._slot.count_session()
        self._transactions = 0
        self._slot.set_pinned(loan.is_for_good)
        self._slot.mark(b"b")

    def end_session(self, state: bytes) -> None:
        """The connection is out of this worker's hands; `state` is what the worker is now."""
        self._slot.set_pinned(False)
        self._slot.mark(state)

    def retire(self) -> None:
        """End after the current message."""
        self.is_retiring = True

    # --- the session's side

    def begin_message(self, child_timeout: float) -> str:
        self._transactions += 1
        self._slot.count_task()
        self._slot.mark(b"=")
        self._slot.set_deadline(time.monotonic() + child_timeout)
        self._is_in_message = True
        signal.setitimer(signal.ITIMER_REAL, child_timeout, _AGAIN)
        log_id = f"{self._pid:05d}-{self._sessions:02d}"
        if self._transactions > 1:
            log_id += f"-{self._transactions}"
        setproctitle.setproctitle(f"amavispy (ch{self._sessions}-{log_id})")
        return log_id

    def mark(self, letter: str) -> None:
        self._slot.mark(letter.encode("latin-1"))

    def end_message(self) -> None:
        self._is_in_message = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        self._slot.set_deadline(0.0)
        self._slot.mark(b"b")
        setproctitle.setproctitle(f"amavispy (ch{self._sessions}-avail)")

    def waiting(self) -> _Waiting:
        return self._waiting

    # --- signals

    def _stop(self) -> None:
        self.is_stopping = self.is_retiring = True
        if self._waiting.is_entered:
            self._waiting.is_entered = False
            raise Shutdown

    def _time_is_up(self) -> None:
        if self._is_in_message:
            raise TimeoutError("task exceeded allowed time")
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Waiting:
    """The part of a session in which TERM may interrupt it. One object a worker, so a turn allocates nothing."""

    __slots__ = ("_duty", "is_entered")

    def __init__(self, duty: WorkerDuty) -> None:
        self._duty = duty
        self.is_entered = False

    def __enter__(self) -> None:
        self.is_entered = True
        if self._duty.is_stopping:
            self.is_entered = False
            raise Shutdown

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.is_entered = False

"""Plan - what the processes are to do, made by wiring from one configuration; a reload makes another.

Failures: making a plan raises ConfigError; a running master keeps its old plan then.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from amavispy.config.model import ServerSettings
from amavispy.policy.bank import Banks
from amavispy.server.loan import Loan


class Shutdown(BaseException):
    """The worker was told to stop now, while it waited for a client's input. Raised only inside `Duty.waiting()`."""


class Duty(Protocol):
    """The worker as its sessions see it."""

    @property
    def is_retiring(self) -> bool:
        """True when the worker shall end after the current message: give the connection back at the next chance."""

    def begin_message(self, child_timeout: float) -> str:
        """Count a task, mark the worker busy, arm the alarm (TimeoutError after `child_timeout`). The log id."""

    def mark(self, letter: str) -> None:
        """Show on the scoreboard what is being done (state letters of amavis)."""

    def end_message(self) -> None:
        """Disarm the alarm, mark the worker as waiting for its client."""

    def waiting(self) -> AbstractContextManager[None]:
        """While the body runs, a TERM raises Shutdown; elsewhere it only makes the worker retire."""


class SessionRunner(Protocol):
    """Serves lent connections."""

    def run(self, loan: Loan, sock: socket.socket, duty: Duty) -> Loan | None:
        """Serve until idle (the loan to give back) or over (None; the socket is closed then)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One configuration, ready to run. `reopen_logs` is called after USR1, `rest` by a worker that has become idle."""

    server: ServerSettings
    banks: Banks
    sessions: SessionRunner
    reopen_logs: Callable[[], None]
    rest: Callable[[], None] = lambda: None

"""crew - the master's children: starting them, seeing them go, telling them things, ending those that hang.

Knows how to fork a gateway or a worker and which slot of the scoreboard each has. How many there should be, and of
which configuration, others decide.

**Failures:** a fork that fails is logged and answers None.
"""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import setproctitle

from amavispy.server import inner
from amavispy.server.children import Child, fork, is_runnable
from amavispy.server.gateway import Gateway
from amavispy.server.listener import Listener
from amavispy.server.plan import Plan
from amavispy.server.scoreboard import EMPTY, GATEWAYS, STARTING, Scoreboard
from amavispy.server.signals import SignalQueue
from amavispy.server.station import Station
from amavispy.server.worker import Worker

_LOG = logging.getLogger("amavispy.server")
_HANGS_AFTER = 0.8  # seconds without a heartbeat of the gateway
_HANGS_AFTER_BUSY = 5.0  # ... when it is runnable, starting or handing over
_GRACE = 5.0  # seconds past a message's deadline; the alarm in the worker comes first

GATEWAY, WORKER = "gateway", "worker"


@dataclass(frozen=True, slots=True)
class Lines:
    """What connects the processes: both ends of the inner socketpair and of the lifeline, and the master's signals."""

    gateway_end: socket.socket
    workers_end: socket.socket
    lifeline: int
    held: int
    signals: SignalQueue

    @classmethod
    def make(cls, signals: SignalQueue) -> Lines:
        return cls(*inner.make_pair(), *os.pipe(), signals)

    def close(self) -> None:
        self.gateway_end.close()
        self.workers_end.close()
        self.signals.close()
        os.close(self.lifeline)
        os.close(self.held)


class Crew:
    """All children by process id."""

    def __init__(self, board: Scoreboard, lines: Lines) -> None:
        self.removed: list[Listener] = []  # still open here for an old gateway, but no new process may keep them
        self._board = board
        self._lines = lines
        self._children: dict[int, Child] = {}
        self._last_look = time.monotonic()

    def __len__(self) -> int:
        return len(self._children)

    def of(self, role: str, *, is_told: bool | None = None) -> list[Child]:
        """The children of one role, oldest first; those (not) told to go only, when asked for."""
        return [
            child
            for child in self._children.values()
            if child.role == role and (is_told is None or bool(child.told) == is_told)
        ]

    def start_gateway(self, plan: Plan, listeners: tuple[Listener, ...], generation: int) -> Child | None:
        """Fork a gateway. None when both slots are taken."""
        return self._start(GATEWAY, plan, listeners, generation)

    def start_worker(self, plan: Plan, listeners: tuple[Listener, ...], generation: int) -> Child | None:
        """Fork a worker; `listeners` are those it must not keep open. None when no slot is free."""
        return self._start(WORKER, plan, listeners, generation)

    def reap(self) -> list[tuple[Child, int]]:
        """Those that ended since the last call, with their wait status; their slots are still as they left them."""
        ended: list[tuple[Child, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return ended
            if not pid:
                return ended
            if child := self._children.pop(pid, None):
                ended.append((child, status))

    def tell(self, children: Sequence[Child], number: signal.Signals, now: float = 0.0) -> None:
        """Send a signal; with `now` they count as told to go."""
        for child in children:
            child.told = child.told or now
            child.tell(number)

    def tell_all(self, number: signal.Signals, now: float = 0.0) -> None:
        self.tell(list(self._children.values()), number, now)

    def end_hanging(self, now: float) -> None:
        """KILL a gateway without a heartbeat and a worker past its message's deadline.

        When the master itself was stopped or starved, the others get the same time to show that they are well.
        """
        was_away = now - self._last_look > _HANGS_AFTER / 2
        self._last_look = now
        if was_away:
            for child in self.of(GATEWAY):
                child.trusted_until = now + _HANGS_AFTER
        for child in self._children.values():
            if reason := self._hangs(child, now):
                _LOG.error("killing %s [%d]: %s", child.role, child.pid, reason)
                child.tell(signal.SIGKILL)

    def _hangs(self, child: Child, now: float) -> str:
        slot = child.slot
        if child.role == WORKER:
            is_late = slot.deadline and now > slot.deadline + _GRACE
            return "its message is past child_timeout" if is_late else ""
        silence = now - slot.heartbeat
        if silence <= _HANGS_AFTER or now < child.trusted_until:
            return ""
        is_excused = slot.state in (STARTING, b"h") or is_runnable(child.pid)
        return f"no sign of life for {silence:.1f} s" if not is_excused or silence > _HANGS_AFTER_BUSY else ""

    def _start(self, role: str, plan: Plan, listeners: tuple[Listener, ...], generation: int) -> Child | None:
        numbers = range(GATEWAYS) if role == GATEWAY else range(GATEWAYS, self._board.slots)
        slot = next((slot for number in numbers if (slot := self._board.slot(number)).state == EMPTY), None)
        if slot is None:
            return None
        slot.assign(generation)
        lines = self._lines
        doors = listeners if role == GATEWAY else ()
        station = Station(plan, self._board, slot, lines.gateway_end, lines.workers_end, lines.lifeline, tuple(doors))
        private: list[socket.socket | SignalQueue | int] = [lines.held, lines.signals]
        private += [listener.sock for listener in self.removed]
        if role == WORKER:
            private += [lines.gateway_end, *(listener.sock for listener in listeners)]
        try:
            pid = fork(_run_gateway(station) if role == GATEWAY else _run_worker(station), private)
        except OSError as error:
            _LOG.error("cannot start a %s: %s", role, error.strerror)
            slot.clear()
            return None
        slot.set_pid(pid)
        child = self._children[pid] = Child(pid, role, slot, generation, time.monotonic())
        return child


def _run_gateway(station: Station) -> Callable[[], None]:
    def run() -> None:
        setproctitle.setproctitle("amavispy (gateway)")
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # an idle client is a descriptor
        Gateway(station).run()

    return run


def _run_worker(station: Station) -> Callable[[], None]:
    def run() -> None:
        setproctitle.setproctitle("amavispy (virgin child)")
        Worker(station).run()

    return run

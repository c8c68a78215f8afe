"""staffing - which processes there should be, and who goes for whom: start what is missing, retire what is too much.

New before old: an old gateway hands over once the new one serves, an old worker retires once a new one is ready in its
place; so capacity never drops.

**Failures:** `boot_failed` becomes true when processes end before any of their kind was ever ready; the master stops.
"""

from __future__ import annotations

import logging
import os
import signal

from amavispy.config.model import ServerSettings
from amavispy.server.children import Child
from amavispy.server.crew import GATEWAY, WORKER, Crew
from amavispy.server.listener import Listener
from amavispy.server.plan import Plan
from amavispy.server.pool import Backoff, Crowd, wanted_workers
from amavispy.server.scoreboard import IDLE, Scoreboard

_LOG = logging.getLogger("amavispy.server")
_BOOT_FAILURES = 2


class Staffing:
    """The processes of one daemon. `generation` counts configurations; children of an earlier one are to go."""

    def __init__(self, crew: Crew, board: Scoreboard, server: ServerSettings) -> None:
        self.boot_failed = False
        self.generation = 0
        self._crew = crew
        self._board = board
        self._wanted = server.min_servers or server.max_servers
        self._backoff = {GATEWAY: Backoff(), WORKER: Backoff()}
        self._early_deaths = {GATEWAY: 0, WORKER: 0}
        self._proven: set[str] = set()
        self._growth = Growth()

    # --- what the master asks for

    def renew(self, server: ServerSettings) -> None:
        """A new configuration: everybody is to be replaced."""
        self.generation += 1
        self._wanted = server.min_servers or server.max_servers

    def change(self, by: int) -> None:
        """TTIN and TTOU."""
        self._wanted = max(1, self._wanted + by)

    def adjust(self, plan: Plan, listeners: tuple[Listener, ...], now: float) -> None:
        """One look around."""
        self._proven |= {child.role for role in (GATEWAY, WORKER) for child in self._crew.of(role) if child.is_ready}
        self._adjust_gateways(plan, listeners, now)
        self._adjust_workers(plan, listeners, now)

    def ended(self, child: Child, status: int, now: float) -> None:
        """A child is gone; its slot becomes free."""
        is_early = not child.is_ready and not child.told
        child.slot.clear()
        if status:
            _LOG.error("%s [%d] ended %s", child.role, child.pid, _in_words(status))
        if status and not child.told:
            self._backoff[child.role].died(now, now - child.born)
        if is_early and child.role not in self._proven:
            self._early_deaths[child.role] += 1
            self.boot_failed = self._early_deaths[child.role] >= _BOOT_FAILURES

    @property
    def is_complete(self) -> bool:
        """The current gateway serves alone, and all workers wanted are ready."""
        gateways = self._crew.of(GATEWAY)
        ready = [child for child in self._current(WORKER) if child.is_ready]
        is_alone = len(gateways) == 1 and gateways[0].generation == self.generation and gateways[0].is_ready
        return is_alone and len(ready) >= self._wanted

    # --- gateways and workers

    def _adjust_gateways(self, plan: Plan, listeners: tuple[Listener, ...], now: float) -> None:
        current = self._current(GATEWAY)
        if not current and self._backoff[GATEWAY].allows(now):
            self._crew.start_gateway(plan, listeners, self.generation)
        if any(child.is_ready for child in current):
            self._crew.tell(self._old(GATEWAY), signal.SIGHUP, now)

    def _adjust_workers(self, plan: Plan, listeners: tuple[Listener, ...], now: float) -> None:
        current, old = self._current(WORKER), self._old(WORKER)
        if plan.server.min_servers:
            self._wanted = self._growth.wanted(plan.server, self._board, len(current), now)
        missing = self._wanted - len(current)
        if missing > 0 and self._backoff[WORKER].allows(now):
            for _ in range(missing):
                self._crew.start_worker(plan, listeners, self.generation)
        self._retire(current, -missing, now)
        ready = sum(child.is_ready for child in current)
        self._retire(old, len(old) + ready - self._wanted, now)

    def _retire(self, workers: list[Child], count: int, now: float) -> None:
        """Tell so many to end after their current message, idle ones first."""
        if count > 0:
            by_need = sorted(workers, key=lambda child: child.slot.state != IDLE)
            self._crew.tell(by_need[:count], signal.SIGQUIT, now)

    def _current(self, role: str) -> list[Child]:
        return [child for child in self._crew.of(role, is_told=False) if child.generation == self.generation]

    def _old(self, role: str) -> list[Child]:
        return [child for child in self._crew.of(role, is_told=False) if child.generation != self.generation]


class Growth:
    """The memory an elastic pool needs: when it last grew and shrank, and when somebody last asked for a worker."""

    def __init__(self) -> None:
        self._grown = self._shrunk = self._asked = float("-inf")
        self._sessions = 0

    def wanted(self, server: ServerSettings, board: Scoreboard, alive: int, now: float) -> int:
        """How many workers there should be next."""
        if (sessions := board.lent_sessions()) != self._sessions:
            self._sessions, self._asked = sessions, now
        waiting = board.waiting_sessions()
        crowd = Crowd(alive, board.idle_workers(), waiting, now - self._grown, now - self._shrunk, now - self._asked)
        wanted = wanted_workers(server, crowd)
        if wanted > alive:
            self._grown = now
        elif wanted < alive:
            self._shrunk = now
        return wanted


def _in_words(status: int) -> str:
    """A wait status for the log: `by SIGKILL`, `with status 70`."""
    if os.WIFSIGNALED(status):
        return f"by {signal.Signals(os.WTERMSIG(status)).name}"
    return f"with status {os.WEXITSTATUS(status)}"

"""closing - how the daemon ends: now, or when those who wait have been served.

Now: everybody gets TERM, again every second (a signal can meet a process just before it begins to wait). A message in
work may end within PATIENCE seconds, then the worker's alarm interrupts it and its client hears 451; what is left after
LAST_PATIENCE is killed. Gracefully: the gateway first, until nobody waits, then the workers.

**Failures:** none.
"""

from __future__ import annotations

import signal

from amavispy.server.crew import GATEWAY, WORKER, Crew

PATIENCE = 3.0
LAST_PATIENCE = 8.0
_PINNED_PATIENCE = 5.0  # a TLS client that stays idle for ever must not keep the daemon
_AGAIN = 1.0


class Closing:
    """One ending; `go_on` is called on every tick until the crew is gone."""

    def __init__(self, crew: Crew, now: float) -> None:
        self._crew = crew
        self._is_now = False
        self._since = now
        self._told = 0.0

    def stop_now(self, now: float) -> None:
        """TERM; a second one means: without patience."""
        self._since = now - PATIENCE if self._is_now else now
        self._is_now = True
        self._told = 0.0

    def go_on(self, now: float) -> None:
        if self._is_now:
            self._go_on_now(now)
        else:
            self._go_on_gracefully(now)

    def _go_on_now(self, now: float) -> None:
        if now - self._told < _AGAIN:
            return
        self._told = now
        waited = now - self._since
        self._crew.tell_all(signal.SIGKILL if waited >= LAST_PATIENCE else signal.SIGTERM, now)
        if PATIENCE <= waited < LAST_PATIENCE:
            working = [child for child in self._crew.of(WORKER) if child.slot.deadline]
            self._crew.tell(working, signal.SIGALRM)

    def _go_on_gracefully(self, now: float) -> None:
        gateways, workers = self._crew.of(GATEWAY), self._crew.of(WORKER)
        self._crew.tell([child for child in gateways if not child.told], signal.SIGQUIT, now)
        if not gateways:
            self._crew.tell([child for child in workers if not child.told], signal.SIGQUIT, now)
        elif not workers:
            self._crew.tell(gateways, signal.SIGTERM)  # nobody is left to serve those who wait
        pinned = [child for child in workers if child.slot.is_pinned]
        if now - self._since > _PINNED_PATIENCE:
            self._crew.tell(pinned, signal.SIGTERM)

"""pool - how many workers there should be: pure decisions, taken on every tick from what the scoreboard shows.

A fixed pool has exactly max_servers workers. An elastic one (min_servers set) grows as soon as too few wait, and
shrinks slowly. A process that dies young is replaced with a growing pause.

**Failures:** none.
"""

from __future__ import annotations

from dataclasses import dataclass

from amavispy.config.model import ServerSettings

_CALM = 10.0  # seconds between two steps down, and after a step up
_UNUSED = 30.0  # seconds without any new request, after which workers beyond min_servers go
_YOUNG = 1.0  # seconds; who dies younger than this dies of what it is, not of what it did
_PAUSE, _LONGEST_PAUSE = 0.05, 5.0


@dataclass(frozen=True, slots=True)
class Crowd:
    """The pool now. `seconds_since_growth` and `seconds_since_request` count from the last time each happened."""

    alive: int
    idle: int
    waiting_clients: int
    seconds_since_growth: float
    seconds_since_shrinking: float
    seconds_since_request: float


def wanted_workers(server: ServerSettings, crowd: Crowd) -> int:
    """How many workers an elastic pool should have next; a fixed one always max_servers."""
    if not server.min_servers:
        return server.max_servers
    missing = server.min_spare_servers - crowd.idle
    if crowd.waiting_clients:
        missing = max(missing, min(crowd.waiting_clients, server.max_servers) - crowd.idle)
    if missing > 0 or crowd.alive < server.min_servers:
        return min(max(crowd.alive + missing, server.min_servers), server.max_servers)
    if min(crowd.seconds_since_growth, crowd.seconds_since_shrinking) < _CALM:
        return crowd.alive
    spare = crowd.idle - (0 if crowd.seconds_since_request > _UNUSED else server.max_spare_servers)
    floor = max(server.min_servers, crowd.alive - crowd.idle + server.min_spare_servers)
    return max(crowd.alive - max(spare, 0), min(floor, crowd.alive))


class Backoff:
    """The pause before a process of one kind is started again."""

    def __init__(self) -> None:
        self._in_a_row = 0
        self._not_before = 0.0

    def died(self, now: float, age: float) -> None:
        """One ended at the age of so many seconds."""
        self._in_a_row = self._in_a_row + 1 if age < _YOUNG else 0
        pause = min(_PAUSE * 2**self._in_a_row, _LONGEST_PAUSE) if self._in_a_row > 1 else 0.0
        self._not_before = now + pause

    def allows(self, now: float) -> bool:
        return now >= self._not_before

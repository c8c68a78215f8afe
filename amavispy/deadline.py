"""Deadline - the time left for a message, shared out to its steps.

A message has `child_timeout` seconds from the moment its last octet came in. Every step that may wait (a scanner, the
next hop, a table) asks for a share and never waits longer; so the client hears a 451 before it gives up.

Failures: `check()` raises TimeoutError once the time is over; callers let it pass to the session, which answers 451.
"""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment on the monotonic clock."""

    ends_at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @property
    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.ends_at - time.monotonic())

    def check(self, step: str) -> None:
        if time.monotonic() >= self.ends_at:
            raise TimeoutError(f"no time left for {step}")

    def share(self, fraction: float = 0.6, *, at_least: float = 1.0, at_most: float = float("inf")) -> Deadline:
        """A part of the time left as a deadline: at least and at most so many seconds, never past this one."""
        seconds = min(max(self.remaining * fraction, at_least), at_most, self.remaining)
        return Deadline(time.monotonic() + seconds)

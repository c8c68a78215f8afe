"""Timings - how long a mail's steps took, for the log's TIMING line and for records.

**Failures:** none.
"""

from __future__ import annotations

import time


class Timings:
    """How long a mail's steps took. Make it when the mail begins; `mark` ends a step."""

    __slots__ = ("_cpu", "_marks", "_start")

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._cpu = time.process_time()
        self._marks: list[tuple[str, float]] = []

    def mark(self, step: str) -> None:
        """The step of this name has just ended."""
        self._marks.append((step, time.monotonic()))

    @property
    def milliseconds(self) -> int:
        """Since the beginning."""
        return int((time.monotonic() - self._start) * 1000 + 0.5)

    @property
    def steps(self) -> tuple[tuple[str, float], ...]:
        """(step, seconds), in order; for counters."""
        starts = [self._start, *(at for _, at in self._marks)]
        return tuple((step, at - begun) for (step, at), begun in zip(self._marks, starts, strict=False))

    def report(self) -> str:
        """`TIMING [total 176 ms, cpu 12 ms] - receive: 4.3 (2%)2, decoding: 10 (6%)8, rundown: 0.5 (0%)100`."""
        now = time.monotonic()
        total = max(now - self._start, 1e-6)
        pieces, before = [], self._start
        for step, at in (*self._marks, ("rundown", now)):
            spent = (at - before) * 1000
            share, so_far = 100 * (at - before) / total, 100 * (at - self._start) / total
            pieces.append(f"{step}: {spent:.{0 if spent >= 5 else 1}f} ({share:.0f}%){so_far:.0f}")
            before = at
        cpu = (time.process_time() - self._cpu) * 1000
        return f"TIMING [total {total * 1000:.0f} ms, cpu {cpu:.0f} ms] - {', '.join(pieces)}"

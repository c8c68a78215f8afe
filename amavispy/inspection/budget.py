"""Budget - how much a mail may grow while it is taken apart, and how long that may take.

`Limits` are the configured bounds (specification, chapter 6.4), `Budget` is what one mail has left of them, all its
parts and levels together. Whoever makes octets out of octets charges them here before keeping them; declared sizes are
never trusted. The quota grows with the mail, so it bounds the ratio as well.

**Failures:** LimitExceeded with amavis' *hold* text; the decoder catches it, stops unpacking and reports UNCHECKED.
TimeoutError when the message's own time is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from amavispy.deadline import Deadline

_TOTAL = 4  # times the files of a level: what a whole mail may hold
_MEMORY = 24 << 20  # octets of unpacked parts that are kept in memory


class LimitExceeded(Exception):
    """Decoding stops here; the text is what X-Amavis-Hold says."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of decoding: MAXLEVELS, MAXFILES (per level), the four numbers of the byte quota, and seconds in all."""

    levels: int = 14
    files: int = 1500
    min_expansion_quota: int = 100 * 1024
    max_expansion_quota: int = 300 * 1024 * 1024
    min_expansion_factor: int = 5
    max_expansion_factor: int = 500
    seconds: float = 8.0

    def quota(self, size: int) -> int:
        """Octets that a mail of `size` octets may unfold into, all levels together."""
        most = min(self.max_expansion_quota, size * self.max_expansion_factor)
        return max(self.min_expansion_quota, size * self.min_expansion_factor, most)


class Budget:
    """One mail's remaining quota, and the number of files at the level that is being filled.

    `memory_left` is what unpacked parts may still occupy in memory; beyond that they go to files in `directory` (None:
    the system's). `deadline` is the message's.
    """

    def __init__(
        self, limits: Limits, mail_size: int, deadline: Deadline | None = None, directory: str | None = None
    ) -> None:
        self.limits = limits
        self.quota = limits.quota(mail_size)
        self.left = self.quota
        self.memory_left = _MEMORY
        self.directory = directory
        self._deadline = deadline
        self._ends_at = time.monotonic() + limits.seconds
        self._files = 0
        self._all_files = 0

    @property
    def files_left(self) -> int:
        """How many parts may still be added: at this level, and in all."""
        return min(self.limits.files - self._files, self.limits.files * _TOTAL - self._all_files)

    @property
    def seconds_left(self) -> float:
        """Until the mail's decoding, or its whole processing, must end; not negative."""
        own = max(0.0, self._ends_at - time.monotonic())
        return min(own, self._deadline.remaining) if self._deadline else own

    def check_time(self) -> None:
        """Fail when decoding has taken too long."""
        if self._deadline:
            self._deadline.check("decoding")
        if time.monotonic() > self._ends_at:
            raise self.too_long()

    def charge(self, size: int, by: str) -> None:
        """Take `size` octets for the unpacker `by`."""
        self.left -= size
        if self.left < 0:
            raise self._too_large(size, by)

    def foresee(self, size: int, by: str) -> None:
        """Fail at once when a declared size alone goes beyond the quota; charges nothing, for it may be a lie."""
        if size > self.left:
            raise self._too_large(size, by)

    def foresee_files(self, count: int) -> None:
        """Fail at once when a directory lists so many files that reading it would already be an attack."""
        if count > 4 * self.limits.files:
            raise self._too_many_files()

    def enter_level(self, level: int) -> None:
        """Begin a level of parts; the parts of the MIME structure are level 1."""
        self._files = 0
        if level > self.limits.levels:
            raise LimitExceeded(f"Maximum decoding depth ({self.limits.levels}) exceeded")

    def add_file(self) -> None:
        """Count one more part at this level."""
        self._files += 1
        self._all_files += 1
        if self._files > self.limits.files or self._all_files > self.limits.files * _TOTAL:
            raise self._too_many_files()

    def too_long(self) -> LimitExceeded:
        return LimitExceeded(f"Maximum decoding time ({self.limits.seconds:g} s) exceeded")

    def _too_large(self, size: int, by: str) -> LimitExceeded:
        return LimitExceeded(f"Exceeded storage quota {self.quota} bytes by {by}; last chunk {size} bytes")

    def _too_many_files(self) -> LimitExceeded:
        return LimitExceeded(f"Maximum number of files ({self.limits.files}) exceeded")

"""Budget - how much a mail may grow while it is taken apart.

`Limits` are the configured bounds (specification, chapter 6.4), `Budget` is what one mail has left of them. Whoever
makes octets out of octets charges them here before keeping them; declared sizes are never trusted.

**Failures:** LimitExceeded with amavis' *hold* text; the decoder catches it, stops unpacking and reports UNCHECKED.
"""

from __future__ import annotations

from dataclasses import dataclass


class LimitExceeded(Exception):
    """Decoding stops here; the text is what X-Amavis-Hold says."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of decoding: MAXLEVELS, MAXFILES (per level) and the four numbers of the byte quota."""

    levels: int = 14
    files: int = 1500
    min_expansion_quota: int = 100 * 1024
    max_expansion_quota: int = 300 * 1024 * 1024
    min_expansion_factor: int = 5
    max_expansion_factor: int = 500

    def quota(self, size: int) -> int:
        """Octets that a mail of `size` octets may unfold into, all levels together."""
        most = min(self.max_expansion_quota, size * self.max_expansion_factor)
        return max(self.min_expansion_quota, size * self.min_expansion_factor, most)


class Budget:
    """One mail's remaining quota, and the number of files at the level that is being filled."""

    def __init__(self, limits: Limits, mail_size: int) -> None:
        self.limits = limits
        self.quota = limits.quota(mail_size)
        self.left = self.quota
        self._files = 0

    def charge(self, size: int, by: str) -> None:
        """Take `size` octets for the unpacker `by`."""
        self.left -= size
        if self.left < 0:
            raise LimitExceeded(f"Exceeded storage quota {self.quota} bytes by {by}; last chunk {size} bytes")

    def foresee(self, size: int, by: str) -> None:
        """Fail at once when a declared size alone goes beyond the quota; charges nothing, for it may be a lie."""
        if size > self.left:
            raise LimitExceeded(f"Exceeded storage quota {self.quota} bytes by {by}; last chunk {size} bytes")

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
        if self._files > self.limits.files:
            raise self._too_many_files()

    def _too_many_files(self) -> LimitExceeded:
        return LimitExceeded(f"Maximum number of files ({self.limits.files}) exceeded")

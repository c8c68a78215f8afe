"""Findings - what one virus scanner has said of a mail so far, answer by answer, and the VirusScan it makes.

Names are unique and in the order they came; parts are told by number, for daemons answer in any order. The first error
stands; a finding outweighs it.

**Failures:** none.
"""

from __future__ import annotations

from amavispy.mail.verdict import Unchecked, VirusScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.scanner_talk import SOMEWHERE, Answer

_UNCHECKED = 20  # things told of a mail


class Findings:
    """Grows with every answer."""

    __slots__ = ("_is_inconclusive", "_names", "_parts", "_unchecked", "error")

    def __init__(self) -> None:
        self.error = ""
        self._names: dict[str, None] = {}
        self._parts: dict[int, None] = {}
        self._unchecked: dict[Unchecked, None] = {}
        self._is_inconclusive = False

    def note(self, answer: Answer) -> None:
        if answer.name:
            self.found(answer.name, answer.number)
        if answer.error:
            self.failed(answer.error)
        if answer.unchecked and len(self._unchecked) < _UNCHECKED:
            self._unchecked[answer.unchecked] = None
        self._is_inconclusive = self._is_inconclusive or answer.is_inconclusive

    def found(self, name: str, number: int = SOMEWHERE) -> None:
        self._names[name] = None
        if number != SOMEWHERE:
            self._parts[number] = None

    def failed(self, error: str) -> None:
        self.error = self.error or error

    def scan(self, spec: ScannerSpec) -> VirusScan:
        """All of it, in the name of this scanner."""
        if not (self._names or self.error or self._unchecked or self._is_inconclusive):
            return VirusScan(spec.name, on_failure=spec.on_failure)
        names = tuple(self._names)
        return VirusScan(
            spec.name,
            names,
            is_infected=bool(names),
            error="" if names else self.error,
            on_failure=spec.on_failure,
            parts=tuple(sorted(self._parts)),
            unchecked=tuple(self._unchecked),
            is_inconclusive=self._is_inconclusive and not names,
        )

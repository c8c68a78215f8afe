"""Verdict - what inspection found out about a mail: facts, no decisions.

Nothing here knows of destinies or recipients' wishes; `policy.decide` makes a Disposition of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple


class Category(IntEnum):
    """Contents categories, in ascending precedence (amavis' CC_*)."""

    CATCHALL = 0
    CLEAN = 1
    MTA = 2
    OVERSIZED = 3
    BADH = 4
    SPAMMY = 5
    SPAM = 6
    UNCHECKED = 7
    BANNED = 8
    VIRUS = 9


class ContentsCategory(NamedTuple):
    """A category with its minor: (BADH, 7) is a missing field, (UNCHECKED, 1) encrypted content."""

    major: Category
    minor: int = 0


class OnFailure(IntEnum):
    """What a scanner's failure means for the mail: the explicit policy of each scanner."""

    TEMPFAIL = 0
    UNCHECKED = 1
    PASS = 2


@dataclass(frozen=True, slots=True)
class Part:
    """One node of the tree of parts. `octets` is the decoded content, None for a container.

    `number` counts from 1 (p001); `parent` is the parent's number or None; `location` reads "1/2". `types` are declared
    MIME types, `names` every declared name (decoded and raw), `short_types` without a dot ("exe-ms"). `attributes` are
    letters: U undecipherable, C encrypted, B ambiguous, D directory, S special, L link.
    """

    number: int
    location: str
    parent: int | None
    types: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    short_types: tuple[str, ...] = ()
    attributes: str = ""
    size: int = 0
    octets: bytes | memoryview | None = None
    is_leaf: bool = True


@dataclass(frozen=True, slots=True)
class Banned:
    """A part that a recipient's rules forbid. `path`: "M,T,N | M,T,N" root to leaf; `reason`: "comment:leaf" (%F)."""

    path: str
    attributes_path: str
    rule_key: str
    rule_value: str
    rule_comment: str
    reason: str


@dataclass(frozen=True, slots=True)
class HeaderDefect:
    """`minor` as in BADH minors: 1 MIME, 2 8-bit, 3 control, 4 empty fold, 5 long, 6 syntax, 7 missing, 8 multiple."""

    minor: int
    text: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Content that could not be inspected. `minor`: 0 other, 1 encrypted, 2 over limits, 3 ambiguous."""

    minor: int
    text: str


@dataclass(frozen=True, slots=True)
class VirusScan:
    """One virus scanner's answer. `names` is empty when clean; `error` is set when the scanner failed."""

    scanner: str
    names: tuple[str, ...] = ()
    is_infected: bool = False
    error: str = ""
    on_failure: OnFailure = OnFailure.TEMPFAIL


@dataclass(frozen=True, slots=True)
class SpamScan:
    """One spam scanner's answer. `score` is None when it failed; `tests` are (name, score) pairs."""

    scanner: str
    score: float | None = None
    tests: tuple[tuple[str, float], ...] = ()
    autolearn: str = ""
    report: str = ""
    error: str = ""
    on_failure: OnFailure = OnFailure.TEMPFAIL


@dataclass(frozen=True, slots=True)
class Verdict:
    """Everything that was found. `banned` has one entry a recipient, in the envelope's order (None: nothing banned).

    `hold` is the text of an exceeded decoding limit, "" otherwise (X-Amavis-Hold).
    """

    parts: tuple[Part, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    virus_scans: tuple[VirusScan, ...] = ()
    spam_scans: tuple[SpamScan, ...] = ()
    banned: tuple[Banned | None, ...] = ()
    header_defects: tuple[HeaderDefect, ...] = ()
    hold: str = ""

    @property
    def virus_names(self) -> tuple[str, ...]:
        """The names of the first scanner that found something (%V), unique, in order."""
        first = next((s for s in self.virus_scans if s.is_infected), None)
        return tuple(dict.fromkeys(first.names)) if first else ()

    @property
    def is_infected(self) -> bool:
        return any(s.is_infected for s in self.virus_scans)

    @property
    def spam_score(self) -> float | None:
        """The sum over all spam scanners, None when none gave a score."""
        scores = [s.score for s in self.spam_scans if s.score is not None]
        return sum(scores) if scores else None

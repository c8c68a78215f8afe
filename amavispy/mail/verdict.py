"""Verdict - what inspection found out about a mail: facts, no decisions.

Nothing here knows of destinies or recipients' wishes; `policy.decide` makes a Disposition of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
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


class DefectKind(StrEnum):
    """What is wrong with the way a mail was put together; the values are shown to people and programs."""

    DUPLICATE_TYPE = "duplicate Content-Type"
    DUPLICATE_ENCODING = "duplicate Content-Transfer-Encoding"
    DUPLICATE_DISPOSITION = "duplicate Content-Disposition"
    ODD_TYPE = "odd Content-Type"
    ODD_BOUNDARY = "several or odd boundaries"
    NO_BOUNDARY = "no boundary"
    PREFIX_BOUNDARY = "a boundary is the beginning of another line"
    NESTED_BOUNDARY = "a boundary is used at several levels"
    REOPENED_MULTIPART = "parts after the closing boundary"
    PART_IN_MARGIN = "a part outside the boundaries"
    NO_CLOSING_BOUNDARY = "no closing boundary"
    NO_BLANK_LINE = "no blank line behind the header"
    BLANK_FOLD = "a header line of blanks alone"
    ODD_FIELD_NAME = "blanks or folds in a field's name"
    COMMENT_IN_FIELD = "a comment in a Content field"
    CONTROL_IN_FIELD = "NUL or bare CR in a field"
    BARE_CR = "bare CR between lines of structure"
    ENCODED_PARAMETER = "an encoded word in a parameter"
    CONFLICTING_NAMES = "names with different endings"
    SEVERAL_NAMES = "several names"
    BROKEN_BASE64 = "base64 that decoders read differently"
    LOOSE_BASE64 = "base64 with something left over"
    BROKEN_QUOTED_PRINTABLE = "quoted-printable that decoders read differently"
    LOOSE_QUOTED_PRINTABLE = "quoted-printable with improper escapes"
    ENCODED_CONTAINER = "a transfer encoding on a multipart or message"
    ODD_ENCODING = "a transfer encoding written oddly"
    UNKNOWN_ENCODING = "an unknown transfer encoding"
    WIDE_TEXT = "a text in UTF-16, UTF-32 or UTF-7"
    PARTIAL_MESSAGE = "a fragment of a message"
    EXTERNAL_BODY = "content that lies elsewhere"
    TOO_MANY_READINGS = "more readings than are looked at"


@dataclass(frozen=True, slots=True)
class Defect:
    """One thing wrong with one part. `is_ambiguous`: two readers of mail could show different content for it."""

    kind: DefectKind
    is_ambiguous: bool = False


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
    defects: tuple[Defect, ...] = ()


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
    """`minor` as in BADH minors: 0 other 1 MIME 2 8-bit 3 control 4 empty fold 5 long 6 syntax 7 missing 8 multiple."""

    minor: int
    text: str


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Content that could not be inspected. `minor`: 0 other, 1 encrypted, 2 over limits, 3 ambiguous."""

    minor: int
    text: str


@dataclass(frozen=True, slots=True)
class VirusScan:
    """One virus scanner's answer. `names` is empty when clean; `error` is set when the scanner failed.

    `parts` are the numbers of the infected parts, when the scanner tells (0: the mail as a whole); `unchecked` what it
    could not look into. `is_inconclusive`: it found nothing, but its silence does not mean clean. `is_covered`: it
    failed, and a backup answered in its place.
    """

    scanner: str
    names: tuple[str, ...] = ()
    is_infected: bool = False
    error: str = ""
    on_failure: OnFailure = OnFailure.TEMPFAIL
    parts: tuple[int, ...] = ()
    unchecked: tuple[Unchecked, ...] = ()
    is_inconclusive: bool = False
    is_covered: bool = False

    @property
    def is_definite(self) -> bool:
        """Whether it says infected or clean."""
        return self.is_infected or not (self.error or self.is_inconclusive)


@dataclass(frozen=True, slots=True)
class SpamAdvice:
    """What a spam scanner would do with the mail, beside its score; how much of it is done is policy.

    `action` is rspamd's word ("reject", "soft reject", "add header" ...), `message` its text for the client. `add` are
    header fields (name, value with "\\n " folds); `remove` (lower-case name, 0 for every occurrence or which of them,
    counted from 1, negative from the end). `is_for_local`: the fields are meant for our own recipients only.
    """

    action: str = ""
    message: str = ""
    add: tuple[tuple[str, str], ...] = ()
    remove: tuple[tuple[str, int], ...] = ()
    is_for_local: bool = False


@dataclass(frozen=True, slots=True)
class SpamScan:
    """One spam scanner's answer. `score` is None when it failed; `tests` are (name, score) pairs.

    `recipients` are the positions in the envelope it was asked for, None for everybody.
    """

    scanner: str
    score: float | None = None
    tests: tuple[tuple[str, float], ...] = ()
    autolearn: str = ""
    report: str = ""
    error: str = ""
    on_failure: OnFailure = OnFailure.TEMPFAIL
    recipients: tuple[int, ...] | None = None
    advice: SpamAdvice | None = None


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
    def detecting_scanners(self) -> tuple[str, ...]:
        """Every scanner that found something (%W), in order."""
        return tuple(s.scanner for s in self.virus_scans if s.is_infected)

    @property
    def spam_score(self) -> float | None:
        """The sum over the spam scanners, of several answers of one the highest; None when none gave a score."""
        scores: dict[str, float] = {}
        for scan in self.spam_scans:
            if scan.score is not None:
                scores[scan.scanner] = max(scan.score, scores.get(scan.scanner, scan.score))
        return sum(scores.values()) if scores else None

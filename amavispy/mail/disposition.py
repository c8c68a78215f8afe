"""Disposition - what shall be done with a mail, for each recipient: decisions, nothing done yet.

`policy.decide` makes it, `delivery` carries it out and answers with an Outcome.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from amavispy.mail.envelope import Recipient
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import ContentsCategory


class Destiny(IntEnum):
    """amavis' D_*: what becomes of a blocked mail; PASS delivers it."""

    TEMPFAIL = -4
    REJECT = -3
    BOUNCE = -2
    DISCARD = 0
    PASS = 1


@dataclass(frozen=True, slots=True)
class HeaderEdits:
    """Changes to the header section. Recipients with equal edits and next hops are sent together.

    `remove`: lower-case names, every occurrence goes. `prepend`: (name, value) from top to bottom, above the original;
    a value may hold "\\n " folds. `subject_tag`: put before the subject's text ("" for none), with its final blank.
    `remove_at`: (lower-case name, which occurrence from 1), single ones that go.
    """

    remove: frozenset[str] = frozenset()
    prepend: tuple[tuple[str, str], ...] = ()
    subject_tag: str = ""
    remove_at: frozenset[tuple[str, int]] = frozenset()


@dataclass(frozen=True, slots=True)
class QuarantineTarget:
    """`method` is "local:TEMPLATE" (or smtp: ...); `to` the quarantine address or name ("virus-quarantine").

    `is_archive`: a copy of every mail, whatever was found, and no reason to call the mail quarantined.
    """

    method: str
    to: str
    is_archive: bool = False


@dataclass(frozen=True, slots=True)
class RecipientDisposition:
    """One recipient's fate.

    `categories` in descending order; `blocking` is the category that blocks, None when passed; `destiny` is PASS then.
    `reply` is the answer for a blocked recipient, None when passed. `next_hops` are tried in order, () hands the mail
    back. `is_tagged`: marked as suspicious, for RelayedTagged. `score`: the spam score, None when it was not asked for.
    `suppresses_bounce`: why the sender must hear nothing of this ("INFECTED", "SPAM" ...), "" when a bounce may go.
    `sender_listed`: "W" or "B" when the recipient's lists make the sender white or black, else "".
    """

    recipient: Recipient
    categories: tuple[ContentsCategory, ...]
    blocking: ContentsCategory | None
    destiny: Destiny
    reply: Reply | None
    next_hops: tuple[NextHop, ...]
    edits: HeaderEdits
    quarantine: tuple[QuarantineTarget, ...] = ()
    is_local: bool = True
    is_tagged: bool = False
    score: float | None = None
    suppresses_bounce: str = ""
    sender_listed: str = ""

    @property
    def main(self) -> ContentsCategory:
        return self.categories[0]

    @property
    def decisive(self) -> ContentsCategory:
        """The blocking category, or the main one when nothing blocks."""
        return self.blocking or self.categories[0]


@dataclass(frozen=True, slots=True)
class Disposition:
    """All recipients' fates, in the envelope's order. `quarantine_fields` stand on top of a quarantined copy."""

    recipients: tuple[RecipientDisposition, ...]
    quarantine_fields: tuple[tuple[str, str], ...] = ()

"""Facts - what is known of a mail at its end, for all who record it: asked once, read only when somebody wants it.

**Failures:** none.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from amavispy.journal.timings import Timings
from amavispy.mail.header_text import readable
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome
from amavispy.mail.verdict import ContentsCategory, Verdict
from amavispy.policy.bank import PolicyBank
from amavispy.policy.partition import partition_of
from amavispy.policy.settings import Settings


@dataclass(frozen=True)
class Facts:
    """One mail, what was found, what became of it and how long that took."""

    message: Message
    bank: PolicyBank
    verdict: Verdict
    outcome: Outcome
    timings: Timings

    @property
    def settings(self) -> Settings:
        return self.bank.settings

    @property
    def decisive(self) -> ContentsCategory:
        """What blocks it for anybody, or the gravest that was found."""
        blocked = [r.disposition.blocking for r in self.outcome.recipients if r.disposition.blocking]
        return max(blocked) if blocked else self.outcome.categories[0]

    @property
    def partition(self) -> int:
        return partition_of(self.settings.partition_tag, self.message.received_at)

    @cached_property
    def subject(self) -> str:
        return self._field(b"subject")

    @cached_property
    def from_field(self) -> str:
        return self._field(b"from")

    @cached_property
    def message_id(self) -> str:
        """With its brackets, without comments and what else stands around it."""
        text = self._field(b"message-id")
        start, end = text.find("<"), text.find(">")
        return text[start : end + 1] if 0 <= start < end else text

    def _field(self, name: bytes) -> str:
        return readable(self.message.content.headers.first(name))

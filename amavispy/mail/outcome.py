"""Outcome - what has been done with a mail, for each recipient, and what the client hears of it.

The only place where several recipients' replies become one (SMTP) is `single_reply`; its order of rules is amavis'
(specification, chapter 2.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from amavispy.mail.disposition import Destiny, RecipientDisposition
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import ContentsCategory


class ExitCode(IntEnum):
    """AM.PDP's exit_code, from sysexits.h; 99 is amavis' "nothing left to do"."""

    CONTINUE = 0
    REJECT = 69
    TEMPFAIL = 75
    DISCARD = 99


@dataclass(frozen=True, slots=True)
class KeptCopy:
    """One copy in a quarantine or archive.

    `kind`: F file, Z gz file, B bsmtp file, Q sql, M smtp, L lmtp (amavis' quar_type). `location`: relative to
    quarantinedir ("v/virus-vXDKQev4vYKO"), an address, or the mail_id in a database, with "[tag]" behind it when its
    partition_tag is not 0.
    """

    kind: str
    location: str
    is_archive: bool = False


@dataclass(frozen=True, slots=True)
class RecipientOutcome:
    """One recipient. `reply` is final: the next hop's (rewritten), a blocking one, or an error.

    `disposition` is the one decided, or reclassified as MTA when forwarding failed. `next_hop`: "smtp:[::1]:10025", "".
    `bounce`: "" none due, "sent", "suppressed", "failed" (due, but it could not be handed over).
    """

    disposition: RecipientDisposition
    reply: Reply
    next_hop: str = ""
    queued_as: str = ""
    bounce: str = ""

    @property
    def is_passed(self) -> bool:
        """Delivered, or handed back to the client to deliver."""
        return self.disposition.destiny is Destiny.PASS and self.reply.is_success


@dataclass(frozen=True, slots=True)
class Outcome:
    """All recipients in the envelope's order. `quarantine`: the copies that were kept, in order."""

    recipients: tuple[RecipientOutcome, ...]
    quarantine: tuple[KeptCopy, ...] = ()

    @property
    def is_quarantined(self) -> bool:
        """Whether a copy is kept for what was found; an archive keeps copies of everything."""
        return any(not copy.is_archive for copy in self.quarantine)

    def single_reply(self, log_id: str) -> tuple[Reply, ExitCode]:
        """The one reply of SMTP and AM.PDP, and AM.PDP's exit code."""
        replies = [r.reply for r in self.recipients]
        if not replies:
            return Reply(250, "2.5.0", f"Ok, id={log_id}"), ExitCode.CONTINUE
        if failed := next((r for r in replies if r.is_tempfail), None):
            return failed, ExitCode.TEMPFAIL
        if all(r.disposition.destiny is Destiny.DISCARD for r in self.recipients):
            return replies[0], ExitCode.DISCARD
        if rejected := self._all_refused():
            return rejected, ExitCode.REJECT
        return self._accepted(log_id)

    def _all_refused(self) -> Reply | None:
        """The 5xx of a mail that nobody gets and that must not bounce from here; discards may be in the mix."""
        wanted = [r for r in self.recipients if r.disposition.destiny is not Destiny.DISCARD]
        refused = all(r.reply.is_reject and r.disposition.destiny is not Destiny.BOUNCE for r in wanted)
        return wanted[0].reply if wanted and refused else None

    def _accepted(self, log_id: str) -> tuple[Reply, ExitCode]:
        passed = [r for r in self.recipients if r.is_passed]
        tail = self._not_passed()
        if passed and passed[0].next_hop:
            first = passed[0].reply
            return Reply(first.code, first.enhanced, first.text + (f", but {tail}" if tail else "")), ExitCode.CONTINUE
        text = f"Ok, id={log_id}" + (", continue delivery" if passed else "")
        if tail:
            text += f", but {tail}" if passed else f", {tail}"
        return Reply(250, "2.5.0", text), ExitCode.CONTINUE if passed else ExitCode.DISCARD

    def _not_passed(self) -> str:
        """`1 REJECT, and 2 BOUNCE(bounce.suppressed)`: how many recipients were not passed, and how."""
        blocked = [r for r in self.recipients if not r.is_passed]
        words = {
            "REJECT": [r for r in blocked if r.disposition.destiny is Destiny.REJECT],
            "BOUNCE": [r for r in blocked if r.disposition.destiny is Destiny.BOUNCE and r.bounce != "suppressed"],
            "DISCARD(bounce.suppressed)": [
                r for r in blocked if r.disposition.destiny is Destiny.BOUNCE and r.bounce == "suppressed"
            ],
            "DISCARD": [r for r in blocked if r.disposition.destiny is Destiny.DISCARD],
        }
        only_one = len(self.recipients) == 1
        return ", and ".join(f"{'' if only_one else f'{len(rs)} '}{word}" for word, rs in words.items() if rs)

    def replies_each(self) -> tuple[Reply, ...]:
        """LMTP's replies, one a recipient: a refusal of which we told the sender ourselves becomes an acceptance."""
        return tuple(_reply_of_one(r) for r in self.recipients)

    @property
    def categories(self) -> tuple[ContentsCategory, ...]:
        """The union over all recipients, descending."""
        return tuple(sorted({c for r in self.recipients for c in r.disposition.categories}, reverse=True))


def _reply_of_one(recipient: RecipientOutcome) -> Reply:
    """RFC 2033 4.2: each reply makes its recipient ours or leaves it to the client; so never both bounce and refuse."""
    reply, disposition = recipient.reply, recipient.disposition
    if not reply.is_reject or recipient.bounce == "failed":
        return reply
    if recipient.bounce == "sent":
        return Reply(250, "2.5.0", f"Ok <{disposition.recipient.address}>, DSN was sent ({reply})")
    if disposition.destiny is Destiny.BOUNCE:
        return Reply(250, "2.5.0", f"Ok <{disposition.recipient.address}>, DSN suppressed ({reply})")
    return reply

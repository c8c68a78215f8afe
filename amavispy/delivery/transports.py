"""Transports - handing a mail to the next hop over SMTP or LMTP, and saying for each recipient what became of it.

In: where (next hops, tried until one answers), what (a Submission) and until when (a Deadline). Out: one Handover a
recipient. Must not know what the mail is, or what a refusal will mean for its sender.

Connections are kept for the next mail. One that turns out to be dead before the final dot was sent is replaced by a
fresh one and nobody hears of it. Once the dot has been sent nothing is ever repeated: the next hop may have the mail.

**Failures:** whatever the network does becomes a 4xx or 5xx reply. Only the TimeoutError of a worker's alarm passes
through, and only before the final dot; after it the reply is 451.
"""

from __future__ import annotations

import logging
import mmap
import random
import re
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from amavispy.deadline import Deadline
from amavispy.delivery.smtp_link import Cause, LinkFailure, SmtpLink
from amavispy.mail.envelope import Client, Connection, Envelope, Recipient
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply
from amavispy.protocols.smtp_client import SmtpClient
from amavispy.protocols.smtp_client_commands import Extensions
from amavispy.protocols.smtp_client_content import is_8bit, size_of
from amavispy.protocols.smtp_client_errand import Answer, Errand

if TYPE_CHECKING:
    from amavispy.policy.settings import Settings

IDLE_LIMIT = 8  # connections kept
IDLE_SECONDS = 18.0  # without use, after which a connection is not trusted any more
AGE_SECONDS = 60.0  # after which a connection is not kept any more, so that a next hop can rebalance
AVOIDED_SECONDS = 60.0  # a next hop that could not be reached is tried last
_AVOIDED_LIMIT = 64

_QUEUED_AS = re.compile(r"\bqueued as <?([0-9A-Za-z]+)>?\W*$", re.I)
_LOG = logging.getLogger("amavispy.delivery")


@dataclass(frozen=True, slots=True)
class Submission:
    """A mail for the next hop, and the envelope it travels under there.

    `chunks`: the octets, lines ended by CRLF, dots not doubled. `body`, `ret`, `envid` as in Envelope. `splits`: who
    gave us the mail can be answered for each recipient (LMTP). Otherwise, when one recipient is refused for now, nobody
    gets the mail, so that the client can come back with all of them.
    """

    sender: str
    recipients: tuple[Recipient, ...]
    chunks: Sequence[bytes | memoryview | mmap.mmap]
    client: Client = field(default_factory=Client)
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    splits: bool = False


@dataclass(frozen=True, slots=True)
class Handover:
    """What became of one recipient.

    `reply`: "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as X". `next_hop`:
    "smtp:[127.0.0.1]:10025", "" when none was reached. `queued_as`: the next hop's queue id, or its whole reply when it
    names none; "" unless delivered.
    """

    reply: Reply
    next_hop: str = ""
    queued_as: str = ""


@dataclass(frozen=True, slots=True)
class _Job:
    """What all attempts at one submission share."""

    submission: Submission
    settings: Settings
    deadline: Deadline
    log_id: str
    size: int

    def errand(self, recipients: tuple[Recipient, ...], extensions: Extensions) -> Errand:
        mail = self.submission
        # A declared 8BITMIME is passed on; where it cannot be, only octets that are really there stand in the way.
        has_8bit = (mail.body not in ("", "7BIT") and "8BITMIME" in extensions) or is_8bit(mail.chunks)
        envelope = Envelope(
            mail.sender, recipients, mail.client, self.size, mail.body, mail.smtputf8, mail.ret, mail.envid
        )
        needs_all = not mail.splits and len(recipients) > 1
        return Errand(envelope, has_8bit, needs_all, self.settings.propagate_dsn_if_possible)

    def failed(self, failure: LinkFailure, mta: str) -> Handover:
        """The reply for a delivery that broke (specification, chapter 2.3)."""
        stage, end = failure.stage, f"id={self.log_id}"
        if failure.cause is Cause.LATE:
            return Handover(Reply(450, "4.4.2", f"Timed out during {stage}, MTA({mta}), {end}"), mta)
        if failure.cause is Cause.ALARM:
            return Handover(Reply(451, "4.4.2", f"Timed out during {stage}, MTA({mta}), {end}"), mta)
        return Handover(Reply(451, "4.5.0", f"From MTA({mta}) during {stage} ({failure.text}): {end}"), mta)

    def merged(self, answers: list[Answer | None], failure: LinkFailure, mta: str) -> list[Handover]:
        """What was heard before it broke counts, but refusals only where the client can be told of each recipient."""
        return [
            handover(answer, mta)
            if answer and (self.submission.splits or answer.reply.is_success)
            else self.failed(failure, mta)
            for answer in answers
        ]


class SmtpTransport:
    """Hands mail over by SMTP and LMTP. One for each worker, for it owns connections.

    `tls_context` is used where `tls_security_level_out` asks for TLS. Without one no certificate is verified: "may" and
    "encrypt" keep listeners out, not impostors.
    """

    def __init__(
        self,
        *,
        bind_address: str = "",
        caches: bool = True,
        tls_context: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bind_address = bind_address
        self._caches = caches
        self._tls_context = tls_context
        self._clock = clock
        self._idle: dict[str, SmtpLink] = {}
        self._avoided: dict[NextHop, float] = {}

    def send(
        self,
        next_hops: tuple[NextHop, ...],
        submission: Submission,
        settings: Settings,
        deadline: Deadline,
        log_id: str,
    ) -> tuple[Handover, ...]:
        """Deliver to the first of the next hops that answers; one Handover a recipient, in order."""
        job = _Job(submission, settings, deadline, log_id, size_of(submission.chunks))
        rest = list(range(len(submission.recipients)))
        results: dict[int, Handover] = {}
        while rest:
            handovers, left_over = self._send_to(next_hops, job, tuple(submission.recipients[i] for i in rest))
            results.update(zip(rest, handovers, strict=True))
            rest = [rest[i] for i in left_over]
        return tuple(results[i] for i in range(len(results)))

    def close_idle(self) -> None:
        """Close connections that will not be used again; for a worker that has nothing else to do."""
        for key, link in list(self._idle.items()):
            if not self._is_trusted(link):
                del self._idle[key]
                link.quit()

    def close(self) -> None:
        """Close every kept connection; for a worker that ends."""
        for link in self._idle.values():
            link.quit()
        self._idle.clear()

    # --- which connection

    def _send_to(
        self, next_hops: tuple[NextHop, ...], job: _Job, recipients: tuple[Recipient, ...]
    ) -> tuple[list[Handover], list[int]]:
        """One transaction with the first next hop that answers; also, the recipients that were too many for it."""
        failures: list[tuple[NextHop, LinkFailure]] = []
        for next_hop in self._candidates(next_hops):
            if not job.deadline.remaining:
                failures.append((next_hop, LinkFailure("fwd-connect", "timed out", Cause.LATE)))
                break
            key = f"{next_hop} {job.settings.tls_security_level_out} {job.settings.localhost_name}"
            if (link := self._kept(key)) and (result := self._transact(link, key, job, recipients)):
                return result
            try:
                link = self._open(next_hop, job)
            except LinkFailure as failure:
                _LOG.warning("connect to %s failed: %s", next_hop, failure.text)
                failures.append((next_hop, failure))
                self._avoid(next_hop)
                continue
            if result := self._transact(link, key, job, recipients):
                return result
        return [self._unreachable(failures, job)] * len(recipients), []

    def _candidates(self, next_hops: tuple[NextHop, ...]) -> Sequence[NextHop]:
        """In random order, those that failed lately last."""
        if len(next_hops) == 1:
            return next_hops
        before = self._clock() - AVOIDED_SECONDS
        shuffled = random.sample(next_hops, len(next_hops))
        return sorted(shuffled, key=lambda next_hop: self._avoided.get(next_hop, before) > before)

    def _avoid(self, next_hop: NextHop) -> None:
        if len(self._avoided) >= _AVOIDED_LIMIT:
            self._avoided.clear()
        self._avoided[next_hop] = self._clock()

    def _kept(self, key: str) -> SmtpLink | None:
        """A kept connection that is alive as far as can be seen without asking."""
        link = self._idle.pop(key, None)
        if link and not (self._is_trusted(link) and link.is_quiet):
            link.quit()
            return None
        return link

    def _is_trusted(self, link: SmtpLink) -> bool:
        now = self._clock()
        return now - link.used_at <= IDLE_SECONDS and now - link.opened_at < AGE_SECONDS

    def _keep(self, key: str, link: SmtpLink) -> None:
        if not (self._caches and link.client.is_reusable):
            link.quit()
            return
        link.is_reused = True
        link.used_at = self._clock()
        self._idle[key] = link
        if len(self._idle) > IDLE_LIMIT:
            self._idle.pop(next(iter(self._idle))).quit()

    def _open(self, next_hop: NextHop, job: _Job) -> SmtpLink:
        level = job.settings.tls_security_level_out
        try:
            return self._open_with(next_hop, job, level)
        except LinkFailure as failure:
            if failure.cause is not Cause.NO_TLS or level != "may":
                raise
            _LOG.warning("%s: %s, going on without TLS", next_hop, failure.text)
        return self._open_with(next_hop, job, "none")

    def _open_with(self, next_hop: NextHop, job: _Job, tls: str) -> SmtpLink:
        client = SmtpClient(job.settings.localhost_name, is_lmtp=next_hop.protocol == "lmtp", tls=tls)
        context = None if tls == "none" else self._context()
        link = SmtpLink.open(next_hop, client, bind_address=self._bind_address, context=context, deadline=job.deadline)
        link.opened_at = link.used_at = self._clock()
        return link

    def _context(self) -> ssl.SSLContext:
        if self._tls_context is None:
            self._tls_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._tls_context.check_hostname = False
            self._tls_context.verify_mode = ssl.CERT_NONE
        return self._tls_context

    def _unreachable(self, failures: list[tuple[NextHop, LinkFailure]], job: _Job) -> Handover:
        """What is said when no next hop took part: the last one's own words, or that none could be reached."""
        told = [failure for _, failure in failures if failure.cause is not Cause.UNREACHABLE]
        if told:
            return job.failed(told[-1], "")
        names = ", ".join(str(next_hop) for next_hop, _ in failures)
        text = f"All attempts ({len(failures)}) failed connecting to {names}"
        return job.failed(LinkFailure("fwd-connect", text), "")

    # --- one transaction

    def _transact(
        self, link: SmtpLink, key: str, job: _Job, recipients: tuple[Recipient, ...]
    ) -> tuple[list[Handover], list[int]] | None:
        """Deliver over this link. None when it was a kept one that proved dead before the final dot."""
        client, mta = link.client, link.name
        try:
            answers = link.deliver(job.errand(recipients, client.extensions), job.submission.chunks, job.deadline)
        except LinkFailure as failure:
            link.close()
            if link.is_reused and not link.is_dot_sent and failure.cause is Cause.BROKEN:
                _LOG.debug("the kept connection to %s is gone: %s", mta, failure.text)
                return None
            return job.merged(client.answers, failure, mta), []
        except BaseException:
            link.close()
            raise
        if link.is_reused and not link.is_dot_sent and _says_closing(answers):
            link.close()
            return None
        left_over = client.left_over
        self._keep(key, link)
        return [handover(answer, mta) for answer in answers if answer], left_over


def resolved(next_hops: tuple[NextHop, ...], connection: Connection) -> tuple[NextHop, ...]:
    """smtp:*:* made real: the host that connected to us, and the port after the one it came to."""
    if all(next_hop.path or (next_hop.port and next_hop.host != "*") for next_hop in next_hops):
        return next_hops
    return tuple(_resolved(next_hop, connection) for next_hop in next_hops)


def _resolved(next_hop: NextHop, connection: Connection) -> NextHop:
    if next_hop.path or connection.peer is None:
        return next_hop
    host = connection.peer if next_hop.host == "*" else next_hop.host
    return NextHop(next_hop.protocol, host, next_hop.port or connection.local_port + 1)


def handover(answer: Answer, mta: str) -> Handover:
    """A recipient's answer as it is passed on: `from MTA(...): ` and the next hop's own words."""
    reply = answer.reply
    if not answer.said:
        return Handover(reply, mta)
    passed_on = Reply(reply.code, reply.enhanced, f"from MTA({mta}): {answer.said}")
    if not reply.is_success:
        return Handover(passed_on, mta)
    found = _QUEUED_AS.search(answer.said)
    return Handover(passed_on, mta, found[1] if found else answer.said)


def _says_closing(answers: list[Answer | None]) -> bool:
    """A server that had given up an idle connection says so to the first command (421, RFC 5321 3.8)."""
    return all(answer and answer.reply.code == 421 for answer in answers)

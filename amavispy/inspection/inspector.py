"""Inspector - finds out what a mail is: decides which checks are needed, runs them, and puts the Verdict together.

In: the message, its policy bank, what the lists say of each recipient, the deadline. Out: a Verdict, facts only. A
check that every recipient bypasses is not done at all; one that a single recipient wants is done once, for the mail.
Virus and spam scanners see the raw mail even when a limit stopped the decoder.

**Failures:** TimeoutError when the message's time is over. Anything else that gets out of here is a bug; the session
answers 451 and the mail stays with the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from amavispy.deadline import Deadline
from amavispy.inspection.banned import BannedTables
from amavispy.inspection.decoder import Decoded
from amavispy.inspection.header_checks import check_header
from amavispy.inspection.workload import ANY_SPAM_TASK, SpamTask
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content, Message
from amavispy.mail.verdict import Banned, HeaderDefect, Part, SpamScan, Verdict, VirusScan
from amavispy.policy.bank import PolicyBank
from amavispy.policy.banned_rules import has_rules
from amavispy.policy.recipient import RecipientPolicy
from amavispy.policy.settings import ScannerSpec, Settings
from amavispy.policy.spam import needs_scan
from amavispy.policy.virus_names import as_spam

Recipients = tuple[RecipientPolicy, ...]
Specs = tuple[ScannerSpec, ...]
Mark = Callable[[str], object]
_NOTHING = Decoded()


class DecodesMail(Protocol):
    """What the inspector asks of a decoder."""

    def decode(self, content: Content, deadline: Deadline | None = None) -> Decoded: ...


class ScansMail(Protocol):
    """What the inspector asks of the scanners: results of `virus`, or of `backups` beside them, and of `spam`."""

    def scan(
        self,
        content: Content,
        parts: tuple[Part, ...],
        envelope: Envelope,
        virus: tuple[ScannerSpec, ...],
        spam: tuple[ScannerSpec, ...],
        deadline: Deadline,
        *,
        backups: tuple[ScannerSpec, ...] = (),
        first_infected_stops: bool = False,
        spam_task: SpamTask = ANY_SPAM_TASK,
    ) -> tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]: ...


def _unmarked(step: str) -> None:
    """Nobody wants to know how long a step took."""


class Inspector:
    """Made once before forking; holds compiled rules and no state of any mail."""

    def __init__(self, decoder: DecodesMail, scanning: ScansMail) -> None:
        self._decoder = decoder
        self._scanning = scanning
        self._banned = BannedTables()

    def prepare(self, settings: Settings) -> None:
        """Compile what a bank's settings need, before the workers are forked."""
        self._banned.prepare(settings)

    def inspect(
        self,
        message: Message,
        bank: PolicyBank,
        recipients: Recipients,
        deadline: Deadline,
        mark: Mark = _unmarked,
    ) -> Verdict:
        """Everything that can be found out about the mail. `mark(step)` is called at the end of each step done."""
        settings = bank.settings
        virus, backups, spam = _scanners(settings, recipients)
        decoded = _NOTHING
        if _needs_parts(settings, recipients, virus or backups):
            decoded = self._decoder.decode(message.content, deadline)
            mark("decode")
        defects = _header_defects(message, settings, recipients, decoded)
        mark("check_header")
        banned = self._find_banned(decoded.parts, settings, recipients)
        mark("check_banned")
        if spam and not needs_scan(recipients, banned, settings):
            spam = ()
        virus_scans: tuple[VirusScan, ...] = ()
        spam_scans: tuple[SpamScan, ...] = ()
        if virus or backups or spam:
            virus_scans, spam_scans = self._scan(message, bank, recipients, decoded, (virus, backups, spam), deadline)
            mark("scan")
        return Verdict(
            parts=decoded.parts,
            unchecked=decoded.unchecked + tuple([what for scan in virus_scans for what in scan.unchecked]),
            virus_scans=virus_scans,
            spam_scans=spam_scans,
            banned=banned,
            header_defects=defects,
            hold=decoded.hold,
        )

    def _scan(
        self,
        message: Message,
        bank: PolicyBank,
        recipients: Recipients,
        decoded: Decoded,
        wanted: tuple[Specs, Specs, Specs],
        deadline: Deadline,
    ) -> tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]:
        """What virus scanners, or their backups, and spam scanners say; some viruses' names count as spam."""
        settings = bank.settings
        virus, backups, spam = wanted
        viruses, spams = self._scanning.scan(
            message.content,
            decoded.parts,
            message.envelope,
            virus,
            spam,
            deadline,
            backups=backups,
            first_infected_stops=settings.first_infected_stops_scan,
            spam_task=_spam_task(bank, recipients),
        )
        viruses, from_viruses = as_spam(viruses, settings.virus_name_to_spam_score_maps)
        return viruses, spams + from_viruses

    def _find_banned(
        self, parts: tuple[Part, ...], settings: Settings, recipients: Recipients
    ) -> tuple[Banned | None, ...]:
        """One entry a recipient; recipients with the same rules share one search."""
        if not parts or not _wants_banned(settings, recipients):
            return (None,) * len(recipients)
        return self._banned.find(parts, settings, recipients)


def _scanners(settings: Settings, recipients: Recipients) -> tuple[Specs, Specs, Specs]:
    """The virus scanners, their backups, and the spam scanners that some recipient wants."""
    virus, backups = settings.av_scanners, settings.av_scanners_backup
    if (virus or backups) and all(r.bypass.virus for r in recipients):
        virus = backups = ()
    spam = () if all(r.bypass.spam for r in recipients) else settings.spam_scanners
    return virus, backups, spam


def _spam_task(bank: PolicyBank, recipients: Recipients) -> SpamTask:
    users = tuple([None if r.bypass.spam else r.spam_user for r in recipients])
    return SpamTask(users, bank.settings.sa_mail_body_size_limit, bank.name)


def _wants_banned(settings: Settings, recipients: Recipients) -> bool:
    return has_rules(settings) and not all(r.bypass.banned for r in recipients)


def _needs_parts(settings: Settings, recipients: Recipients, virus: tuple[ScannerSpec, ...]) -> bool:
    """Is there anybody who would look at the parts? (specification, chapter 6.1)"""
    return not settings.bypass_decode_parts and (bool(virus) or _wants_banned(settings, recipients))


def _header_defects(
    message: Message, settings: Settings, recipients: Recipients, decoded: Decoded
) -> tuple[HeaderDefect, ...]:
    tests = settings.allowed_header_tests
    if not tests or all(r.bypass.header for r in recipients):
        return ()
    defects = check_header(message.content.headers, tests, smtputf8=message.envelope.smtputf8)
    return defects + decoded.mime_errors if "mime" in tests else defects

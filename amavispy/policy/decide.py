"""Decide - what becomes of a mail for each of its recipients: pure, and the one place where it is decided.

In: the Message, the Verdict (what it is), the bank in force and the recipients' wishes. Out: a Disposition (who gets it
with which header edits, who does not and what the client hears, what is quarantined). Nothing is done here.

How it goes, for each recipient (specification, chapters 9.1 to 9.3):

1. What was found becomes contents categories, in descending order; what the recipient bypasses adds nothing.
2. From the gravest on, each category's destiny is asked for; D_PASS and lovers go on to the next; the first other
   destiny blocks. Bad headers of bulk mail and of null senders never bounce.
3. The blocking category, or the gravest, chooses the quarantine. A temporary failure is never quarantined: it returns.

Milter and AM.PDP hand a mail back as one, so all recipients must share the header edits (`can_split` False): they get
those of the passed recipient with the highest main category, so no warning is ever lost, whoever else reads it.

**Failures:** TemporaryFailure (451) when a scanner failed whose policy is to tempfail, or when a spam scanner wants the
mail later, unless that cannot matter any more: a virus was found. The mail stays with the client.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from amavispy.mail.address import Address
from amavispy.mail.disposition import Destiny, Disposition, HeaderEdits, QuarantineTarget, RecipientDisposition
from amavispy.mail.message import Message
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.mail.verdict import Banned, Category, ContentsCategory, OnFailure, SpamScan, Verdict, VirusScan
from amavispy.policy.bank import PolicyBank
from amavispy.policy.bulk import bulk_sign
from amavispy.policy.header_edits import Findings, asks_each, edits_for, quarantine_fields
from amavispy.policy.lookup import LookupList, is_true
from amavispy.policy.recipient import RecipientPolicy
from amavispy.policy.reply_texts import blocked_reply, reason
from amavispy.policy.settings import Settings
from amavispy.policy.spam import (
    CLEAN_TAG,
    UNRATED,
    Rating,
    Ratings,
    is_beyond,
    is_beyond_answering,
    spam_categories,
    tell_tags,
    why_put_off,
)

_CLEAN = (ContentsCategory(Category.CLEAN, 0),)
_AMBIGUOUS = 3  # UNCHECKED minor: two readers could read it differently, whoever bypasses what
_MIME = 1  # BADH minor
_NO_EDITS = HeaderEdits()
_NOWHERE = LookupList()


def decide(
    message: Message,
    verdict: Verdict,
    bank: PolicyBank,
    recipients: tuple[RecipientPolicy, ...],
    *,
    can_split: bool,
    adds_received: bool,
) -> Disposition:
    """The fate of the mail for each recipient, in the envelope's order. Raises TemporaryFailure, see above.

    `can_split`: recipients may get different headers. `adds_received`: the mail goes on by SMTP, with our Received
    field; the decision is the same, so that a mail is judged alike whichever way it came.
    """
    del adds_received
    settings = bank.settings
    _insist_on_scans(message, verdict, settings, recipients)
    judge = _Judge(Findings.of(message, verdict, settings), Ratings(verdict.spam_scans, settings), asks_each(settings))
    fates = [judge.fate(number, policy) for number, policy in enumerate(recipients)]
    if not can_split:
        fates = _with_common_edits(fates)
    tell_tags(message, fates)
    return Disposition(tuple(fates), judge.quarantine_fields(fates, recipients))


def after_forwarding(
    disposition: RecipientDisposition, reply: Reply, log_id: str
) -> tuple[RecipientDisposition, Reply]:
    """What the next hop's answer makes of a recipient: a refusal is category MTA and tells why (chapter 2.3)."""
    if reply.is_success:
        return disposition, reply
    is_final = reply.is_reject
    category = ContentsCategory(Category.MTA, 2 if is_final else 1)
    code, enhanced = (reply.code, reply.enhanced) if reply.code >= 400 else (451, "4.5.0")
    answer = Reply(code, enhanced, f"id={log_id} - {reason(category)}, {reply.text}")
    failed = replace(
        disposition,
        categories=tuple(sorted({*disposition.categories, category}, reverse=True)),
        blocking=category,
        destiny=Destiny.REJECT if is_final else Destiny.TEMPFAIL,
        reply=answer,
    )
    return failed, answer


@dataclass(frozen=True, slots=True)
class _Judge:
    """Decides for one recipient after the other; equal edits are made once and shared.

    `asks_each`: some list that the edits depend on may answer each recipient differently.
    """

    findings: Findings
    ratings: Ratings
    asks_each: bool
    edits: dict[object, HeaderEdits] = field(default_factory=dict)

    def fate(self, number: int, policy: RecipientPolicy) -> RecipientDisposition:
        findings = self.findings
        banned = _banned_of(findings.verdict, number, policy)
        rating = self.ratings.of(number, policy)
        categories = _categories(findings, policy, banned, rating, self.ratings.scans_of(number))
        blocking, destiny, is_soft = _blocking(findings, policy, categories)
        quarantine = _quarantine(findings.settings, policy, blocking or categories[0], destiny, rating)
        main = categories[0].major
        return RecipientDisposition(
            recipient=policy.recipient,
            categories=categories,
            blocking=blocking,
            destiny=destiny,
            reply=self._reply(blocking, destiny, banned, is_soft=is_soft) if blocking else None,
            next_hops=policy.next_hops,
            edits=_NO_EDITS if blocking else self._edits(policy, categories, rating, banned, _is_kept(quarantine)),
            quarantine=quarantine,
            is_local=policy.is_local,
            is_tagged=main >= Category.UNCHECKED or (policy.is_local and main >= Category.SPAMMY),
            score=rating.score,
            suppresses_bounce=_bounce_suppression(findings, policy, blocking, banned, rating) if blocking else "",
            sender_listed="W" if policy.sender.is_white else "B" if policy.sender.is_black else "",
        )

    def _reply(self, blocking: ContentsCategory, destiny: Destiny, banned: Banned | None, *, is_soft: bool) -> Reply:
        detail = ""
        if blocking.major is Category.VIRUS:
            detail = ", ".join(self.findings.verdict.virus_names)
        elif blocking.major is Category.BANNED and banned:
            detail = banned.reason
        return blocked_reply(blocking, destiny, self.findings.message.ids.log_id, detail, is_soft=is_soft)

    def _edits(
        self,
        policy: RecipientPolicy,
        categories: tuple[ContentsCategory, ...],
        rating: Rating,
        banned: Banned | None,
        is_quarantined: bool,
    ) -> HeaderEdits:
        short = banned.reason if banned else ""
        own = policy.address if self.asks_each else None
        key = (own, policy.is_local, policy.bypass, policy.tag, policy.tag2, categories, rating, short, is_quarantined)
        if key not in self.edits:
            self.edits[key] = edits_for(
                self.findings, policy, categories, rating, banned=short, is_quarantined=is_quarantined
            )
        return self.edits[key]

    def quarantine_fields(
        self, fates: Sequence[RecipientDisposition], recipients: Sequence[RecipientPolicy]
    ) -> tuple[tuple[str, str], ...]:
        """The verdict on top of the quarantined copy, () when nothing is kept."""
        kept = next((i for i, fate in enumerate(fates) if fate.quarantine), None)
        if kept is None:
            return ()
        majors = {category.major for fate in fates for category in fate.categories}
        banned = next((b.reason for b in self.findings.verdict.banned if b), "")
        rating = self.ratings.of(kept, recipients[kept])
        return quarantine_fields(self.findings, recipients[kept], majors, rating, banned)


# --- scanners that failed


def _insist_on_scans(
    message: Message, verdict: Verdict, settings: Settings, recipients: Sequence[RecipientPolicy]
) -> None:
    """Never pass unscanned what was to be scanned; a virus that was found makes other failures meaningless."""
    virus = [scan for scan in verdict.virus_scans if scan.error and not scan.is_covered]
    if any(scan.on_failure is OnFailure.TEMPFAIL for scan in virus) and not verdict.is_infected:
        what = "ALL VIRUS SCANNERS FAILED" if len(virus) == len(verdict.virus_scans) else "A VIRUS SCANNER FAILED"
        raise _processing_error(message, f"virus_scan FAILED: AV: {what}")
    if any(scan.error and scan.on_failure is OnFailure.TEMPFAIL for scan in verdict.spam_scans) and not (
        verdict.is_infected and _all_lose_it(settings, recipients)
    ):
        raise _processing_error(message, "spam_scan FAILED: A SPAM SCANNER FAILED")
    if (why := why_put_off(verdict.spam_scans, recipients, settings)) and not (
        verdict.is_infected and _all_lose_it(settings, recipients)
    ):
        raise TemporaryFailure(Reply(451, "4.7.1", f"{why}, id={message.ids.log_id}"))


def _all_lose_it(settings: Settings, recipients: Sequence[RecipientPolicy]) -> bool:
    """Whether the virus keeps the mail from everybody, so nobody would have got it unscored."""
    return settings.final_virus_destiny is not Destiny.PASS and not any(
        policy.bypass.virus or Category.VIRUS in policy.loves for policy in recipients
    )


def _processing_error(message: Message, what: str) -> TemporaryFailure:
    return TemporaryFailure(Reply(451, "4.5.0", f"Error in processing, id={message.ids.log_id}, {what}"))


# --- contents categories


def _banned_of(verdict: Verdict, number: int, policy: RecipientPolicy) -> Banned | None:
    if policy.bypass.banned or number >= len(verdict.banned):
        return None
    return verdict.banned[number]


def _categories(
    findings: Findings,
    policy: RecipientPolicy,
    banned: Banned | None,
    rating: Rating,
    scans: Sequence[SpamScan],
) -> tuple[ContentsCategory, ...]:
    """The categories of this mail for this recipient, in descending order; the last is always CLEAN."""
    verdict = findings.verdict
    found: set[ContentsCategory] = set()
    if verdict.is_infected and not policy.bypass.virus:
        found.add(ContentsCategory(Category.VIRUS))
    if banned:
        found.add(ContentsCategory(Category.BANNED))
    if verdict.unchecked or verdict.virus_scans or scans:
        found |= _unchecked(verdict, policy, scans)
    if verdict.header_defects and not policy.bypass.header:
        found |= _bad_header(verdict)
    if 0 < policy.size_limit < findings.message.content.size:
        found.add(ContentsCategory(Category.OVERSIZED))
    if rating is not UNRATED:
        found |= spam_categories(policy, rating)
    return (*sorted(found, reverse=True), *(() if CLEAN_TAG in found else _CLEAN)) if found else _CLEAN


def _unchecked(verdict: Verdict, policy: RecipientPolicy, spam: Sequence[SpamScan]) -> set[ContentsCategory]:
    minors = {u.minor for u in verdict.unchecked if u.minor == _AMBIGUOUS or not policy.bypass.virus}
    if not policy.bypass.virus and any(_leaves_unchecked(scan) for scan in verdict.virus_scans):
        minors.add(0)
    if not policy.bypass.spam and any(s.error and s.on_failure is OnFailure.UNCHECKED for s in spam):
        minors.add(0)
    return {ContentsCategory(Category.UNCHECKED, minor) for minor in minors}


def _leaves_unchecked(scan: VirusScan) -> bool:
    return bool(scan.error) and scan.on_failure is OnFailure.UNCHECKED and not scan.is_covered


def _bad_header(verdict: Verdict) -> set[ContentsCategory]:
    """Of all defects the highest minor counts; a MIME error is kept beside it."""
    minors = {defect.minor for defect in verdict.header_defects}
    return {ContentsCategory(Category.BADH, minor) for minor in {max(minors), *({_MIME} & minors)}}


# --- destinies


def _blocking(
    findings: Findings, policy: RecipientPolicy, categories: Sequence[ContentsCategory]
) -> tuple[ContentsCategory | None, Destiny, bool]:
    """The category that blocks, its destiny and whether soft_bounce made that temporary; None and PASS: none does."""
    for category in categories:
        destiny = _destiny(findings, policy, category)
        if destiny is Destiny.PASS:
            continue
        if findings.settings.soft_bounce and destiny in (Destiny.REJECT, Destiny.BOUNCE):
            return category, Destiny.TEMPFAIL, True
        return category, destiny, False
    return None, Destiny.PASS, False


def _destiny(findings: Findings, policy: RecipientPolicy, category: ContentsCategory) -> Destiny:
    if category.major in policy.loves:
        return Destiny.PASS
    destiny = _final_destiny(findings.settings, category)
    if category.major is Category.BADH and destiny is Destiny.BOUNCE and _is_unanswerable(findings.message):
        return Destiny.PASS
    return destiny


def _final_destiny(settings: Settings, category: ContentsCategory) -> Destiny:
    match category.major:
        case Category.VIRUS:
            return settings.final_virus_destiny
        case Category.BANNED:
            return settings.final_banned_destiny
        case Category.UNCHECKED:
            ambiguous = settings.final_ambiguous_destiny if category.minor == _AMBIGUOUS else None
            return settings.final_unchecked_destiny if ambiguous is None else ambiguous
        case Category.SPAM:
            return settings.final_spam_destiny
        case Category.BADH:
            return settings.final_bad_header_destiny
        case Category.OVERSIZED:
            return settings.final_oversized_destiny
        case _:
            return Destiny.PASS


def _is_unanswerable(message: Message) -> bool:
    return not message.envelope.sender or bool(bulk_sign(message))


def _bounce_suppression(
    findings: Findings,
    policy: RecipientPolicy,
    blocking: ContentsCategory,
    banned: Banned | None,
    rating: Rating,
) -> str:
    """Why the sender of this must not be told, "" when he may be: he is probably not who sent it."""
    if blocking.major is Category.VIRUS and _fakes_sender(findings):
        return "INFECTED"
    if banned and banned.rule_value.startswith("DISCARD"):
        return f"BANNED:{banned.rule_value}"
    if is_beyond_answering(rating, policy, findings.message.envelope, findings.settings):
        return "SPAM"
    return ""


def _fakes_sender(findings: Findings) -> bool:
    maps = findings.settings.viruses_that_fake_sender_maps
    if maps.is_fixed:
        return is_true(maps.fixed)
    return any(is_true(maps.find(Address.of(name))) for name in findings.verdict.virus_names)


# --- quarantine


def _quarantine(
    settings: Settings, policy: RecipientPolicy, category: ContentsCategory, destiny: Destiny, rating: Rating
) -> tuple[QuarantineTarget, ...]:
    """Where copies are kept for this recipient: of what was found, and in an archive of everything."""
    method, maps = _quarantine_settings(settings, category.major)
    archive = settings.archive_quarantine_method
    if destiny is Destiny.TEMPFAIL or not (method or archive):
        return ()
    is_too_much = category.major is Category.SPAM and is_beyond(rating, policy.quarantine_cutoff)
    quarantine = None if is_too_much else _target(policy, method, maps)
    archived = _target(policy, archive, settings.archive_quarantine_to_maps, is_archive=True)
    return tuple(target for target in (quarantine, archived) if target)


def _is_kept(targets: Sequence[QuarantineTarget]) -> bool:
    """Whether the mail is quarantined; an archive is no quarantine."""
    return any(not target.is_archive for target in targets)


def _target(
    policy: RecipientPolicy, method: str, maps: LookupList, *, is_archive: bool = False
) -> QuarantineTarget | None:
    """One copy, None when there is no method or the recipient has no quarantine. BSMTP keeps the recipient's own."""
    if not method:
        return None
    to = maps.find(policy.address)
    if not isinstance(to, str) or not to:
        return None
    is_own = to == "%a" or method.startswith("bsmtp:")
    return QuarantineTarget(method, policy.recipient.address if is_own else to, is_archive)


def _quarantine_settings(settings: Settings, major: Category) -> tuple[str, LookupList]:
    match major:
        case Category.VIRUS:
            return settings.virus_quarantine_method, settings.virus_quarantine_to_maps
        case Category.BANNED:
            return settings.banned_files_quarantine_method, settings.banned_quarantine_to_maps
        case Category.UNCHECKED:
            return settings.unchecked_quarantine_method, settings.unchecked_quarantine_to_maps
        case Category.SPAM:
            return settings.spam_quarantine_method, settings.spam_quarantine_to_maps
        case Category.BADH:
            return settings.bad_header_quarantine_method, settings.bad_header_quarantine_to_maps
        case Category.CLEAN:
            return settings.clean_quarantine_method, settings.clean_quarantine_to_maps
        case _:
            return "", _NOWHERE


# --- hand-back


def _with_common_edits(fates: Sequence[RecipientDisposition]) -> list[RecipientDisposition]:
    """All passed recipients with the edits of the one whose main category is the highest (the first of equals)."""
    passed = [fate for fate in fates if fate.blocking is None]
    if len(passed) < 2:
        return list(fates)
    edits = max(passed, key=lambda fate: fate.main).edits
    return [fate if fate.blocking else replace(fate, edits=edits) for fate in fates]

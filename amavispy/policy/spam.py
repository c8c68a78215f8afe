"""Spam - what the spam scanners' answers and the sender lists amount to for each recipient (specification, chapter 8).

In: the Verdict's spam scans, a RecipientPolicy with its levels and its opinion of the sender, and which advice of
scanners the bank honours. Out: a Rating (score, tests, how sure), the contents categories it leads to, and whether the
mail shall be put off. Scores of several scanners add up; a recipient's points for the sender are added on top.

A level is reached by the score, by a blacklisted sender, or by an action of rspamd that means the same: "reject" is
spam, "add header" is spammy. A whitelisted sender's mail reaches no level but the tag level, and that ten points later.

**Failures:** none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amavispy.mail.disposition import Destiny, RecipientDisposition
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Message
from amavispy.mail.verdict import Banned, Category, ContentsCategory, SpamAdvice, SpamScan
from amavispy.policy.lookup import LookupList
from amavispy.policy.recipient import RecipientPolicy, address_for
from amavispy.policy.sender_lists import NEUTRAL, SenderOpinion
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.policy")
_LEVEL_2 = 15  # amavis' log level 2
CLEAN_TAG = ContentsCategory(Category.CLEAN, 1)
_WHITE_BONUS = 10.0
_MEANS = {
    "reject": Category.SPAM,
    "discard": Category.SPAM,
    "quarantine": Category.SPAM,
    "add header": Category.SPAMMY,
    "rewrite subject": Category.SPAMMY,
}
_PUTS_OFF = ("soft reject", "greylist")


@dataclass(frozen=True, slots=True, eq=False)
class Rating:
    """How much like spam a mail is for a recipient. Recipients rated alike share one object.

    `score` is None when nobody gave one; `tests` are the scanners'; `least` is the category that a scanner's honoured
    action demands at least; `advice` is that whose header edits are honoured.
    """

    score: float | None = None
    tests: tuple[tuple[str, float], ...] = ()
    autolearn: str = ""
    sender: SenderOpinion = NEUTRAL
    least: Category = Category.CLEAN
    advice: tuple[SpamAdvice, ...] = ()

    @property
    def told_tests(self) -> list[tuple[str, float]]:
        """All tests as X-Spam-Status tells them: the recipient's points first, then by name."""
        points = self.sender.points
        return [*((("AM.WBL", points),) if points else ()), *sorted(self.tests)]

    @property
    def shown_score(self) -> float:
        """The score as X-Spam-Score tells it: at least 64 for a blacklisted sender, at most 0 for a whitelisted one."""
        score = self.score or 0.0
        if self.sender.is_black:
            score = max(64.0, score)
        return min(0.0, score) if self.sender.is_white else score

    @property
    def is_blacklisted(self) -> bool:
        """Whether the blacklist counts: the whitelist wins."""
        return self.sender.is_black and not self.sender.is_white


UNRATED = Rating()


class Ratings:
    """The ratings of one mail. Scans that concern some recipients only are found by the recipient's number."""

    def __init__(self, scans: Sequence[SpamScan], settings: Settings) -> None:
        self._honoured = settings.honoured_scanner_advice
        self._common: list[SpamScan] = []
        self._own: dict[int, list[SpamScan]] = {}
        for scan in scans:
            if scan.recipients is None:
                self._common.append(scan)
            else:
                for number in scan.recipients:
                    self._own.setdefault(number, []).append(scan)
        self._known: dict[tuple[SenderOpinion, tuple[int, ...]], Rating] = {}

    def scans_of(self, number: int) -> list[SpamScan]:
        """What the scanners say for the recipient at this position."""
        own = self._own.get(number) if self._own else None
        return [*self._common, *own] if own else self._common

    def of(self, number: int, policy: RecipientPolicy) -> Rating:
        """The rating for this recipient, who is the `number`th of the envelope."""
        if policy.bypass.spam:
            return UNRATED
        key = (policy.sender, tuple(map(id, self._own.get(number, ()))) if self._own else ())
        if key not in self._known:
            self._known[key] = self._rated(self.scans_of(number), policy.sender)
        return self._known[key]

    def _rated(self, scans: Sequence[SpamScan], sender: SenderOpinion) -> Rating:
        scored = [scan for scan in scans if scan.score is not None]
        if not scored and sender is NEUTRAL:
            return UNRATED
        if len(scored) == 1 and sender is NEUTRAL and scored[0].advice is None:  # most mail
            return Rating(scored[0].score, scored[0].tests, scored[0].autolearn)
        scores = [scan.score for scan in scored if scan.score is not None]
        if sender.points:
            scores.append(sender.points)
        advice = [scan.advice for scan in scored if scan.advice]
        demanded = [_MEANS[a.action] for a in advice if a.action in _MEANS and a.action in self._honoured]
        return Rating(
            score=sum(scores) if scores else None,
            tests=tuple([test for scan in scored for test in scan.tests]),
            autolearn=next((scan.autolearn for scan in scored if scan.autolearn), ""),
            sender=sender,
            least=max(demanded, default=Category.CLEAN),
            advice=tuple([a for a in advice if a.is_for_local or "header edits" in self._honoured]),
        )


def spam_categories(policy: RecipientPolicy, rating: Rating) -> set[ContentsCategory]:
    """CLEAN,1 from the tag level on, SPAMMY from tag2, SPAMMY,1 from tag3 (which implies tag2), SPAM from kill."""
    if rating is UNRATED:
        return set()
    sender, score = rating.sender, rating.score
    if score is None and sender.is_hard:
        score = 0.0
    found = set()
    if sender.is_black or _reaches(score, policy.tag, sender):
        found.add(CLEAN_TAG)
    if sender.is_white:
        return found
    if rating.least > Category.CLEAN:
        found.add(CLEAN_TAG)
    if rating.least >= Category.SPAMMY or _is_over(rating, score, policy.tag2):
        found.add(ContentsCategory(Category.SPAMMY))
    if _is_over(rating, score, policy.tag3):
        found |= {ContentsCategory(Category.SPAMMY), ContentsCategory(Category.SPAMMY, 1)}
    if rating.least >= Category.SPAM or _is_over(rating, score, policy.kill):
        found.add(ContentsCategory(Category.SPAM))
    return found


def _reaches(score: float | None, tag: float | None, sender: SenderOpinion) -> bool:
    """The tag level; without one every mail with a score reaches it."""
    if score is None:
        return False
    return tag is None or score - (_WHITE_BONUS if sender.is_white else 0.0) >= tag


def _is_over(rating: Rating, score: float | None, level: float | None) -> bool:
    return rating.sender.is_black or (level is not None and score is not None and score >= level)


def is_beyond(rating: Rating, cutoff: float | None) -> bool:
    """Whether a cut-off level is reached; a blacklisted sender reaches every one there is."""
    if cutoff is None:
        return False
    return rating.is_blacklisted or (rating.score is not None and rating.score >= cutoff)


def is_beyond_answering(rating: Rating, policy: RecipientPolicy, envelope: Envelope, settings: Settings) -> bool:
    """Whether the recipient's or the sender's cut-off level forbids telling the sender."""
    if is_beyond(rating, policy.dsn_cutoff):
        return True
    maps: LookupList = settings.spam_dsn_cutoff_level_bysender_maps
    if rating.score is None or not maps:
        return False
    cutoff = maps.find(policy.sender_address or address_for(envelope.sender, settings))
    return isinstance(cutoff, int | float) and rating.score >= cutoff


def needs_scan(recipients: Sequence[RecipientPolicy], banned: Sequence[Banned | None], settings: Settings) -> bool:
    """Whether a score could matter to anybody who wants one (specification, chapter 8.1).

    It cannot when his lists decide by themselves, or when a banned name keeps the mail from him and nobody is told of
    that: a bounce depends on the score. `banned` has one entry a recipient.
    """
    destiny = settings.final_banned_destiny
    lost = [bool(what) and Category.BANNED not in policy.loves for policy, what in zip(recipients, banned, strict=True)]
    if lost and all(lost) and destiny in (Destiny.DISCARD, Destiny.REJECT):
        return False
    is_discarded = destiny is Destiny.DISCARD
    return any(
        not policy.bypass.spam and not policy.sender.is_hard and not (is_lost and is_discarded)
        for policy, is_lost in zip(recipients, lost, strict=True)
    )


def why_put_off(scans: Sequence[SpamScan], recipients: Sequence[RecipientPolicy], settings: Settings) -> str:
    """What to tell the client when a scanner wants the mail later and the bank honours that, "" to go on.

    Some recipient must be concerned: one whose mail is checked for spam and who does not whitelist the sender.
    """
    for scan in scans:
        action = scan.advice.action if scan.advice else ""
        if action in _PUTS_OFF and action in settings.honoured_scanner_advice:
            concerned = recipients if scan.recipients is None else [recipients[n] for n in scan.recipients]
            if any(not policy.bypass.spam and not policy.sender.is_white for policy in concerned):
                return (scan.advice.message if scan.advice else "") or "Try again later"
    return ""


def tell_tags(message: Message, fates: Iterable[RecipientDisposition]) -> None:
    """Log what X-Spam-Status says, for all who get it together: amavis' "spam-tag" lines."""
    if not _log.isEnabledFor(_LEVEL_2):
        return
    told: dict[str, list[str]] = {}
    for fate in fates:
        status = next((value for name, value in fate.edits.prepend if name == "X-Spam-Status"), None)
        if status is not None:
            told.setdefault(status, []).append(f"<{fate.recipient.address}>")
    for status, to in told.items():
        unfolded = status.replace("\n", "")
        _log.log(_LEVEL_2, "spam-tag, <%s> -> %s, %s", message.envelope.sender, ",".join(to), unfolded)

"""Header edits - which header fields a mail gains and loses on its way, for each recipient (chapter 9.6).

In go what was found and what a recipient wants, out come HeaderEdits; nothing is written here. The formats are
amavis', to the octet, because filters downstream read them: values folded at 78 columns with "\\n ", scores with at
most three decimals, `X-Spam-Status` broken only between its parts and its tests. Texts that strangers chose (virus
names, file names, header excerpts) are made printable ASCII, so they cannot start a field of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from amavispy.mail.disposition import HeaderEdits
from amavispy.mail.message import Message
from amavispy.mail.verdict import Category, ContentsCategory, SpamAdvice, Verdict
from amavispy.policy.lookup import is_true
from amavispy.policy.recipient import RecipientPolicy
from amavispy.policy.settings import Settings
from amavispy.policy.spam import CLEAN_TAG, Rating

_WIDTH = 78
_LEVEL_LIMIT = 64
_TEXT_LIMIT = 900  # RFC 5322 2.1.1: a line has at most 998 octets, and a hostile name may have no blank to fold at
_FORGEABLE = re.compile(rb"^(?:x-spam-|x-amavis-hold)", re.I | re.M)
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), *range(127, 160))}
_NOT_IN_NAMES = str.maketrans(" ,=[]", "_____")
# Fields that are ours to write (prefer_our_added_header_fields), and those that decide how a mail is read.
_READING = ("subject", "from", "content-type", "content-transfer-encoding", "mime-version")
_SPAM_FIELDS = ("x-spam-flag", "x-spam-score", "x-spam-level", "x-spam-status")
_OURS = frozenset((*_READING, *_SPAM_FIELDS, "x-quarantine-id", "x-amavis-alert", "x-amavis-hold", "received"))
_NEVER_REMOVED = frozenset(_READING)
_TAG_VARIABLE = re.compile(r"_(SCORE|REQD|YESNO|YESNOCAPS|HOSTNAME|LOGID|MAILID)_")

Fields = tuple[tuple[str, str], ...]
Places = frozenset[tuple[str, int]]
_NO_PLACES: Places = frozenset()


@dataclass(frozen=True, slots=True)
class Findings:
    """What the fields tell, drawn once from a Verdict. `present`: lower-case names of fields that may have to go."""

    message: Message
    verdict: Verdict
    settings: Settings
    present: frozenset[str]

    @classmethod
    def of(cls, message: Message, verdict: Verdict, settings: Settings) -> Findings:
        return cls(message, verdict, settings, _present(message, settings))


def edits_for(
    findings: Findings,
    policy: RecipientPolicy,
    categories: Sequence[ContentsCategory],
    rating: Rating,
    *,
    banned: str,
    is_quarantined: bool,
) -> HeaderEdits:
    """The edits for one recipient who gets the mail. `banned`: the short reason of what his rules forbid."""
    settings = findings.settings
    majors = {category.major for category in categories}
    fields: list[tuple[str, str]] = []
    if is_quarantined and policy.is_local:
        fields.append(("X-Quarantine-ID", f"<{findings.message.ids.mail_id}>"))
    if findings.verdict.hold:
        fields.append(("X-Amavis-Hold", _folded("X-Amavis-Hold", _printable(findings.verdict.hold).split(" "))))
    if settings.x_header_line and not policy.bypass.virus:
        fields.append((settings.x_header_tag, settings.x_header_line))
    if len(majors) > 1 or Category.CLEAN not in majors:
        fields.extend(_alerts(findings.verdict, majors, banned))
    if policy.is_local and CLEAN_TAG in categories:
        fields.extend(_spam_fields(findings, rating, _levels(policy), is_spam=Category.SPAMMY in majors))
    removed, removed_at = _removed(findings, policy), _NO_PLACES
    if rating.advice:
        advice = [each for each in rating.advice if policy.is_local or not each.is_for_local]
        fields[:0] = _advised(findings, advice)
        gone, removed_at = _advised_removals(findings, advice)
        removed |= gone
    return HeaderEdits(removed, tuple(fields), _subject_tag(findings, policy, categories, rating), removed_at)


def quarantine_fields(
    findings: Findings, policy: RecipientPolicy, majors: set[Category], rating: Rating, banned: str
) -> Fields:
    """What stands on top of a quarantined copy, told by the first recipient it is kept for."""
    hold = _printable(findings.verdict.hold)
    fields = [("X-Amavis-Hold", _folded("X-Amavis-Hold", hold.split(" ")))] if hold else []
    fields.extend(_alerts(findings.verdict, majors, banned))
    levels = ["tag=x", "tag2=x", "kill=x"]
    if not policy.bypass.spam:
        levels = [f"tag={number(policy.tag)}", f"tag2={number(policy.tag2)}", f"kill={number(policy.kill)}"]
    fields.extend(_spam_fields(findings, rating, levels, is_spam=bool(majors & {Category.SPAMMY, Category.SPAM})))
    return tuple(fields)


def asks_each(settings: Settings) -> bool:
    """Whether some list that edits depend on may answer each recipient differently."""
    lists = (
        settings.remove_existing_spam_headers_maps,
        settings.spam_subject_tag_maps,
        settings.spam_subject_tag2_maps,
        settings.spam_subject_tag3_maps,
    )
    return not all(maps.is_fixed for maps in lists)


def number(value: float | None) -> str:
    """A score or level as amavis prints it: at most three decimals, no trailing zeros, "x" for none."""
    if value is None:
        return "x"
    text = f"{value:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# --- fields that go


def _present(message: Message, settings: Settings) -> frozenset[str]:
    """Which of the names that are ours to write already stand in the header: a forged verdict must not survive."""
    content = message.content
    if not _FORGEABLE.search(content.octets, 0, content.body_start) and not settings.remove_existing_x_scanned_headers:
        return frozenset()
    ours = {"x-amavis-hold"}
    if settings.remove_existing_x_scanned_headers:
        ours |= {"x-virus-scanned", settings.x_header_tag.lower()}
    names = {field.name.decode("latin-1").lower() for field in content.headers.fields}
    return frozenset(name for name in names if name in ours or name.startswith("x-spam-"))


def _removed(findings: Findings, policy: RecipientPolicy) -> frozenset[str]:
    present = findings.present
    if not present:
        return present
    if is_true(findings.settings.remove_existing_spam_headers_maps.find(policy.address)):
        return present
    return frozenset(name for name in present if not name.startswith("x-spam-"))


# --- fields that come


def _alerts(verdict: Verdict, majors: set[Category], banned: str) -> Iterable[tuple[str, str]]:
    texts = []
    if Category.VIRUS in majors:
        texts.append(f"INFECTED, message contains virus: {', '.join(verdict.virus_names)}")
    if Category.BANNED in majors:
        texts.append(f"BANNED, message contains {banned}")
    if Category.BADH in majors:
        texts.append(f"BAD HEADER SECTION, {verdict.header_defects[0].text if verdict.header_defects else ''}")
    return [("X-Amavis-Alert", _folded("X-Amavis-Alert", _printable(text).split(" "))) for text in texts]


def _levels(policy: RecipientPolicy) -> list[str]:
    """The levels that the recipient has."""
    levels = (("tagged_above", policy.tag), ("required", policy.tag2))
    return [f"{name}={number(level)}" for name, level in levels if level is not None]


def _spam_fields(findings: Findings, rating: Rating, levels: Sequence[str], *, is_spam: bool) -> Fields:
    sender, stars = rating.sender, max(0, min(int(rating.score or 0), _LEVEL_LIMIT))
    if sender.is_hard:
        stars = 0 if sender.is_white else _LEVEL_LIMIT
    marks = [word for word, holds in (("BLACKLISTED", sender.is_black), ("WHITELISTED", sender.is_white)) if holds]
    head = " ".join(["Yes," if is_spam else "No,", f"score={number(rating.score)}", *levels, *marks])
    autolearn = f"autolearn={_printable(rating.autolearn or 'unavailable')}"
    return (
        ("X-Spam-Flag", "YES" if is_spam else "NO"),
        ("X-Spam-Score", number(rating.shown_score)),
        ("X-Spam-Level", findings.settings.sa_spam_level_char[:1] * stars),
        ("X-Spam-Status", _folded("X-Spam-Status", [head, *_tests(rating), autolearn])),
    )


def _tests(rating: Rating) -> list[str]:
    """`tests=[A=1,`, `B=2]`: between these pieces a line may break."""
    listed = ", ".join(
        f"{_printable(name).translate(_NOT_IN_NAMES)}={number(score)}" for name, score in rating.told_tests
    )
    return f"tests=[{listed}]".split(" ")


def _subject_tag(
    findings: Findings, policy: RecipientPolicy, categories: Sequence[ContentsCategory], rating: Rating
) -> str:
    """The first tag that a category of this recipient brings, from the gravest on."""
    if not policy.is_local:
        return ""
    tags = (_tag_of(findings.settings, policy, category) for category in categories)
    tag = next((tag for tag in tags if tag), "")
    is_spammy = any(category.major is Category.SPAMMY for category in categories)
    return _expanded(tag, findings, policy, rating, is_spammy=is_spammy) if "_" in tag else tag


def _tag_of(settings: Settings, policy: RecipientPolicy, category: ContentsCategory) -> str:
    match category:
        case (Category.UNCHECKED, _):
            return settings.undecipherable_subject_tag
        case (Category.SPAMMY, 1):
            return settings.spam_subject_tag3_maps.find(policy.address) or ""
        case (Category.SPAMMY, _):
            return settings.spam_subject_tag2_maps.find(policy.address) or ""
        case (Category.CLEAN, 1):
            return settings.spam_subject_tag_maps.find(policy.address) or ""
    return ""


def _expanded(tag: str, findings: Findings, policy: RecipientPolicy, rating: Rating, *, is_spammy: bool) -> str:
    ids = findings.message.ids
    answer = "Yes" if is_spammy else "No"
    values = {
        "SCORE": number(rating.score or 0.0),
        "REQD": "-" if policy.tag2 is None else number(policy.tag2),
        "YESNO": answer,
        "YESNOCAPS": answer.upper(),
        "HOSTNAME": findings.settings.myhostname,
        "LOGID": ids.log_id,
        "MAILID": ids.mail_id,
    }
    return _TAG_VARIABLE.sub(lambda match: values[match[1]], tag)


# --- what scanners advise


def _advised(findings: Findings, advice: Sequence[SpamAdvice]) -> Fields:
    """The scanners' fields that are theirs to add."""
    ours = {*_OURS, findings.settings.x_header_tag.lower()}
    fields = [field for each in advice for field in each.add]
    return tuple((name, _advised_value(value)) for name, value in fields if name.lower() not in ours)


def _advised_value(value: str) -> str:
    """The value with its folds, otherwise printable ASCII."""
    return "\n ".join(_printable(line.strip(" \t")) for line in value.split("\n"))


def _advised_removals(findings: Findings, advice: Sequence[SpamAdvice]) -> tuple[frozenset[str], Places]:
    """Which of the fields that are there go: all of a name, or one of them."""
    wanted = {place for each in advice for place in each.remove if place[0] not in _NEVER_REMOVED}
    if not wanted:
        return frozenset(), _NO_PLACES
    present: dict[str, int] = {}
    for field in findings.message.content.headers.fields:
        name = field.name.decode("latin-1").lower()
        present[name] = present.get(name, 0) + 1
    all_of = frozenset(name for name, at in wanted if not at and name in present)
    counted = ((name, at if at > 0 else present.get(name, 0) + 1 + at) for name, at in wanted if at)
    return all_of, frozenset((name, at) for name, at in counted if 0 < at <= present.get(name, 0))


# --- text


def _printable(text: str) -> str:
    """Printable ASCII of a text that a stranger may have chosen; anything else becomes \\xNN, the rest is cut off."""
    return text[:_TEXT_LIMIT].translate(_CONTROLS).encode("ascii", "backslashreplace").decode("ascii")


def _folded(name: str, pieces: Sequence[str]) -> str:
    """The pieces with blanks between, broken before one that would pass column 78."""
    lines = [pieces[0]]
    room = _WIDTH - len(name) - 2 - len(pieces[0])
    for piece in pieces[1:]:
        if len(piece) < room:
            lines.append(f" {piece}")
            room -= len(piece) + 1
        else:
            lines.append(f"\n {piece}")
            room = _WIDTH - len(piece) - 1
    return "".join(lines)

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
from amavispy.mail.verdict import Category, ContentsCategory, Verdict
from amavispy.policy.lookup import is_true
from amavispy.policy.recipient import RecipientPolicy
from amavispy.policy.settings import Settings

_WIDTH = 78
_LEVEL_LIMIT = 64
_TEXT_LIMIT = 900  # RFC 5322 2.1.1: a line has at most 998 octets, and a hostile name may have no blank to fold at
_FORGEABLE = re.compile(rb"^(?:x-spam-|x-amavis-hold)", re.I | re.M)
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), *range(127, 160))}
_TAG_VARIABLE = re.compile(r"_(SCORE|REQD|YESNO|YESNOCAPS|HOSTNAME|LOGID|MAILID)_")

Fields = tuple[tuple[str, str], ...]


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
    score: float | None,
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
    if policy.is_local and score is not None and (Category.CLEAN, 1) in categories:
        levels = f"tagged_above={number(policy.tag)} required={number(policy.tag2)}"
        fields.extend(_spam_fields(findings, score, levels, is_spam=Category.SPAMMY in majors))
    return HeaderEdits(_removed(findings, policy), tuple(fields), _subject_tag(findings, policy, majors, score))


def quarantine_fields(
    findings: Findings, policy: RecipientPolicy, majors: set[Category], score: float | None, banned: str
) -> Fields:
    """What stands on top of a quarantined copy, told by the first recipient it is kept for."""
    hold = _printable(findings.verdict.hold)
    fields = [("X-Amavis-Hold", _folded("X-Amavis-Hold", hold.split(" ")))] if hold else []
    fields.extend(_alerts(findings.verdict, majors, banned))
    levels = "tag=x tag2=x kill=x"
    if not policy.bypass.spam:
        levels = f"tag={number(policy.tag)} tag2={number(policy.tag2)} kill={number(policy.kill)}"
    fields.extend(_spam_fields(findings, score, levels, is_spam=Category.SPAMMY in majors))
    return tuple(fields)


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


def _spam_fields(findings: Findings, score: float | None, levels: str, *, is_spam: bool) -> Fields:
    level = findings.settings.sa_spam_level_char[:1] * max(0, min(int(score or 0), _LEVEL_LIMIT))
    head = f"{'Yes' if is_spam else 'No'}, score={number(score)} {levels}"
    return (
        ("X-Spam-Flag", "YES" if is_spam else "NO"),
        ("X-Spam-Score", number(score or 0.0)),
        ("X-Spam-Level", level),
        ("X-Spam-Status", _folded("X-Spam-Status", [head, *_tests(findings.verdict), _autolearn(findings.verdict)])),
    )


def _tests(verdict: Verdict) -> list[str]:
    """`tests=[A=1,`, `B=2]`: between these pieces a line may break."""
    found = sorted(test for scan in verdict.spam_scans for test in scan.tests)
    listed = ", ".join(f"{_printable(name)}={number(score)}" for name, score in found)
    return f"tests=[{listed}]".split(" ")


def _autolearn(verdict: Verdict) -> str:
    learnt = next((scan.autolearn for scan in verdict.spam_scans if scan.autolearn), "unavailable")
    return f"autolearn={_printable(learnt)}"


def _subject_tag(findings: Findings, policy: RecipientPolicy, majors: set[Category], score: float | None) -> str:
    """The first tag that a category of this recipient brings, from the gravest on."""
    if not policy.is_local:
        return ""
    tag = findings.settings.undecipherable_subject_tag if Category.UNCHECKED in majors else ""
    if not tag and Category.SPAMMY in majors:
        tag = findings.settings.spam_subject_tag2_maps.find(policy.address) or ""
    return _expanded(tag, findings, policy, score) if "_" in tag else tag


def _expanded(tag: str, findings: Findings, policy: RecipientPolicy, score: float | None) -> str:
    ids = findings.message.ids
    values = {
        "SCORE": number(score),
        "REQD": number(policy.tag2),
        "YESNO": "Yes",
        "YESNOCAPS": "YES",
        "HOSTNAME": findings.settings.myhostname,
        "LOGID": ids.log_id,
        "MAILID": ids.mail_id,
    }
    return _TAG_VARIABLE.sub(lambda match: values[match[1]], tag)


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

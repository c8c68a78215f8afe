"""Entry - the one line a mail leaves in the log, in amavis' short form, to the octet (chapter 11.2).

    Passed CLEAN {RelayedInbound}, MYNETS LOCAL [192.0.2.1]:41831 [198.51.100.9] <s@x> -> <r@x>,<r2@x>,
        Queue-ID: ABC123, Message-ID: <mid@x>, mail_id: Jnk7NzYB8pvl, Hits: -2.001, size: 1234, queued_as: 553, 1450 ms

In: Message, PolicyBank, Verdict, Outcome and the time it took. Out: one line for the recipients that got the mail, one
for those that did not. Both tell the actions of the whole mail; Passed tells its main category, Blocked the blocking
one. Log analysers and fail2ban rules of twenty years read this: nothing here may change its order or words.

Everything that strangers chose is escaped: control characters and octets that are no UTF-8 become \\xNN.

Failures: none known; the caller takes any for a bug.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address

from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Client
from amavispy.mail.message import Content, Message
from amavispy.mail.outcome import Outcome, RecipientOutcome
from amavispy.mail.verdict import Category, ContentsCategory, Verdict
from amavispy.policy.bank import PolicyBank
from amavispy.policy.lookup import IpTable

_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), *range(127, 160))}
_CONTROLS.update({code: f"\\x{code - 0xDC00:02X}" for code in range(0xDC80, 0xDD00)})  # octets that are no UTF-8
_CONTROLS.update(dict.fromkeys((0x2028, 0x2029), " "))
_IS_PLAIN = re.compile(r"[ -~]*").fullmatch
_PRIVATE = IpTable.of(
    ("0/8", "10/8", "100.64/10", "127/8", "169.254/16", "172.16/12", "192.168/16", "224/3")
    + ("::/127", "fc00::/7", "fe80::/10", "ff00::/8")
)
_TYPES = {
    Category.CATCHALL: "OTHER",
    Category.CLEAN: "CLEAN",
    Category.MTA: "MTA-BLOCKED",
    Category.OVERSIZED: "OVERSIZED",
    Category.SPAMMY: "SPAMMY",
    Category.SPAM: "SPAM",
}
_ENCRYPTED = 1  # UNCHECKED minor
_STATUSES = {Destiny.TEMPFAIL: "TempFailed", Destiny.REJECT: "Rejected", Destiny.DISCARD: "Discarded"}
_SAID = re.compile(r"from MTA\([^)]*\): (.*)", re.S)
_FIELD = re.compile(rb"^(message-id|resent-message-id|received)[ \t]*:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.I | re.M)
_MESSAGE_ID = re.compile(rb"<([^<>]*)")
_COMMENT = re.compile(rb"\([^()]*\)")
_BY = re.compile(rb"\sby\s", re.I)
_ADDRESS = rb"(?:IPv6:)?(?:::ffff:)?((?:\d{1,3}\.){3}\d{1,3}|[0-9a-f:]*:[0-9a-f:.]+)"
_TCP_INFO = re.compile(rb"\([^()]*?[\[(@ ]" + _ADDRESS + rb"\b|\(" + _ADDRESS + rb"\b", re.I)
_LITERAL = re.compile(rb"\[" + _ADDRESS + rb"\]", re.I)
_FROM = re.compile(rb"from\s", re.I)
_TEXT_LIMIT = 500
_RECEIVED_LIMIT = 100  # fields, from the oldest on; RFC 5321 6.3 takes 100 for a loop
_CLAUSE_LIMIT = 1000  # octets of a field


def entries(message: Message, bank: PolicyBank, verdict: Verdict, outcome: Outcome, milliseconds: int) -> list[str]:
    """The Passed and the Blocked line, each when there are such recipients."""
    passed = [r for r in outcome.recipients if r.is_passed]
    blocked = passed if len(passed) == len(outcome.recipients) else [r for r in outcome.recipients if not r.is_passed]
    story = _Story(message, bank, verdict, outcome, milliseconds)
    lines = []
    if passed:
        main = outcome.categories[0] if blocked is not passed else max(r.disposition.main for r in passed)
        lines.append(story.line("Passed", main, passed, story.queued_as()))
    if blocked is not passed:
        lines.append(story.line("Blocked", max(r.disposition.decisive for r in blocked), blocked, ""))
    return lines


def escaped(text: str) -> str:
    """The text with control characters and stray octets as \\xNN."""
    return text if _IS_PLAIN(text) else text.translate(_CONTROLS)


class _Story:
    """What both lines tell alike, made once."""

    def __init__(
        self, message: Message, bank: PolicyBank, verdict: Verdict, outcome: Outcome, milliseconds: int
    ) -> None:
        self._verdict = verdict
        self._outcome = outcome
        envelope = message.envelope
        marks = _marks(message.content)
        where = _where(bank, envelope.client, _oldest_public(envelope.client, marks[b"received"]))
        self._front = f"{{{','.join(actions(outcome, is_ours=bank.settings.originating))}}}, {where}"
        self._front += f"<{escaped(envelope.sender)}> -> "
        self._middle = _middle(message, outcome, marks)
        self._end = f", {milliseconds} ms"

    def line(self, word: str, category: ContentsCategory, recipients: Sequence[RecipientOutcome], queued: str) -> str:
        to = ",".join([f"<{escaped(r.disposition.recipient.address)}>" for r in recipients])
        return f"{word} {self._type(category)} {self._front}{to}{self._middle}{queued}{self._end}"

    def queued_as(self) -> str:
        """`, queued_as: 553261D1CB0/550 5.1.1 unknown user`: what the next hops called it, or said of it."""
        names = dict.fromkeys(_queue_name(r) for r in self._outcome.recipients)
        told = "/".join(escaped(name) for name in names if name)
        return f", queued_as: {told}" if told else ""

    def _type(self, category: ContentsCategory) -> str:
        match category.major:
            case Category.VIRUS:
                return f"INFECTED ({escaped(', '.join(self._verdict.virus_names)[:_TEXT_LIMIT])})"
            case Category.BANNED:
                return f"BANNED ({escaped(next((b.reason for b in self._verdict.banned if b), '')[:_TEXT_LIMIT])})"
            case Category.UNCHECKED:
                return "UNCHECKED-ENCRYPTED" if category.minor == _ENCRYPTED else "UNCHECKED"
            case Category.BADH:
                return f"BAD-HEADER-{category.minor}"
            case major:
                return _TYPES[major]


def _queue_name(recipient: RecipientOutcome) -> str:
    if recipient.queued_as or recipient.reply.is_success:
        return recipient.queued_as
    said = _SAID.search(recipient.reply.text)
    return said[1][:_TEXT_LIMIT] if said else ""


def _where(bank: PolicyBank, client: Client, oldest: str) -> str:
    """`MYNETS LOCAL [192.0.2.1]:41831 [198.51.100.9] `: the banks, the client and where the mail first came from."""
    text = f"{bank.name} " if bank.path else ""
    if client.address:
        text += "LOCAL " if bank.settings.originating else ""
        text += f"[{client.address}]:{client.port} " if client.port else f"[{client.address}] "
    return f"{text}[{oldest}] " if oldest else text


def _middle(message: Message, outcome: Outcome, marks: dict[bytes, deque[bytes]]) -> str:
    places = ",".join([copy.location for copy in outcome.quarantine])
    text = f", quarantine: {escaped(places)}" if places else ""
    if message.envelope.client.queue_id:
        text += f", Queue-ID: {escaped(message.envelope.client.queue_id)}"
    for name, values in (("Message-ID", marks[b"message-id"]), ("Resent-Message-ID", marks[b"resent-message-id"])):
        if values and (identity := _message_id(values[0])):
            text += f", {name}: <{identity}>"
    return f"{text}, mail_id: {message.ids.mail_id}, Hits: {_hits(outcome)}, size: {message.content.size}"


def _message_id(value: bytes) -> str:
    value = value[:_TEXT_LIMIT].replace(b"\r\n", b"")
    match = _MESSAGE_ID.search(value)
    identity = match[1] if match else _COMMENT.sub(b"", value).strip()
    return escaped(identity.decode("utf-8", "surrogateescape"))


def _hits(outcome: Outcome) -> str:
    """The spam score, `-` when unknown, `min..max` when recipients differ by a tenth or more."""
    scores = [r.disposition.score for r in outcome.recipients if r.disposition.score is not None]
    if not scores:
        return "-"
    low, high = min(scores), max(scores)
    return f"{_number(low)}..{_number(high)}" if high - low >= 0.1 else _number(high)


def _number(score: float) -> str:
    text = f"{score:.3f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


# --- actions


def actions(outcome: Outcome, *, is_ours: bool) -> Iterable[str]:
    """`RelayedTaggedInbound,RelayedInbound,Quarantined`: each way it went; untagged after tagged, as amavis sorts."""
    ways = {(_status(r), r.disposition.is_local) for r in outcome.recipients}
    words = sorted(f"{status}{_direction(is_local=is_local, is_ours=is_ours)}" for status, is_local in ways)
    if outcome.quarantine:
        words += ["Quarantined"] if outcome.is_quarantined else []
        words += ["Archived"] if any(copy.is_archive for copy in outcome.quarantine) else []
    return [word.replace("RelayedUntagged", "Relayed") for word in words]


def _status(recipient: RecipientOutcome) -> str:
    disposition = recipient.disposition
    if recipient.is_passed:
        tagged = "RelayedTagged" if disposition.is_tagged else "RelayedUntagged"
        return tagged if recipient.next_hop else "Accepted"
    if recipient.reply.is_tempfail:
        return "TempFailed"
    if recipient.bounce:
        return "Bounced" if recipient.bounce == "sent" else "NoBounce"
    return _STATUSES.get(disposition.destiny, "NoBounce")


def _direction(*, is_local: bool, is_ours: bool) -> str:
    if is_local:
        return "Internal" if is_ours else "Inbound"
    return "Outbound" if is_ours else "OpenRelay"


# --- what the header tells


def _marks(content: Content) -> dict[bytes, deque[bytes]]:
    """The values of the fields the entry needs, by name, with folds: a search, as parsing costs ten times that."""
    marks: dict[bytes, deque[bytes]] = {
        b"message-id": deque(maxlen=1),
        b"resent-message-id": deque(maxlen=1),
        b"received": deque(maxlen=_RECEIVED_LIMIT),
    }
    for match in _FIELD.finditer(content.octets, 0, content.body_start):
        found = marks[match[1].lower()]
        if found.maxlen != 1 or not found:  # the first Message-ID, the oldest Received fields
            found.append(match[2])
    return marks


def trace(content: Content) -> Iterable[str]:
    """The public addresses in the Received fields, newest first; at most a hundred, from the oldest on."""
    addresses = (_from_address(value) for value in _marks(content)[b"received"])
    return (address for address in addresses if address and not _PRIVATE.contains(address))


def _oldest_public(client: Client, received: deque[bytes]) -> str:
    """The oldest public address in the Received fields, else the client's own if public, else ""."""
    for value in reversed(received):
        address = _from_address(value)
        if address and not _PRIVATE.contains(address):
            return address
    return client.address if client.address and not _PRIVATE.contains(client.address) else ""


def _from_address(value: bytes) -> str:
    """The address that a Received field says it came from: what the MTA saw before what the client claimed."""
    value = value[:_CLAUSE_LIMIT].lstrip()
    if not _FROM.match(value):
        return ""
    by = _BY.search(value)
    clause = value[: by.start()] if by else value
    match = _TCP_INFO.search(clause) or _LITERAL.search(clause)
    return _normal(next(group for group in match.groups() if group)) if match else ""


def _normal(address: bytes) -> str:
    try:
        parsed = ip_address(address.decode("ascii"))
    except ValueError:
        return ""
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)

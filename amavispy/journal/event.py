"""Event - one mail as a JSON object, with amavis' field names (chapter 11.5), for programs that collect and count.

In: Facts. Out: a dictionary of texts, numbers, truth values, lists and dictionaries. Fields that are not known are left
out; so are those of things this program does not do. Texts are shown forms: decoded, without control characters.

**Failures:** none known; the caller takes any for a bug.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from amavispy.journal.entry import actions, trace
from amavispy.journal.facts import Facts
from amavispy.mail.disposition import Destiny
from amavispy.mail.header_text import printable, readable
from amavispy.mail.mailboxes import mailboxes
from amavispy.mail.outcome import RecipientOutcome
from amavispy.mail.verdict import Category, ContentsCategory
from amavispy.policy.bulk import bulk_sign

_NAMES: Mapping[Category, str] = {
    Category.CATCHALL: "CatchAll",
    Category.CLEAN: "Clean",
    Category.MTA: "MtaFailed",
    Category.OVERSIZED: "Oversized",
    Category.BADH: "BadHdr",
    Category.SPAMMY: "Spammy",
    Category.SPAM: "Spam",
    Category.UNCHECKED: "Unchecked",
    Category.BANNED: "Banned",
    Category.VIRUS: "Virus",
}
_MINOR_NAMES: Mapping[tuple[Category, int], str] = {
    (Category.CLEAN, 1): "CleanTag",
    (Category.MTA, 1): "MtaTempFailed",
    (Category.MTA, 2): "MtaRejected",
    **{
        (Category.BADH, minor): f"BadHdr{name}"
        for minor, name in enumerate(("Mime", "8bit", "Char", "Space", "Long", "Syntax", "Missing", "Dupl"), 1)
    },
    (Category.SPAMMY, 1): "Spammy3",
    (Category.UNCHECKED, 1): "UncheckedEncrypted",
    (Category.UNCHECKED, 2): "UncheckedOverLimits",
    (Category.UNCHECKED, 3): "UncheckedAmbiguousContent",
}
_STEPS = {
    "receive": "Receiving",
    "decode": "Decoding",
    "scan": "Scanning",
    "quarantine": "Quarantine",
    "deliver": "Sending",
}
_REFERENCE = re.compile(r"<[^<>\s]{1,255}>")
_LIST_LIMIT = 100


def encoded(fields: Mapping[str, Any]) -> str:
    """The event on one line."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def event(facts: Facts) -> dict[str, Any]:
    """All fields that are known."""
    fields = {
        "type": "amavis",
        "host": facts.settings.myhostname,
        "log_id": facts.message.ids.log_id,
        "mail_id": facts.message.ids.mail_id,
        **_where_from(facts),
        **_envelope(facts),
        **_header(facts),
        "policy_banks": list(facts.bank.path),
        "ip_trace": list(trace(facts.message.content)),
        "size": facts.message.content.size,
        **_found(facts),
        **_done(facts),
        **_when(facts),
    }
    return {name: value for name, value in fields.items() if value not in (None, "", [], {})}


def category_name(category: ContentsCategory) -> str:
    """amavis' display name: "Spam", "BadHdrMissing"."""
    return _MINOR_NAMES.get((category.major, category.minor)) or _NAMES[category.major]


def _where_from(facts: Facts) -> dict[str, Any]:
    connection, client = facts.message.connection, facts.message.envelope.client
    return {
        "src_ip": connection.peer,
        "dst_ip": connection.local,
        "dst_port": connection.local_port or None,
        "client_ip": client.address,
        "client_port": client.port or None,
        "partition": facts.settings.partition_tag and str(facts.partition),
        "queue_id": printable(client.queue_id),
        "protocol": facts.message.protocol,
    }


def _envelope(facts: Facts) -> dict[str, Any]:
    recipients = facts.outcome.recipients
    return {
        "mail_from": _path(facts.message.envelope.sender),
        "rcpt_to": [_path(r.disposition.recipient.address) for r in recipients],
        "rcpt_num": len(recipients),
        "recipients": [_recipient(recipient) for recipient in recipients],
    }


def _recipient(recipient: RecipientOutcome) -> dict[str, Any]:
    disposition = recipient.disposition
    blocking = category_name(disposition.blocking) if disposition.blocking else None
    main = category_name(disposition.main)
    fields = {
        "rcpt_to": _path(disposition.recipient.address),
        "rcpt_is_local": disposition.is_local,
        "action": _action(recipient),
        "smtp_response": printable(str(recipient.reply), 500),
        "smtp_code": str(recipient.reply.code),
        "queued_as": printable(recipient.queued_as),
        "spam_score": disposition.score,
        "blacklisted": True if disposition.sender_listed == "B" else None,
        "whitelisted": True if disposition.sender_listed == "W" else None,
        "ccat_blocking": blocking,
        "ccat_main": main if main != blocking else None,
    }
    return {name: value for name, value in fields.items() if value not in (None, "")}


def _action(recipient: RecipientOutcome) -> str:
    reply, destiny = recipient.reply, recipient.disposition.destiny
    if reply.is_tempfail:
        return "TEMPFAIL"
    if reply.is_reject:
        return "BOUNCE" if destiny is Destiny.BOUNCE else "REJECT"
    return destiny.name


def _header(facts: Facts) -> dict[str, Any]:
    headers = facts.message.content.headers

    def addresses(name: bytes) -> list[str]:
        return [printable(address) for address in mailboxes(headers.first(name) or b"")]

    references = readable(headers.first(b"references"), 2000)
    return {
        "sender": next(iter(addresses(b"sender")), None),
        "author": addresses(b"from"),
        "to_addr": addresses(b"to"),
        "cc_addr": addresses(b"cc"),
        "subject": facts.subject,
        "message_id": facts.message_id,
        "references": _REFERENCE.findall(references)[:_LIST_LIMIT],
        "user_agent": readable(headers.first(b"user-agent") or headers.first(b"x-mailer")),
        "is_bulk": bool(bulk_sign(facts.message)) or None,
        "is_mlist": (headers.first(b"list-id") is not None) or None,
        "is_auto_resp": (headers.first(b"auto-submitted") or b"no").strip().lower() != b"no" or None,
    }


def _found(facts: Facts) -> dict[str, Any]:
    verdict, recipients = facts.verdict, facts.outcome.recipients
    scores = [r.disposition.score for r in recipients if r.disposition.score is not None]
    tests = {name: score for scan in verdict.spam_scans for name, score in scan.tests}
    return {
        "content_type": category_name(facts.decisive),
        "attached_file_names": [printable(part.names[0]) for part in verdict.parts if part.names][:_LIST_LIMIT],
        "banning_reason": next((printable(found.reason) for found in verdict.banned if found), None),
        "spam_score": round(max(scores), 3) if scores else None,
        "checks_performed": " ".join(_checks(facts)),
        "virusnames": [printable(name) for name in verdict.virus_names],
        "av_scan": {
            printable(s.scanner): [printable(name) for name in s.names] for s in verdict.virus_scans if s.is_infected
        },
        "tests": sorted(map(printable, tests)),
        "tests_spam": [printable(name) for name in sorted(tests, key=lambda t: -tests[t]) if tests[name] > 0],
        "tests_ham": [printable(name) for name in sorted(tests, key=lambda t: tests[t]) if tests[name] < 0],
    }


def _checks(facts: Facts) -> Iterable[str]:
    """V viruses, S spam, H header, B banned names, D a bounce was made."""
    verdict = facts.verdict
    performed = {
        "V": verdict.virus_scans,
        "S": verdict.spam_scans,
        "H": facts.settings.allowed_header_tests,
        "B": verdict.banned,
        "D": any(recipient.bounce == "sent" for recipient in facts.outcome.recipients),
    }
    return (letter for letter, is_performed in performed.items() if is_performed)


def _done(facts: Facts) -> dict[str, Any]:
    outcome = facts.outcome
    kept = next((copy for copy in outcome.quarantine if not copy.is_archive), None)
    acts = list(dict.fromkeys(_action(recipient) for recipient in outcome.recipients))
    to = ",".join(_path(r.disposition.recipient.address) for r in outcome.recipients)
    kind, sender = category_name(facts.decisive), _path(facts.message.envelope.sender)
    return {
        "quarantine": printable(kept.location) if kept else None,
        "quar_type": kept.kind if kept else None,
        "dsn_sent": any(recipient.bounce == "sent" for recipient in outcome.recipients),
        "originating": facts.settings.originating,
        "actions_performed": " ".join(actions(outcome, is_ours=facts.settings.originating)),
        "smtp_code": list(dict.fromkeys(str(recipient.reply.code) for recipient in outcome.recipients)),
        "queued_as": list(dict.fromkeys(printable(r.queued_as) for r in outcome.recipients if r.queued_as)),
        "action": acts,
        "message": f"{facts.message.ids.log_id} {','.join(acts)} {kind} {sender} -> {to}",
    }


def _when(facts: Facts) -> dict[str, Any]:
    received: datetime = facts.message.received_at
    elapsed = {_STEPS.get(step, step): round(seconds, 3) for step, seconds in facts.timings.steps}
    elapsed["Total"] = round(facts.timings.milliseconds / 1000, 3)
    year, week, day = received.isocalendar()
    return {
        "time_unix": round(received.timestamp(), 3),
        "@timestamp": received.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "time_iso_week_date": f"{year:04d}-W{week:02d}-{day}",
        "elapsed": elapsed,
    }


def _path(address: str) -> str:
    return f"<{printable(address, 320)}>"

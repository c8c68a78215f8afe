"""log_line - reads amavis' main log line back into its fields, for the demo and for tests.

(12345-01) Passed CLEAN {RelayedInbound}, PARTNER [192.0.2.129]:25 <s> -> <r>, Queue-ID: ..., mail_id: ..., 12 ms
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LINE = re.compile(
    r"\((?P<log_id>[^)]+)\) (?P<verb>Passed|Blocked) (?P<kind>[A-Z0-9-]+(?: \(.*?\))?) \{(?P<actions>[^}]*)\}, "
    r"(?:(?P<banks>[^\s\[<]+) )?(?P<local>LOCAL )?(?:\[(?P<client>[^\]]+)\](?::\d+)? )?(?:\[[^\]]+\] )?"
    r"(?P<sender><.*?>) -> (?P<recipients><.*?>(?:,<.*?>)*)(?P<rest>,.*)"
)
_FIELD = re.compile(r", (?P<name>[A-Za-z_-]+): (?P<value>.*?)(?=, [A-Za-z_-]+: |, [\d.]+ ms$|$)")


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line. `kind` is the category word with its reason; `banks` the path "A/B"; fields that are missing are ""."""

    log_id: str
    verb: str
    kind: str
    actions: str
    banks: str
    client: str
    recipients: str
    quarantine: str
    message_id: str
    mail_id: str
    queued_as: str


def parse(line: str) -> LogLine | None:
    """The fields of a main log line, whatever syslog prefix stands before it; None for any other line."""
    match = _LINE.search(line)
    if not match:
        return None
    fields = {found["name"]: found["value"] for found in _FIELD.finditer(match["rest"])}
    return LogLine(
        match["log_id"],
        match["verb"],
        match["kind"],
        match["actions"],
        match["banks"] or "",
        match["client"] or "",
        match["recipients"],
        fields.get("quarantine", ""),
        fields.get("Message-ID", ""),
        fields.get("mail_id", ""),
        fields.get("queued_as", ""),
    )

"""scan_report - what `amavispy scan` tells of one mail: as an object of JSON, as lines of text, as a tree.

In: a mail, its Verdict and its Disposition, or the reply to a mail that could not be judged. The keys of the object are
an interface for programs: file, size, category, parts, defects, viruses, banned, spam, would (docs/scan.md).

**Failures:** none. Whatever stands in a mail is shown with its control characters and direction marks escaped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amavispy.mail.disposition import Disposition
from amavispy.mail.message import Message
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory, Part, Verdict

# The words of the main log line.
_WORDS = {
    Category.VIRUS: "INFECTED",
    Category.BANNED: "BANNED",
    Category.SPAM: "SPAM",
    Category.SPAMMY: "SPAMMY",
    Category.OVERSIZED: "OVERSIZED",
    Category.MTA: "MTA-BLOCKED",
    Category.CLEAN: "CLEAN",
    Category.CATCHALL: "OTHER",
}
_MINORS = {1: "-ENCRYPTED", 2: "-OVER-LIMITS", 3: "-AMBIGUOUS"}
_ATTRIBUTES = {"U": "undecipherable", "C": "encrypted", "B": "ambiguous", "D": "directory", "S": "special", "L": "link"}
_SHOWN_NAME = 100


@dataclass(frozen=True, slots=True)
class Report:
    """One mail. `failure` is the reply to a mail that could not be judged; its disposition is empty then."""

    name: str
    message: Message
    verdict: Verdict
    disposition: Disposition
    failure: Reply | None

    @property
    def category(self) -> str:
        """The gravest category of any recipient, in the log's words; FAILED when there is none."""
        if self.failure:
            return "FAILED"
        return _word(max(recipient.main for recipient in self.disposition.recipients))

    @property
    def is_clean(self) -> bool:
        """Everybody would get it, and nobody would be told anything."""
        return self.category == "CLEAN"

    def as_json(self) -> dict[str, Any]:
        return {
            "file": self.name,
            "size": self.message.content.size,
            "category": self.category,
            "parts": [_part(part) for part in in_tree_order(self.verdict.parts)],
            "defects": list(self._defects()),
            "viruses": list(self._viruses()),
            "banned": list(self._banned()),
            "spam": self._spam(),
            "would": list(self._would()),
        }

    def json_line(self) -> str:
        """One line of ASCII."""
        return json.dumps(self.as_json())

    def lines(self) -> Iterator[str]:
        """The same for people: the category, the tree of parts, the findings."""
        yield f"{for_people(self.name)}: {self.category}"
        for part in in_tree_order(self.verdict.parts):
            yield f"{'  ' * (part.location.count('/') + 1)}{described(part)}"
        yield from (f"  {kind}: {text}" for kind, text in self.findings())

    def findings(self) -> Iterator[tuple[str, str]]:
        """What is not about one part alone: (what it is, text), ready to be shown."""
        for defect in self._defects():
            yield defect["kind"], for_people(defect["text"])
        for virus in self._viruses():
            yield "virus", for_people(f"{virus['name']} ({virus['scanner']})")
        for banned in self._banned():
            yield "banned", for_people(f"{banned['path']} by {banned['rule']}")
        spam = self._spam()
        if spam["score"] is not None:
            tests = ", ".join(f"{name}={score:g}" for name, score in spam["tests"])
            yield "spam", for_people(f"{spam['score']:g}{' ' if tests else ''}{tests}")
        for fate in self._would():
            reply = f": {fate['reply']}" if fate["reply"] else ""
            yield "would", for_people(f"{fate['destiny']} <{fate['recipient']}> {fate['category']}{reply}")

    def _defects(self) -> Iterator[dict[str, Any]]:
        for defect in self.verdict.header_defects:
            yield {"kind": "header", "minor": defect.minor, "text": defect.text}
        for unchecked in self.verdict.unchecked:
            yield {"kind": "unchecked", "minor": unchecked.minor, "text": unchecked.text}
        failed = [(scan.scanner, scan.error) for scan in self.verdict.virus_scans]
        failed += [(scan.scanner, scan.error) for scan in self.verdict.spam_scans]
        for scanner, error in failed:
            if error:
                yield {"kind": "scanner", "minor": None, "text": f"{scanner}: {error}"}

    def _viruses(self) -> Iterator[dict[str, str]]:
        for scan in self.verdict.virus_scans:
            yield from ({"name": name, "scanner": scan.scanner} for name in dict.fromkeys(scan.names))

    def _banned(self) -> Iterator[dict[str, Any]]:
        """Each banned part once, with those for whom it is."""
        recipients = [recipient.address for recipient in self.message.envelope.recipients]
        found = [(banned, to) for banned, to in zip(self.verdict.banned, recipients, strict=False) if banned]
        for banned in dict.fromkeys(banned for banned, _ in found):
            yield {
                "path": banned.path,
                "attributes": banned.attributes_path,
                "rule": banned.rule_key,
                "value": banned.rule_value,
                "comment": banned.rule_comment,
                "recipients": [to for other, to in found if other == banned],
            }

    def _spam(self) -> dict[str, Any]:
        scans = self.verdict.spam_scans
        return {
            "score": self.verdict.spam_score,
            "tests": [[name, score] for scan in scans for name, score in scan.tests],
            "scanners": [{"scanner": scan.scanner, "score": scan.score} for scan in scans],
        }

    def _would(self) -> Iterator[dict[str, Any]]:
        """What the daemon would do for each recipient."""
        if self.failure:
            for recipient in self.message.envelope.recipients:
                yield _fate(recipient.address, "D_TEMPFAIL", "FAILED", self.failure, [])
        for fate in self.disposition.recipients:
            copies = [target.to for target in fate.quarantine]
            yield _fate(fate.recipient.address, f"D_{fate.destiny.name}", _word(fate.decisive), fate.reply, copies)


def _fate(recipient: str, destiny: str, category: str, reply: Reply | None, quarantine: list[str]) -> dict[str, Any]:
    return {
        "recipient": recipient,
        "destiny": destiny,
        "category": category,
        "reply": str(reply) if reply else None,
        "quarantine": quarantine,
    }


def _word(category: ContentsCategory) -> str:
    if category.major is Category.BADH:
        return f"BAD-HEADER-{category.minor}"
    if category.major is Category.UNCHECKED:
        return f"UNCHECKED{_MINORS.get(category.minor, '')}"
    return _WORDS[category.major]


def _part(part: Part) -> dict[str, Any]:
    return {
        "path": part.location,
        "type": [*part.types, *(f".{short}" for short in part.short_types)],
        "names": list(part.names),
        "size": part.size,
        "sha256": hashlib.sha256(part.octets).hexdigest() if part.octets is not None else None,
        "defects": _part_defects(part),
    }


def _part_defects(part: Part) -> list[str]:
    told = [_ATTRIBUTES.get(letter, letter) for letter in part.attributes]
    return list(dict.fromkeys([*told, *(str(defect.kind) for defect in part.defects)]))


def in_tree_order(parts: Sequence[Part]) -> Iterator[Part]:
    """Each part before what it contains, and that before its next sibling."""
    children: dict[int | None, list[Part]] = {}
    for part in sorted(parts, key=_place, reverse=True):
        children.setdefault(part.parent, []).append(part)
    waiting = children.get(None, [])
    while waiting:
        part = waiting.pop()
        yield part
        waiting += children.get(part.number, [])


def _place(part: Part) -> tuple[int, int]:
    """Among its siblings; a preamble has its container's place and a lower number."""
    return int(part.location.rpartition("/")[2]), part.number


def described(part: Part) -> str:
    """A part on one line: `1/2 application/zip,.zip "x.zip" 214 B; encrypted`."""
    types = ",".join([*part.types, *(f".{short}" for short in part.short_types)])
    names = "".join(f' "{for_people(name[-_SHOWN_NAME:])}"' for name in part.names)
    size = f" {part.size} B" if part.octets is not None else ""
    defects = "; ".join(_part_defects(part))
    return f"{part.location} {for_people(types)}{names}{size}{'; ' if defects else ''}{for_people(defects)}"


def for_people(text: str) -> str:
    """One line that shows what is there: what does not print is escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{{{ord(c):02X}}}" for c in text)


def print_tree(console: Any, report: Report) -> None:
    """The report for a terminal, on a rich console."""
    from rich.text import Text
    from rich.tree import Tree

    style = "green" if report.is_clean else "bold red"
    tree = Tree(Text.assemble((for_people(report.name), "bold"), ": ", (report.category, style)))
    nodes: dict[int | None, Tree] = {None: tree}
    for part in in_tree_order(report.verdict.parts):
        branch = nodes.get(part.parent, tree)
        nodes[part.number] = branch.add(Text(described(part), style="yellow" if part.attributes else ""))
    for kind, text in report.findings():
        tree.add(Text.assemble((f"{kind}: ", "bold"), text))
    console.print(tree)

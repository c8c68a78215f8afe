"""Quarantine index - everything that is kept, findable by mail_id, recipient, sender, subject, time and category.

In: an Original and its copies, once they are durable. Out: KeptMail, newest first. The copies are the truth and the
index can be made from them again; so losing it, or failing to write it, loses no mail and refuses none.

Addresses and texts are kept as they can be shown; keys for searching in lower case.

**Failures:** `add` and `released` log and go on. Everything else raises IndexFailure. The worker's alarm passes.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from amavispy.delivery.index_database import IndexDatabase, IndexFailure, Statements
from amavispy.delivery.quarantine_text import Original
from amavispy.mail.disposition import RecipientDisposition
from amavispy.mail.header_text import printable, readable
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.verdict import Category

_log = logging.getLogger("amavispy.quarantine")
ARCHIVE = "archive"
CATEGORY_NAMES = {
    Category.VIRUS: "virus",
    Category.BANNED: "banned",
    Category.UNCHECKED: "unchecked",
    Category.SPAM: "spam",
    Category.BADH: "bad_header",
}
_CLEAN = "clean"
_ADDRESS_LIMIT = 320
_TEXT_LIMIT = 255
_BATCH = 500
_COLUMNS = (
    "mail_id, partition_tag, host, received_at, category, sender, subject, from_addr, message_id, size, score, copies"
)
# Statements are made of fixed texts; what people look for are values.
_SELECT = f"SELECT {_COLUMNS} FROM quarantine_index"  # noqa: S608
_INSERT = f"INSERT INTO quarantine_index ({_COLUMNS}, subject_key) VALUES ({', '.join('?' * 13)})"  # noqa: S608
_SELECT_RECIPIENTS = "SELECT mail_id, address, is_blocked, released_at FROM quarantine_index_recipient WHERE mail_id IN"
_HAS_RECIPIENT = "mail_id IN (SELECT mail_id FROM quarantine_index_recipient WHERE address_key"


@dataclass(frozen=True, slots=True)
class KeptFor:
    """One recipient. `released_at`: seconds since the epoch, None when it was not released to him."""

    address: str
    is_blocked: bool
    released_at: int | None = None


@dataclass(frozen=True, slots=True)
class KeptMail:
    """A kept mail. `received_at` in seconds since the epoch, `tag` its partition, `category` as in CATEGORY_NAMES."""

    mail_id: str
    tag: int
    host: str
    received_at: int
    category: str
    sender: str
    subject: str
    from_addr: str
    message_id: str
    size: int
    score: float | None
    copies: tuple[KeptCopy, ...]
    recipients: tuple[KeptFor, ...] = ()


@dataclass(frozen=True, slots=True)
class Query:
    """What to look for; all that is given must hold. Addresses and subject may hold `*`; a subject is found anywhere.

    `limit` 0 is all.
    """

    since: int | None = None
    until: int | None = None
    sender: str = ""
    recipient: str = ""
    subject: str = ""
    category: str = ""
    limit: int = 0
    is_oldest_first: bool = False


class QuarantineIndex:
    """The index in this database. `host`: the name of this node."""

    def __init__(self, database: IndexDatabase, host: str = "") -> None:
        self._database = database
        self._host = host

    # --- for the filter

    def add(self, original: Original, copies: Sequence[KeptCopy]) -> None:
        """Remember a mail. Never raises but for the worker's alarm."""
        self._try("remember", original.mail_id, lambda: self.put([_mail(original, copies, self._host)]))

    def released(self, mail_id: str, recipients: Iterable[str]) -> None:
        """The mail has been released to these. Never raises but for the worker's alarm."""
        addresses = [printable(address, _ADDRESS_LIMIT).lower() for address in recipients]
        self._try("mark as released", mail_id, lambda: self._mark(mail_id, addresses))

    def copies_of(self, mail_id: str) -> tuple[KeptCopy, ...]:
        """Where its copies are, () when it is not known. Never raises but for the worker's alarm."""
        try:
            mail = self.get(mail_id)
        except IndexFailure as error:
            _log.warning("quarantine index: cannot look up %s: %s", mail_id, error)
            return ()
        return mail.copies if mail else ()

    def _try(self, what: str, mail_id: str, act: Callable[[], None]) -> None:
        try:
            try:
                act()
            except IndexFailure as error:
                if not error.is_passing:
                    raise
                act()
        except IndexFailure as error:
            _log.error("quarantine index: cannot %s %s: %s; `amavispy quarantine reindex`", what, mail_id, error)

    def _mark(self, mail_id: str, addresses: Sequence[str]) -> None:
        now = int(time.time())
        statement = "UPDATE quarantine_index_recipient SET released_at = ? WHERE mail_id = ? AND address_key = ?"
        with self._database.transaction() as statements:
            statements.run_each(statement, [(now, mail_id, address) for address in addresses])

    # --- for people

    def put(self, mails: Iterable[KeptMail]) -> None:
        """Write these mails, instead of what was known of them."""
        with self._database.transaction() as statements:
            for mail in mails:
                _delete(statements, [mail.mail_id])
                _insert(statements, mail)

    def get(self, mail_id: str) -> KeptMail | None:
        with self._database.transaction(writes=False) as statements:
            rows = statements.run(f"{_SELECT} WHERE mail_id = ?", mail_id)
            return next(_with_recipients(statements, rows), None)

    def find(self, query: Query) -> tuple[KeptMail, ...]:
        """What the query wants, newest first."""
        conditions, values = _conditions(query)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        order = "ASC" if query.is_oldest_first else "DESC"
        limit = f" LIMIT {int(query.limit)}" if query.limit else ""
        statement = f"{_SELECT}{where} ORDER BY received_at {order}, mail_id {order}{limit}"
        with self._database.transaction(writes=False) as statements:
            return tuple(_with_recipients(statements, statements.run(statement, *values)))

    def remove(self, mail_ids: Sequence[str]) -> None:
        """Forget these mails."""
        with self._database.transaction() as statements:
            _delete(statements, mail_ids)


# --- from a mail


def _mail(original: Original, copies: Sequence[KeptCopy], host: str) -> KeptMail:
    message, recipients = original.message, original.disposition.recipients
    headers = message.content.headers
    scores = [recipient.score for recipient in recipients if recipient.score is not None]
    return KeptMail(
        original.mail_id,
        original.tag,
        host,
        int(message.received_at.timestamp()),
        category_of(recipients),
        printable(message.envelope.sender, _ADDRESS_LIMIT),
        readable(headers.first(b"subject"), _TEXT_LIMIT),
        readable(headers.first(b"from"), _TEXT_LIMIT),
        readable(headers.first(b"message-id"), _TEXT_LIMIT),
        message.content.size,
        max(scores, default=None),
        tuple(copies),
        tuple(KeptFor(printable(r.recipient.address, _ADDRESS_LIMIT), r.blocking is not None) for r in recipients),
    )


def category_of(recipients: Sequence[RecipientDisposition]) -> str:
    """The gravest reason for which a copy is kept for anybody; "archive" when there is none."""
    kept = [r.decisive.major for r in recipients if any(not target.is_archive for target in r.quarantine)]
    return CATEGORY_NAMES.get(max(kept), _CLEAN) if kept else ARCHIVE


# --- rows


def _insert(statements: Statements, mail: KeptMail) -> None:
    copies = json.dumps([[copy.kind, copy.location, copy.is_archive] for copy in mail.copies])
    row = (
        mail.mail_id, mail.tag, mail.host, mail.received_at, mail.category, mail.sender, mail.subject, mail.from_addr,
        mail.message_id, mail.size, mail.score, copies, mail.subject.lower(),
    )  # fmt: skip
    statements.run(_INSERT, *row)
    statements.run_each(
        "INSERT INTO quarantine_index_recipient VALUES (?, ?, ?, ?, ?, ?)",
        [
            (mail.mail_id, position, r.address, r.address.lower(), int(r.is_blocked), r.released_at)
            for position, r in enumerate(mail.recipients)
        ],
    )


def _delete(statements: Statements, mail_ids: Sequence[str]) -> None:
    rows = [(mail_id,) for mail_id in mail_ids]
    statements.run_each("DELETE FROM quarantine_index_recipient WHERE mail_id = ?", rows)
    statements.run_each("DELETE FROM quarantine_index WHERE mail_id = ?", rows)


def _with_recipients(statements: Statements, rows: Sequence[tuple[Any, ...]]) -> Iterator[KeptMail]:
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        marks = ", ".join("?" * len(batch))
        found: dict[str, list[KeptFor]] = {}
        told = statements.run(f"{_SELECT_RECIPIENTS} ({marks}) ORDER BY mail_id, position", *(row[0] for row in batch))
        for mail_id, address, is_blocked, released_at in told:
            found.setdefault(mail_id, []).append(KeptFor(address, bool(is_blocked), released_at))
        for row in batch:
            yield _of_row(row, tuple(found.get(row[0], ())))


def _of_row(row: tuple[Any, ...], recipients: tuple[KeptFor, ...]) -> KeptMail:
    mail_id, tag, host, received_at, category, sender, subject, from_addr, message_id, size, score, listed = row
    copies = tuple(KeptCopy(*copy) for copy in json.loads(listed))
    texts = (sender, subject, from_addr, message_id)
    return KeptMail(mail_id, tag, host, received_at, category, *texts, size, score, copies, recipients)


# --- what to look for


def _conditions(query: Query) -> tuple[list[str], list[object]]:
    wanted: list[tuple[str, object]] = []
    if query.since is not None:
        wanted.append(("received_at >= ?", query.since))
    if query.until is not None:
        wanted.append(("received_at < ?", query.until))
    if query.category:
        wanted.append(("category = ?", query.category))
    if query.sender:
        wanted.append(("lower(sender) LIKE ? ESCAPE '!'", _pattern(query.sender)))
    if query.subject:
        wanted.append(("subject_key LIKE ? ESCAPE '!'", f"%{_pattern(query.subject)}%"))
    if query.recipient:
        operator = "LIKE ? ESCAPE '!'" if "*" in query.recipient else "= ?"
        key = _pattern(query.recipient) if "*" in query.recipient else query.recipient.lower()
        wanted.append((f"{_HAS_RECIPIENT} {operator})", key))
    return [condition for condition, _ in wanted], [value for _, value in wanted]


def _pattern(text: str) -> str:
    """A text with `*` as a pattern of LIKE."""
    for special in "!%_":
        text = text.replace(special, "!" + special)
    return text.replace("*", "%").lower()

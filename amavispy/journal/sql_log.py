"""SQL log - what became of every mail, in amavis' tables maddr, msgs and msgrcpt, for programs that read them.

In: what the journal knows at the end of a mail. One transaction writes all rows; amavis writes msgs twice, so that a
lost process leaves a row without content. We know all at once and leave nothing (decision: chapter 12.2 has both).
Addresses that are new get their ids in a transaction of their own before, so two nodes cannot block each other.

Texts are cut to their columns. A text that the database's character set has no place for is written in ASCII.

**Failures:** none raised but bugs. The mail is delivered by then, and a record is no reason to refuse one: what cannot
be written is logged and lost. A connection that was lost in the meantime is made anew.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Column, Table, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.sql.dml import Insert
from sqlalchemy.types import DateTime

from amavispy.journal.database import Database, DatabaseFailure, Session, as_stored
from amavispy.journal.facts import Facts
from amavispy.mail.address import Address
from amavispy.mail.disposition import Destiny
from amavispy.mail.header_text import printable
from amavispy.mail.outcome import RecipientOutcome
from amavispy.mail.verdict import Category, ContentsCategory

_log = logging.getLogger("amavispy.sql")
_CODES = {
    Category.VIRUS: "V",
    Category.BANNED: "B",
    Category.UNCHECKED: "U",
    Category.SPAM: "S",
    Category.SPAMMY: "Y",
    Category.BADH: "H",
    Category.OVERSIZED: "O",
    Category.MTA: "T",
    Category.CLEAN: "C",
    Category.CATCHALL: "?",
}
_BAD_8BIT = ContentsCategory(Category.BADH, 2)
_ATTEMPTS = 3
_AT_ONCE = 500  # addresses in a query
_COUNT_LIMIT = 2**31 - 1


class SqlLog:
    """Writes records to `database`. `secret_of` gives the secret_id of a mail_id: who reads records may release."""

    def __init__(self, database: Database, secret_of: Callable[[str], str]) -> None:
        self._database = database
        self._secret_of = secret_of

    def record(self, facts: Facts) -> None:
        """Write one mail's rows, when its bank wants them."""
        if facts.settings.sql_store_info_for_all_msgs or facts.outcome.is_quarantined:
            try:
                self._attempt(facts)
            except DatabaseFailure as failure:
                _log.error("SQL log: %s is not recorded: %s", facts.message.ids.mail_id, failure)

    def reopen(self) -> None:
        """Nothing rotates here."""

    def _attempt(self, facts: Facts) -> None:
        is_ascii = False
        for attempt in range(_ATTEMPTS):
            try:
                self._record(facts, is_ascii=is_ascii)
            except DatabaseFailure as failure:
                if attempt == _ATTEMPTS - 1 or not (failure.is_data or failure.is_passing):
                    raise
                is_ascii = is_ascii or failure.is_data
            else:
                return

    def _record(self, facts: Facts, *, is_ascii: bool) -> None:
        tag = facts.partition
        addresses = _addresses(facts)
        ids = {}
        for _ in range(2):
            with self._database.transaction() as session:
                ids = _known(session, tag, sorted(set(addresses)))
                missing = [address for address in sorted(set(addresses)) if address not in ids]
                if not missing:
                    self._write(session, facts, tag, [ids[address] for address in addresses], is_ascii=is_ascii)
                    return
            with self._database.transaction() as session:
                _make_known(session, tag, missing)
        raise DatabaseFailure("addresses vanish from table maddr while they are written")

    def _write(self, session: Session, facts: Facts, tag: int, ids: Sequence[int], *, is_ascii: bool) -> None:
        """The rows of msgs and msgrcpt. `ids` are the sender's, then the recipients'."""
        msgs, msgrcpt = session.tables.tables["msgs"], session.tables.tables["msgrcpt"]
        key = {"partition_tag": tag, "mail_id": facts.message.ids.mail_id}
        secret = self._secret_of(facts.message.ids.mail_id)
        row = {**key, "secret_id": secret, "sid": ids[0], **_of_mail(facts)}
        session.connection.execute(msgs.insert(), [_fitting(msgs, row, is_ascii=is_ascii)])
        rows = [
            {**key, "rseqnum": number, "rid": rid, **_of_recipient(recipient)}
            for number, (rid, recipient) in enumerate(zip(ids[1:], facts.outcome.recipients, strict=True), 1)
        ]
        session.connection.execute(msgrcpt.insert(), [_fitting(msgrcpt, row, is_ascii=is_ascii) for row in rows])


# --- addresses


def _addresses(facts: Facts) -> list[str]:
    """The sender's and the recipients', as table maddr has them: unquoted, in lower case."""
    is_sensitive = facts.settings.localpart_is_case_sensitive
    recipients = (recipient.disposition.recipient.address for recipient in facts.outcome.recipients)
    return [maddr_email(path, case_sensitive=is_sensitive) for path in (facts.message.envelope.sender, *recipients)]


def maddr_email(path: str, *, case_sensitive: bool = False) -> str:
    """An address as maddr.email has it; "" for the null sender."""
    if not path:
        return ""
    address = Address.of(path, case_sensitive=case_sensitive)
    return printable(f"{address.local}@{address.domain}")


def _known(session: Session, tag: int, addresses: Sequence[str]) -> dict[str, int]:
    table = session.tables.tables["maddr"]
    stored = {as_stored(table.c.email, address): address for address in addresses}
    keys, found = list(stored), {}
    for start in range(0, len(keys), _AT_ONCE):
        wanted = select(table.c.email, table.c.id).where(
            table.c.partition_tag == tag, table.c.email.in_(keys[start : start + _AT_ONCE])
        )
        for email, number in session.connection.execute(wanted):
            key = bytes(email) if isinstance(email, memoryview | bytearray) else email
            if key in stored:
                found[stored[key]] = int(number)
    return found


def _make_known(session: Session, tag: int, addresses: Sequence[str]) -> None:
    """Insert addresses; one that another process inserts meanwhile is no failure."""
    table = session.tables.tables["maddr"]
    rows = [{"partition_tag": tag, "email": address, "domain": _reversed_domain(address)} for address in addresses]
    statement = _insert_or_leave(table, session.connection.dialect.name)
    session.connection.execute(statement, [_fitting(table, row, is_ascii=False) for row in rows])


def _insert_or_leave(table: Table, dialect: str) -> Insert:
    if dialect == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    if dialect == "sqlite":
        return sqlite.insert(table).on_conflict_do_nothing()
    return mysql.insert(table).prefix_with("IGNORE")


def _reversed_domain(address: str) -> str:
    """com.example.mail for x@mail.example.com."""
    return ".".join(reversed(address.rpartition("@")[2].split(".")))


# --- rows


def _of_mail(facts: Facts) -> dict[str, Any]:
    message, outcome = facts.message, facts.outcome
    kept = next((copy for copy in outcome.quarantine if not copy.is_archive), None)
    return {
        "am_id": message.ids.log_id,
        "time_num": int(message.received_at.timestamp()),
        "time_iso": message.received_at,
        "policy": facts.bank.name,
        "client_addr": message.envelope.client.address or "",
        "size": min(message.content.size, _COUNT_LIMIT),
        "originating": "Y" if facts.settings.originating else "N",
        "content": _code(facts.decisive),
        "quar_type": kept.kind if kept else " ",
        "quar_loc": kept.location if kept else "",
        "dsn_sent": _dsn_sent(outcome.recipients),
        "spam_level": min(
            (r.disposition.score for r in outcome.recipients if r.disposition.score is not None), default=0
        ),
        "message_id": facts.message_id,
        "from_addr": facts.from_field,
        "subject": facts.subject,
        "host": facts.settings.myhostname,
    }


def _of_recipient(recipient: RecipientOutcome) -> dict[str, Any]:
    disposition = recipient.disposition
    return {
        "is_local": "Y" if disposition.is_local else "N",
        "content": _code(disposition.decisive),
        "ds": delivery_status(recipient),
        "rs": " ",
        "bl": "Y" if disposition.sender_listed == "B" else "N",
        "wl": "Y" if disposition.sender_listed == "W" else "N",
        "bspam_level": disposition.score or 0,
        "smtp_resp": str(recipient.reply),
    }


def delivery_status(recipient: RecipientOutcome) -> str:
    """P passed, R rejected, B bounced, D discarded, T temporary failure."""
    reply, destiny = recipient.reply, recipient.disposition.destiny
    if reply.is_tempfail:
        return "T"
    if reply.is_reject:
        return "B" if destiny is Destiny.BOUNCE else "R"
    return "P" if destiny is Destiny.PASS else "D" if destiny is Destiny.DISCARD else "B"


def _dsn_sent(recipients: Sequence[RecipientOutcome]) -> str:
    """Y sent, q quenched, N none was due."""
    bounces = {recipient.bounce for recipient in recipients}
    return "Y" if "sent" in bounces else "q" if "suppressed" in bounces else "N"


def _code(category: ContentsCategory) -> str:
    return "M" if category == _BAD_8BIT else _CODES[category.major]


def _fitting(table: Table, row: dict[str, Any], *, is_ascii: bool) -> dict[str, Any]:
    """The row as this table takes it; columns it lacks are left out."""
    columns: dict[str, Column[Any]] = dict(table.c.items())
    return {name: _value(columns[name], value, is_ascii=is_ascii) for name, value in row.items() if name in columns}


def _value(column: Column[Any], value: Any, *, is_ascii: bool) -> Any:
    if isinstance(value, datetime):
        moment = value.astimezone(UTC)
        if not isinstance(column.type, DateTime):
            return moment.strftime("%Y%m%dT%H%M%SZ")
        return moment if column.type.timezone else moment.replace(tzinfo=None)
    if not isinstance(value, str):
        return value
    is_utf8 = column.name in ("from_addr", "subject", "email") and not is_ascii
    return as_stored(column, value if is_utf8 else value.encode("ascii", "replace").decode())

"""Quarantine SQL - copies as chunks in amavis' table `quarantine`, where several nodes and other programs find them.

In: an Original, or a mail_id. Out: the KeptCopy, or the octets with LF line ends. All chunks are written in one
transaction, so a copy is there or not; its primary key proves that the mail_id is new.

The database is made by others and handed in; its rows are told apart by partition_tag, which mostly is 0.

**Failures:** StoreFailure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

from sqlalchemy import Column, ColumnElement, Connection, MetaData, Table, select, update

from amavispy.delivery.quarantine import StoreFailure
from amavispy.delivery.quarantine_text import Original, location_in_sql
from amavispy.mail.outcome import KeptCopy

_log = logging.getLogger("amavispy.quarantine")
_ROWS_AT_ONCE = 64
RELEASED = "R"  # msgrcpt.rs


class Session(Protocol):
    """One transaction and the tables in it."""

    @property
    def connection(self) -> Connection: ...

    @property
    def tables(self) -> MetaData: ...


class Database(Protocol):
    """What opens transactions; it raises `failure`."""

    def transaction(self) -> AbstractContextManager[Session]: ...


class SqlQuarantine:
    """`as_stored` gives a text as a column takes it; `failure` is what the database raises."""

    def __init__(
        self,
        database: Database,
        failure: type[Exception],
        as_stored: Callable[[Column[Any], str], str | bytes],
        chunk_size: int = 16_384,
    ) -> None:
        self._database = database
        self._failure = failure
        self._as_stored = as_stored
        self._chunk_size = chunk_size

    @contextmanager
    def _table(self) -> Iterator[tuple[Connection, Table]]:
        try:
            with self._database.transaction() as session:
                yield session.connection, session.tables.tables["quarantine"]
        except self._failure as error:
            raise StoreFailure(f"database: {error}") from error

    # --- for the filter

    def keep(self, original: Original, undo: ExitStack) -> KeptCopy:
        """Keep one copy, durably. Raises StoreFailure."""
        with self._table() as (connection, table):
            rows: list[dict[str, Any]] = []
            for number, chunk in enumerate(_chunks(original, self._chunk_size), 1):
                key = {"partition_tag": original.tag, "mail_id": self._as_stored(table.c.mail_id, original.mail_id)}
                rows.append({**key, "chunk_ind": number, "mail_text": chunk})
                if len(rows) == _ROWS_AT_ONCE:
                    connection.execute(table.insert(), rows)
                    rows = []
            if rows:
                connection.execute(table.insert(), rows)
        undo.callback(self._take_back, original)
        return KeptCopy("Q", location_in_sql(original.mail_id, original.tag))

    def _take_back(self, original: Original) -> None:
        try:
            self.delete(original.mail_id, original.tag)
        except StoreFailure as error:
            _log.warning("cannot remove %s: %s", original.mail_id, error)

    # --- for releases

    def fetch(self, mail_id: str, tag: int | None = None) -> bytes | None:
        """The copy, None when there is none of this mail. `tag` None looks in all partitions. Raises StoreFailure."""
        with self._table() as (connection, table):
            chunks = select(table.c.partition_tag, table.c.mail_text).where(self._is(table, mail_id, tag))
            rows = connection.execute(chunks.order_by(table.c.partition_tag, table.c.chunk_ind)).all()
        if len({row[0] for row in rows}) > 1:
            raise StoreFailure(f"{mail_id} is in several partitions, name one of them")
        return b"".join(_octets(row[1]) for row in rows) if rows else None

    def delete(self, mail_id: str, tag: int | None = None) -> bool:
        """Remove the copy; False when there was none. Raises StoreFailure."""
        with self._table() as (connection, table):
            return connection.execute(table.delete().where(self._is(table, mail_id, tag))).rowcount > 0

    def keys(self) -> list[tuple[str, int]]:
        """(mail_id, partition tag) of every copy. Raises StoreFailure."""
        with self._table() as (connection, table):
            keys = select(table.c.mail_id, table.c.partition_tag).where(table.c.chunk_ind == 1)
            rows = connection.execute(keys).all()
        return [(_octets(mail_id).decode("ascii", "backslashreplace"), int(tag)) for mail_id, tag in rows]

    def received_at(self, mail_id: str, tag: int) -> int | None:
        """When the mail came in, in seconds since the epoch, if its record says so. Raises StoreFailure."""
        try:
            with self._database.transaction() as session:
                msgs = session.tables.tables["msgs"]
                is_mail = msgs.c.mail_id == self._as_stored(msgs.c.mail_id, mail_id)
                found = session.connection.execute(
                    select(msgs.c.time_num).where(is_mail, msgs.c.partition_tag == tag)
                ).scalar()
        except self._failure as error:
            raise StoreFailure(f"database: {error}") from error
        return None if found is None else int(found)

    def released(self, mail_id: str, recipients: Sequence[str]) -> None:
        """Tell programs that read the records: msgrcpt.rs becomes R. Never raises but the alarm."""
        try:
            with self._database.transaction() as session:
                maddr, msgrcpt = session.tables.tables["maddr"], session.tables.tables["msgrcpt"]
                wanted = [self._as_stored(maddr.c.email, address.lower()) for address in recipients]
                ids = select(maddr.c.id).where(maddr.c.email.in_(wanted))
                is_mail = msgrcpt.c.mail_id == self._as_stored(msgrcpt.c.mail_id, mail_id)
                session.connection.execute(update(msgrcpt).where(is_mail, msgrcpt.c.rid.in_(ids)).values(rs=RELEASED))
        except self._failure as error:
            _log.error("cannot mark %s as released in SQL: %s", mail_id, error)

    def _is(self, table: Table, mail_id: str, tag: int | None) -> ColumnElement[bool]:
        found = table.c.mail_id == self._as_stored(table.c.mail_id, mail_id)
        return found if tag is None else found & (table.c.partition_tag == tag)


def _chunks(original: Original, size: int) -> Iterator[bytes]:
    """The copy in chunks of exactly `size` octets, the last one shorter."""
    held = bytearray()
    for piece in original.pieces():
        held += piece
        at = 0
        while len(held) - at >= size:
            yield bytes(held[at : at + size])
            at += size
        del held[:at]
    if held:
        yield bytes(held)


def _octets(value: Any) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)

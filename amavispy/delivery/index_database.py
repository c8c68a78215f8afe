"""Index database - SQLite or PostgreSQL under the quarantine index, by the standard DB-API.

One connection a process, opened when it is first needed (so never in the master), and again after it broke. A database
that does not answer is left alone for a while: a mail must not wait for it again and again.

Statements are written with `?`; what both databases understand alike is all that is used.

**Failures:** IndexFailure, whatever the database does; only the worker's alarm passes through.
"""

from __future__ import annotations

import importlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

PATIENCE = 5  # seconds
_ACTIVE = 1  # PQTRANS_ACTIVE: a statement is under way
AVOIDED_SECONDS = 10.0
_SCHEMA_LOCK = 4_283_190_651  # an advisory lock of PostgreSQL's: two who make the same table at once collide
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS quarantine_index (mail_id VARCHAR(64) PRIMARY KEY, partition_tag INTEGER NOT NULL,"
    " host VARCHAR(255) NOT NULL, received_at BIGINT NOT NULL, category VARCHAR(16) NOT NULL,"
    " sender TEXT NOT NULL, subject TEXT NOT NULL, subject_key TEXT NOT NULL, from_addr TEXT NOT NULL,"
    " message_id TEXT NOT NULL, size BIGINT NOT NULL, score DOUBLE PRECISION, copies TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS quarantine_index_recipient (mail_id VARCHAR(64) NOT NULL, position INTEGER NOT NULL,"
    " address TEXT NOT NULL, address_key TEXT NOT NULL, is_blocked INTEGER NOT NULL, released_at BIGINT,"
    " PRIMARY KEY (mail_id, position))",
    "CREATE INDEX IF NOT EXISTS quarantine_index_time ON quarantine_index (received_at)",
    "CREATE INDEX IF NOT EXISTS quarantine_index_category ON quarantine_index (category, received_at)",
    "CREATE INDEX IF NOT EXISTS quarantine_index_address ON quarantine_index_recipient (address_key)",
)


class IndexFailure(Exception):
    """The index cannot be read or written now; the text says why. `is_passing`: it may answer when asked again."""

    def __init__(self, text: str, *, is_passing: bool = False) -> None:
        super().__init__(text)
        self.is_passing = is_passing


class Statements:
    """Runs statements inside of one transaction."""

    def __init__(self, connection: Any, mark: str) -> None:
        self._cursor = connection.cursor()
        self._mark = mark

    def run(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement selects; [] for others."""
        self._cursor.execute(statement.replace("?", self._mark), values)
        return list(self._cursor.fetchall()) if self._cursor.description else []

    def run_each(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        self._cursor.executemany(statement.replace("?", self._mark), rows)


class IndexDatabase:
    """`address`: the path of an SQLite file, or postgresql://user:password@host/database."""

    def __init__(self, address: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._address = address
        self._clock = clock
        self._is_postgresql = address.startswith("postgresql://")
        # Imported now, before the fork: a worker may not be able to read the files any more.
        self._driver: Any = importlib.import_module("psycopg" if self._is_postgresql else "sqlite3")
        self._limited: Any = _limited(self._driver.Connection) if self._is_postgresql else None
        self._connection: Any = None
        self._owner = 0
        self._file: tuple[int, int] | None = None
        self._avoided_until = 0.0

    @contextmanager
    def transaction(self, *, writes: bool = True) -> Iterator[Statements]:
        """All or nothing. Raises IndexFailure, also at the end."""
        try:
            connection = self._opened(writes)
            yield Statements(connection, "%s" if self._is_postgresql else "?")
            connection.commit()
        except self._driver.Error as error:
            is_passing = self._connection is not None  # it was lost, or others were in the way
            self._give_up()
            raise IndexFailure(" ".join(str(error).split()), is_passing=is_passing) from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; what was not committed is gone."""
        connection, self._connection = self._connection, None
        if connection is not None and self._owner == os.getpid():
            with suppress(self._driver.Error):
                connection.close()

    def _give_up(self) -> None:
        is_new = self._connection is None
        self.close()
        if is_new:
            self._avoided_until = self._clock() + AVOIDED_SECONDS

    def _opened(self, writes: bool) -> Any:
        if self._connection is not None and self._owner == os.getpid() and not self._is_replaced():
            return self._begun(self._connection, writes)
        if self._clock() < self._avoided_until:
            raise IndexFailure("it did not answer lately")
        self._connection = None  # another process's is not ours to close
        connection = self._postgresql() if self._is_postgresql else self._sqlite()
        self._connection, self._owner, self._file = connection, os.getpid(), self._identity()
        return self._begun(connection, writes)

    def _is_replaced(self) -> bool:
        """Whether somebody has removed the file, or put another in its place: what is written to it is lost."""
        return self._file != self._identity()

    def _identity(self) -> tuple[int, int] | None:
        if self._is_postgresql:
            return None
        try:
            status = os.stat(self._address)
        except OSError as error:
            if error.errno is None:  # the worker's alarm
                raise
            return None
        return status.st_dev, status.st_ino

    def _begun(self, connection: Any, writes: bool) -> Any:
        if not self._is_postgresql:
            # At once: a later upgrade from reading to writing could be refused.
            connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
        elif connection.closed or connection.broken:
            self._connection = None
            return self._opened(writes)
        return connection

    def _sqlite(self) -> sqlite3.Connection:
        try:  # with the mode that SQLite's own files beside it will take, too
            os.close(os.open(self._address, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640))
        except OSError as error:
            if error.errno is None:  # the worker's alarm
                raise
            raise IndexFailure(f"{self._address}: {error.strerror}") from error
        connection = sqlite3.connect(self._address, timeout=PATIENCE, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")  # it can be made again from the copies
        for statement in _SCHEMA:
            connection.execute(statement)
        return connection

    def _postgresql(self) -> Any:
        connection = self._limited.connect(self._address, connect_timeout=PATIENCE)
        with connection.cursor() as cursor:
            cursor.execute("SELECT to_regclass('quarantine_index_address')")  # the last that is made
            if cursor.fetchone()[0] is None:
                cursor.execute(f"SELECT pg_advisory_xact_lock({_SCHEMA_LOCK})")
                for statement in _SCHEMA:
                    cursor.execute(statement)
        connection.commit()
        return connection


def _limited(connection_class: Any) -> Any:
    class Limited(connection_class):  # type: ignore[misc]
        """A connection that waits no longer than our patience, whatever the server has promised and forgotten."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = PATIENCE) -> Any:
            try:
                return super().wait(gen, interval, timeout)
            except Exception:
                if self.pgconn.transaction_status == _ACTIVE:
                    self.pgconn.finish()  # it may still answer, and nobody shall take that for another's answer
                raise

    return Limited

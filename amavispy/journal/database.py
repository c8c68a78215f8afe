"""Database - the connection to storage_sql_dsn: one a process, opened when needed, the next server when one fails.

In: data sources, in the order in which they are tried. Out: transactions with the tables as they really are: columns of
old installations are text where newer ones are octets, and either is served (`as_stored`).

Made before the fork, so that drivers are imported; connected after it. A server that did not answer is left alone for a
while: mail must not wait for it again and again.

**Failures:** DatabaseFailure, whatever the database does; its `is_data` says that the values are at fault. The worker's
alarm passes through.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Engine, MetaData, Table, create_engine, text
from sqlalchemy.exc import DataError, DBAPIError, NoSuchTableError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.types import DateTime, LargeBinary, String

from amavispy.journal.sql_schema import TABLES, metadata

PATIENCE = 5  # seconds
_ACTIVE = 1  # PQTRANS_ACTIVE: a statement is under way
AVOIDED_SECONDS = 20.0
_log = logging.getLogger("amavispy.sql")
_SCHEMES = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql", "sqlite": "sqlite"}
# What drivers import only when they are used: too late for a worker that may not read the files any more.
_LATE = {
    "postgresql": ("psycopg.types.hstore", "psycopg.types.json", "psycopg.types.multirange", "psycopg.types.range"),
    "mysql": ("pymysql.constants.CR", "pymysql.constants.ER"),
    "sqlite": ("sqlite3",),
}
_COLUMNS = (
    "SELECT table_name, column_name, data_type, character_maximum_length FROM information_schema.columns"
    " WHERE table_schema = {} AND table_name IN (:a, :b, :c, :d)"
)
_IN_THE_WAY = ("40001", "40P01", 1205, 1213)  # serialization failure, deadlock, lock wait timeout
_OF_DATA = (1366, 1267, 1406, 3988)  # MySQL and MariaDB: a text that the column's character set has no place for


class DatabaseFailure(Exception):
    """The database cannot do it now. `is_data`: it could with other values; `is_passing`: it can when asked again."""

    def __init__(self, text: str, *, is_data: bool = False, is_passing: bool = False) -> None:
        super().__init__(text)
        self.is_data = is_data
        self.is_passing = is_passing


@dataclass(frozen=True, slots=True)
class Session:
    """One transaction. `tables`: maddr, msgs, msgrcpt and quarantine as this database has them."""

    connection: Connection
    tables: MetaData


@dataclass(slots=True)
class _Link:
    connection: Connection
    tables: MetaData
    owner: int


class Database:
    """`sources`: postgresql://, mysql:// or sqlite:/// addresses."""

    def __init__(self, sources: tuple[str, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._engines = [_engine(source) for source in sources]
        self._clock = clock
        self._link: _Link | None = None
        self._avoided: dict[int, float] = {}

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """All or nothing. Raises DatabaseFailure, also at the end."""
        try:
            link = self._opened()
            with link.connection.begin():
                yield Session(link.connection, link.tables)
        except SQLAlchemyError as error:
            if not _is_of_data(error):
                self.close()
            raise DatabaseFailure(_told(error), is_data=_is_of_data(error), is_passing=_is_passing(error)) from error
        except BaseException:
            self.close()
            raise

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of its own to the first server that answers, for migrations. Raises DatabaseFailure."""
        failures = []
        for engine in self._engines:
            try:
                found = engine.connect()
            except SQLAlchemyError as error:
                failures.append(_told(error))
                continue
            try:
                with found:
                    yield found
            except SQLAlchemyError as error:
                raise DatabaseFailure(_told(error)) from error
            return
        raise DatabaseFailure("; ".join(failures) or "storage_sql_dsn is empty")

    def close(self) -> None:
        """Drop the connection; what was not committed is gone."""
        link, self._link = self._link, None
        if link and link.owner == os.getpid():
            try:
                link.connection.invalidate()  # it may hang in the middle of something
                link.connection.close()
            except SQLAlchemyError:
                _log.debug("a broken database connection could not be closed")

    def _opened(self) -> _Link:
        if self._link and self._link.owner == os.getpid() and not self._link.connection.closed:
            return self._link
        self._link = None  # another process's is not ours to close
        now = self._clock()
        failures = ["it did not answer lately"] if self._avoided else []
        for number, engine in enumerate(self._engines):
            if self._avoided.get(number, now) > now:
                continue
            try:
                self._link = _connected(engine)
            except SQLAlchemyError as error:
                self._avoided[number] = self._clock() + AVOIDED_SECONDS
                failures.append(_told(error))
            else:
                self._avoided.pop(number, None)
                return self._link
        raise DatabaseFailure(failures[-1])


def as_stored(column: Column[Any], value: str) -> str | bytes:
    """The text as this column takes it: octets or characters, no longer than it is."""
    limit: int | None = getattr(column.type, "length", None)
    if isinstance(column.type, LargeBinary):
        return value.encode("utf-8", "surrogateescape")[:limit]
    return value[:limit]


def _engine(source: str) -> Engine:
    """Imports the driver; does not connect."""
    scheme, _, rest = source.partition("://")
    for module in _LATE[scheme]:
        importlib.import_module(module)
    url = f"{_SCHEMES[scheme]}://{rest}"
    if scheme == "postgresql":
        return _postgresql(url)
    limits: dict[str, Any] = {"timeout": PATIENCE}
    if scheme == "mysql":
        limits = {"connect_timeout": PATIENCE, "read_timeout": PATIENCE, "write_timeout": PATIENCE}
        limits["charset"] = "utf8mb4"
    return create_engine(url, poolclass=NullPool, connect_args=limits, hide_parameters=True)


def _postgresql(url: str) -> Engine:
    psycopg = importlib.import_module("psycopg")

    class Limited(psycopg.Connection):  # type: ignore[name-defined, misc]
        """A connection that waits no longer than our patience, whatever the server has promised and forgotten."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = PATIENCE) -> Any:
            try:
                return super().wait(gen, interval, timeout)
            except Exception:
                if self.pgconn.transaction_status == _ACTIVE:
                    self.pgconn.finish()  # it may still answer, and nobody shall take that for another's answer
                raise

    def connect() -> Any:
        args, options = engine.dialect.create_connect_args(engine.url)
        return Limited.connect(*args, connect_timeout=PATIENCE, **options)

    engine = create_engine(url, poolclass=NullPool, creator=connect, use_native_hstore=False, hide_parameters=True)
    return engine


def _connected(engine: Engine) -> _Link:
    connection = engine.connect()
    try:
        tables = _as_they_are(connection)
        connection.rollback()
    except BaseException:
        connection.close()
        raise
    return _Link(connection, tables, os.getpid())


def _as_they_are(connection: Connection) -> MetaData:
    """amavis' tables without the columns this database lacks, and with text where it has text."""
    tables = metadata()
    if connection.dialect.name == "sqlite":  # its columns take anything: as the schema has it
        columns = ((table.name, column) for table in tables.tables.values() for column in table.c)
        found = [(name, c.name, c.type.compile(connection.dialect).lower(), None) for name, c in columns]
        names = {row[0] for row in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))}
    else:
        here = "current_schema()" if connection.dialect.name == "postgresql" else "DATABASE()"
        rows = connection.execute(text(_COLUMNS.format(here)), dict(zip("abcd", TABLES, strict=True)))
        found = [(str(row[0]), str(row[1]), str(row[2]), row[3]) for row in rows]
        names = {row[0] for row in found}
    if not names >= set(TABLES):
        raise NoSuchTableError("amavis' tables are missing; `amavispy db init` makes them")
    actual = MetaData()
    for table in tables.tables.values():
        kinds = {column: (kind, length) for name, column, kind, length in found if name == table.name}
        Table(table.name, actual, *(_column(c, *kinds[c.name]) for c in table.c if c.name in kinds))
    return actual


def _column(column: Column[Any], kind: str, length: int | None) -> Column[Any]:
    found = column.type
    if "binary" in kind or "blob" in kind or kind == "bytea":
        found = LargeBinary(length)
    elif "char" in kind or "text" in kind:
        found = String(length or getattr(found, "length", None))
    elif "timestamp" in kind or "datetime" in kind:
        found = DateTime(timezone="with time zone" in kind)
    return Column(column.name, found, primary_key=column.primary_key)


def _is_of_data(error: SQLAlchemyError) -> bool:
    if isinstance(error, DataError):
        return True
    code = error.orig.args[:1] if isinstance(error, DBAPIError) and error.orig else ()
    return bool(code) and code[0] in _OF_DATA


def _is_passing(error: SQLAlchemyError) -> bool:
    """Whether the connection was lost, or two transactions were in each other's way."""
    if not isinstance(error, DBAPIError):
        return False
    code = error.orig.args[:1] if error.orig else ()
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or state in _IN_THE_WAY or bool(code and code[0] in _IN_THE_WAY)


def _told(error: SQLAlchemyError) -> str:
    """One line, without the statement and its values."""
    cause = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return " ".join(str(cause).split())[:300] or type(cause).__name__

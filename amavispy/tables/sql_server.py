"""Sql server - a database by its URL: PostgreSQL, MySQL or MariaDB, SQLite; connections that never hang.

SQLAlchemy knows the URLs, the dialects and how each driver connects; amavis' own clauses go to the driver as they are.
Making a SqlServer imports the driver and opens nothing, so it belongs before the fork; `connect` after it. Connections
are in autocommit mode. Every step has a time limit on our side, for a server that hangs keeps no promise of its own.

**Failures:** ModuleNotFoundError and ValueError when it is made; afterwards what `failures` lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import sqlalchemy
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool

# One connection, kept by whoever asked for it, in autocommit mode: nothing to keep here, nothing to roll back.
_POOL: Mapping[str, Any] = {"poolclass": NullPool, "pool_reset_on_return": None, "isolation_level": "AUTOCOMMIT"}
_DRIVERS = {
    "postgresql": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "sqlite": "sqlite+pysqlite",
}


@dataclass(slots=True)
class SqlConnection:
    """An open connection. `dialect`: "postgresql", "mysql" or "sqlite"; `paramstyle`: "qmark" or "format"."""

    dialect: str
    paramstyle: str
    handle: Any

    def rows(self, statement: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:
        """What a SELECT answers, by column names in lower case; of several columns of a name the last one counts."""
        cursor = self.handle.cursor()
        try:
            cursor.execute(statement, tuple(parameters))
            names = [column[0].lower() for column in cursor.description]
            # Octets as text, as addresses are on the wire.
            return [
                {
                    name: value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
                    for name, value in zip(names, row, strict=True)
                }
                for row in cursor.fetchall()
            ]
        finally:
            cursor.close()


class SqlServer:
    """One entry of lookup_sql_dsn. `timeout` is for connecting and for each statement, in seconds."""

    def __init__(self, dsn: str, timeout: float) -> None:
        try:
            url = make_url(dsn)
            url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
            self._engine = _engine(url, timeout)
        except (ArgumentError, SQLAlchemyError) as error:
            raise ValueError(f"no database that can be used: {type(error).__name__}") from error
        self.dialect = self._engine.dialect.name
        self.name = _name(url)
        driver = self._engine.dialect.loaded_dbapi
        self.failures: tuple[type[Exception], ...] = (driver.Error, SQLAlchemyError)

    def connect(self) -> SqlConnection:
        paramstyle = "qmark" if self._engine.dialect.paramstyle == "qmark" else "format"
        try:
            return SqlConnection(self.dialect, paramstyle, self._engine.raw_connection())
        except (TypeError, ValueError) as error:  # an option in the URL that the driver does not know
            raise ArgumentError(str(error)) from error

    def close(self, connection: SqlConnection) -> None:
        connection.handle.close()


def _engine(url: URL, timeout: float) -> Engine:
    """SQLAlchemy's engine with our time limits; it keeps no connections, whoever asked for one does."""
    backend = url.get_backend_name()
    if backend == "sqlite":
        return _sqlite(url, timeout)
    if backend == "postgresql":
        return _postgresql(url, timeout)
    limits = {"connect_timeout": max(1, round(timeout)), "read_timeout": timeout, "write_timeout": timeout}
    return sqlalchemy.create_engine(url, connect_args=limits, **_POOL)


def _sqlite(url: URL, timeout: float) -> Engine:
    import sqlite3

    # mode=rw: a file that is not there is a fault, not a new and empty database.
    location = f"file:{quote(url.database or '')}?mode=rw"

    def connect() -> sqlite3.Connection:
        return sqlite3.connect(location, uri=True, timeout=timeout, isolation_level=None, check_same_thread=False)

    return sqlalchemy.create_engine("sqlite+pysqlite://", creator=connect, **_POOL)


def _postgresql(url: URL, timeout: float) -> Engine:
    import psycopg

    class Limited(psycopg.Connection[Any]):
        """A connection on which nothing takes longer than the time limit."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = timeout) -> Any:
            try:
                return super().wait(gen, interval, timeout)
            except psycopg.OperationalError:
                if self.pgconn.transaction_status == psycopg.pq.TransactionStatus.ACTIVE:
                    self.pgconn.finish()  # whatever the server says later must not be read as another's answer
                raise

    def connect() -> psycopg.Connection[Any]:
        args, options = engine.dialect.create_connect_args(url)
        limits: dict[str, Any] = {"connect_timeout": max(2, round(timeout)), "application_name": "amavispy"}
        # Statements prepared on the server do not survive PgBouncer, so they have to be asked for.
        threshold = options.pop("prepare_threshold", None)
        return Limited.connect(*args, prepare_threshold=threshold and int(threshold), **{**limits, **options})

    engine = sqlalchemy.create_engine(url, creator=connect, use_native_hstore=False, **_POOL)
    return engine


def _name(url: URL) -> str:
    """A server for the log: no user, no password."""
    if url.get_backend_name() == "sqlite":
        return f"sqlite {url.database}"
    port = f":{url.port}" if url.port else ""
    return f"{url.get_backend_name()} {url.host or url.query.get('unix_socket', 'localhost')}{port}/{url.database}"

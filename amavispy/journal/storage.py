"""Storage - looking after the tables of records: make them, bring them to the newest form, purge what is old.

Run by people (`amavispy db`), never by the daemon. Tables that amavis made are adopted.

**Failures:** DatabaseFailure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import ColumnElement, Connection, Table, delete, exists, or_, select

from amavispy.journal.database import Database

_DIRECTORY = Path(__file__).parent / "migrations"
_VERSION_TABLE = "amavispy_version"
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Purged:
    """Rows that were removed from one table."""

    table: str
    rows: int


def revision_of(database: Database) -> str:
    """The form of the tables, "" when they were never migrated. Raises DatabaseFailure."""
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE})
        return context.get_current_revision() or ""


def migrate(database: Database) -> list[str]:
    """Bring the tables to the newest form; the steps that were taken. Raises DatabaseFailure."""
    script = ScriptDirectory(str(_DIRECTORY))
    with database.connection() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE})
        before = context.get_current_heads()
        connection.rollback()
        _run(connection, script)
        taken = script.iterate_revisions("head", before[0] if before else "base")
        return [step.revision for step in taken]


def _run(connection: Connection, script: ScriptDirectory) -> None:
    def steps(revision: Any, _: Any) -> Any:
        return script._upgrade_revs("head", revision)  # alembic's own recipe for running without its command

    with EnvironmentContext(Config(), script, fn=steps) as environment:
        environment.configure(connection=connection, version_table=_VERSION_TABLE)
        with environment.begin_transaction():
            environment.run_migrations()
    connection.commit()


def purge(database: Database, *, before: int | None = None, tags: Sequence[int] = ()) -> Iterator[Purged]:
    """Remove mails that came in before this time (seconds since the epoch) or that are in these partitions.

    Copies in the table quarantine go with their mails; so do addresses that nothing names any more. In batches, each in
    a transaction of its own, so that the daemon is not held up. Raises DatabaseFailure.
    """
    with database.transaction() as session:
        tables = session.tables.tables
    msgs, msgrcpt, quarantine, maddr = (tables[name] for name in ("msgs", "msgrcpt", "quarantine", "maddr"))
    conditions: list[ColumnElement[bool]] = []
    if before is not None:
        conditions.append(msgs.c.time_num < before)
    if tags:
        conditions.append(msgs.c.partition_tag.in_(tags))
    if not conditions:
        return
    yield from _purge_mails(database, msgs, (msgrcpt, quarantine), or_(*conditions))
    unused = ~exists(select(1).where(msgs.c.sid == maddr.c.id)) & ~exists(select(1).where(msgrcpt.c.rid == maddr.c.id))
    with database.transaction() as session:
        yield Purged("maddr", session.connection.execute(delete(maddr).where(unused)).rowcount)


def _purge_mails(
    database: Database, msgs: Table, others: Sequence[Table], condition: ColumnElement[bool]
) -> Iterator[Purged]:
    counts = dict.fromkeys((msgs.name, *(table.name for table in others)), 0)
    while True:
        with database.transaction() as session:
            chosen = select(msgs.c.partition_tag, msgs.c.mail_id).where(condition).limit(_BATCH)
            rows = session.connection.execute(chosen).all()
            for table in (*others, msgs):
                for tag in {row[0] for row in rows}:
                    ids = [row[1] for row in rows if row[0] == tag]
                    gone = delete(table).where(table.c.partition_tag == tag, table.c.mail_id.in_(ids))
                    counts[table.name] += session.connection.execute(gone).rowcount
        if len(rows) < _BATCH:
            break
    yield from (Purged(name, count) for name, count in counts.items())

"""db - `amavispy db`: the tables of storage_sql_dsn, made, brought to the newest form, purged of what is old.

Exit statuses: 0 done, 1 it failed, 2 the command line is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click

from amavispy.cli.options import config_options
from amavispy.cli.quarantine import moment
from amavispy.config.faults import ConfigError
from amavispy.config.sources import Sources
from amavispy.wiring import make_database

if TYPE_CHECKING:
    from amavispy.journal.database import Database


@click.group("db")
def db() -> None:
    """Make, migrate and purge the SQL tables of records and quarantine."""


@db.command()
@config_options
def init(sources: Sources) -> None:
    """Make the tables maddr, msgs, msgrcpt and quarantine; those that are there stay as they are."""
    _migrate(sources)


@db.command()
@config_options
def migrate(sources: Sources) -> None:
    """Bring the tables to the form this version writes."""
    _migrate(sources)


def _migrate(sources: Sources) -> None:
    with _database(sources) as database:
        from amavispy.journal import storage  # alembic, which nothing else needs

        steps = storage.migrate(database)
        revision = storage.revision_of(database)
    click.echo(f"tables are in form {revision}" + (f", by {', '.join(steps)}" if steps else ", nothing was to be done"))


@db.command()
@config_options
@click.option("--before", type=moment, help='Mail received before then: "2026-11-01", or "21d" ago.')
@click.option("--partition", "partitions", type=click.IntRange(0), multiple=True, help="Mail with this partition_tag.")
def purge(sources: Sources, before: int | None, partitions: tuple[int, ...]) -> None:
    """Remove old records, the SQL quarantine of these mails, and addresses that nothing names any more."""
    if before is None and not partitions:
        raise click.UsageError("give --before or --partition: what shall be removed?")
    with _database(sources) as database:
        from amavispy.journal import storage

        started = time.monotonic()
        for purged in storage.purge(database, before=before, tags=partitions):
            click.echo(f"{purged.table}: {purged.rows} rows removed")
        click.echo(f"in {time.monotonic() - started:.1f} s")


@contextmanager
def _database(sources: Sources) -> Iterator[Database]:
    """The database; whatever goes wrong with it becomes a line and exit status 1."""
    try:
        _, database = make_database(sources)
    except ConfigError as error:
        _fail("\n".join(str(fault) for fault in error.faults))
    from amavispy.journal.database import DatabaseFailure  # there is one, so its library is there

    try:
        yield database
    except ImportError as error:
        _fail(f"{error}: pip install amavispy[sql]")
    except DatabaseFailure as error:
        _fail(f"storage_sql_dsn: {error}")


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(1)

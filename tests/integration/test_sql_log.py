"""amavis' SQL tables in real PostgreSQL and MariaDB servers: the schema, what is written, and servers that fail."""

from __future__ import annotations

import gzip
import logging
import multiprocessing
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from amavispy.delivery.quarantine import StoreFailure
from amavispy.delivery.quarantine_text import Original
from amavispy.journal import storage
from amavispy.journal.database import Database
from amavispy.mail.outcome import KeptCopy
from tests.integration.database_servers import MariaDB, PostgreSQL
from tests.making import MAIL, fate, message, outcome, passed
from tests.quarantine.keeping import Keeping, named, to_keep
from tests.records.test_sql_log import Records

DOCUMENTS = Path("/usr/share/doc/amavisd-new")
MARIADB_QUERIES = "; ".join(f"SHOW CREATE TABLE {name}" for name in ("maddr", "msgs", "msgrcpt", "quarantine"))
POSTGRESQL_QUERIES = """
select table_name, column_name, data_type, character_maximum_length, is_nullable, column_default
  from information_schema.columns where table_schema = 'public' and table_name <> 'amavispy_version' order by 1, 2;
select indexdef from pg_indexes where schemaname = 'public' and tablename <> 'amavispy_version' order by 1;
select conrelid::regclass, conname, pg_get_constraintdef(oid) from pg_constraint
  where connamespace = 'public'::regnamespace and conrelid <> 'amavispy_version'::regclass order by 1, 2;
"""


def readme(name: str, end: str) -> str:
    """amavis' own statements for the writable tables, from its documentation."""
    text = document(name)
    start = text.index("CREATE TABLE maddr")
    return text[start : text.index(end, start)]


def document(name: str) -> str:
    with gzip.open(DOCUMENTS / f"README.{name}.gz", "rt") as file:
        return file.read()


def fields(server: PostgreSQL | MariaDB, query: str) -> list[str]:
    """Lines with | between columns; a CHAR column's blanks are not told alike, so they are left out."""
    return [line.replace("\t", "|").replace(" ", "") for line in server.sql(query).splitlines()]


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    with MariaDB() as running:
        yield running


@pytest.fixture(params=["postgresql", "mariadb"])
def server(request: pytest.FixtureRequest) -> PostgreSQL | MariaDB:
    """With an empty database."""
    running: PostgreSQL | MariaDB = request.getfixturevalue(request.param)
    running.sql("DROP TABLE IF EXISTS maddr, msgs, msgrcpt, quarantine, amavispy_version")
    return running


def described(server: PostgreSQL | MariaDB) -> list[str]:
    if isinstance(server, PostgreSQL):
        return server.sql(POSTGRESQL_QUERIES).splitlines()
    return sorted(line.rstrip(",") for line in server.sql(MARIADB_QUERIES).replace("\\n", "\n").splitlines())


def make_as_amavis(server: PostgreSQL | MariaDB) -> None:
    is_postgresql = isinstance(server, PostgreSQL)
    server.sql(
        readme("sql-pg", "-- grant usage rights:") if is_postgresql else readme("sql-mysql", "-- field msgrcpt.rs")
    )


def test_our_tables_are_those_of_amavis_documentation(server: PostgreSQL | MariaDB) -> None:
    assert storage.migrate(Database((server.dsn,))) == ["amavis_schema"]
    ours = described(server)
    server.sql("DROP TABLE maddr, msgs, msgrcpt, quarantine")
    make_as_amavis(server)
    assert described(server) == ours


def test_a_database_of_amavis_is_adopted_as_it_is(server: PostgreSQL | MariaDB) -> None:
    make_as_amavis(server)
    Records(server.dsn).record()
    assert "mx.example.net" in server.sql("SELECT host FROM msgs")
    assert fields(server, "SELECT ds, rs, content FROM msgrcpt") == ["P||C"]


def test_the_queries_of_amavis_documentation_find_our_mail(server: PostgreSQL | MariaDB) -> None:
    records = Records(server.dsn)
    now = message(MAIL.replace(b"Hello", b"=?utf-8?q?h=C3=A9llo_=F0=9F=98=80?="))
    spam = replace(outcome(passed(fate(score=7.5))), quarantine=(KeptCopy("Q", "x"),))
    records.record(now, spam)
    name = "sql-pg" if isinstance(server, PostgreSQL) else "sql-mysql"
    queries = re.findall(r"^SELECT\n.*?;|^SELECT count\(\*\) as cnt.*?;", document(name), re.S | re.M)
    assert len(queries) >= 3
    answers = [server.sql(query) for query in queries]
    assert any("net.example" in answer or "org.example" in answer for answer in answers)
    names = "" if isinstance(server, PostgreSQL) else "SET NAMES utf8mb4; "
    assert server.sql(f"{names}SELECT subject FROM msgs").strip() == "héllo 😀"


def test_texts_where_newer_tables_have_octets_will_do(postgresql: PostgreSQL) -> None:
    postgresql.sql("DROP TABLE IF EXISTS maddr, msgs, msgrcpt, quarantine, amavispy_version")
    old = readme("sql-pg", "-- grant usage rights:")
    old = re.sub(r"(mail_id|secret_id|email)(\s+)bytea", r"\1\2varchar(255)", old).replace("is_local   char(1)", "-- ")
    postgresql.sql(re.sub(r"-- .*DEFAULT ' ' NOT NULL.*", "", old))
    records = Records(postgresql.dsn)
    records.record()
    assert (
        postgresql.sql("SELECT mail_id, email FROM msgs JOIN maddr ON sid = id").strip() == "Jnk7NzYB8pvl|a@example.org"
    )
    assert postgresql.sql("SELECT ds FROM msgrcpt").strip() == "P"


def test_a_text_that_the_database_has_no_place_for_is_written_in_ascii(mariadb: MariaDB) -> None:
    mariadb.sql("DROP TABLE IF EXISTS maddr, msgs, msgrcpt, quarantine, amavispy_version")
    mariadb.sql(readme("sql-mysql", "-- field msgrcpt.rs").replace("utf8mb4 COLLATE utf8mb4_bin", "latin1"))
    Records(mariadb.dsn).record(message(MAIL.replace(b"Hello", "smile 😀".encode())))
    assert mariadb.sql("SELECT subject FROM msgs").strip() == "smile ?"


def test_two_nodes_write_the_same_new_addresses_at_once(server: PostgreSQL | MariaDB) -> None:
    records = Records(server.dsn)
    records.database.close()
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_record_many, args=(records, number)) for number in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert server.sql("SELECT count(*) FROM msgs").strip() == "60"
    assert server.sql("SELECT count(*) FROM maddr").strip() == "21"
    assert server.sql("SELECT count(*) FROM msgrcpt JOIN maddr ON rid = id").strip() == "60"


def _record_many(records: Records, number: int) -> None:
    for n in range(20):
        records.record(named(message(), f"mail{number}{n:07}"), outcome(passed(fate(f"r{n}@example.net"))))


# --- quarantine


def test_a_copy_in_sql_is_what_amavis_would_have_written(server: PostgreSQL | MariaDB, tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, server.dsn)
    octets = MAIL + bytes(range(256)).replace(b"\r", b"").replace(b"\n", b"") * 20 + b"\r\n"
    (copy,) = keeping.keep("sql:", mail=message(octets))
    assert copy == KeptCopy("Q", "Jnk7NzYB8pvl")
    chunks = "SELECT chunk_ind, length(mail_text) FROM quarantine ORDER BY 1"
    sizes = [line.replace("\t", "|").split("|") for line in server.sql(chunks).splitlines()]
    assert [int(number) for number, _ in sizes] == list(range(1, len(sizes) + 1))
    assert {int(size) for _, size in sizes[:-1]} == {1024}
    kept = keeping.vault.find("Jnk7NzYB8pvl", quar_type="Q")
    assert bytes(kept.original) == octets
    assert keeping.desk.delete(keeping.only()).left == ()
    assert server.sql("SELECT count(*) FROM quarantine").strip() == "0"


def test_a_release_is_told_to_programs_that_read_the_records(server: PostgreSQL | MariaDB, tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, server.dsn)
    recipients = ("b@example.net", "C@example.net")
    keeping.keep("sql:", recipients=recipients)
    Records(server.dsn).record(what=outcome(*(passed(fate(address)) for address in recipients)))
    assert keeping.store
    keeping.store.released("Jnk7NzYB8pvl", ["C@example.net"])
    assert fields(server, "SELECT rseqnum, rs FROM msgrcpt ORDER BY 1") == ["1|", "2|R"]


# --- servers that fail


def test_a_restart_of_the_server_loses_no_record(server: PostgreSQL | MariaDB) -> None:
    records = Records(server.dsn)
    records.record(named(message(), "before000000"))
    server.stop()
    server.start()
    records.record(named(message(), "after0000000"))
    assert server.sql("SELECT count(*) FROM msgs").strip() == "2"


def test_a_server_that_hangs_holds_a_mail_up_for_seconds_only(
    server: PostgreSQL | MariaDB, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keeping, records = Keeping(tmp_path, server.dsn), Records(server.dsn)
    assert keeping.database
    keeping.database.close()
    records.record(named(message(), "before000000"))
    server.freeze()
    try:
        began = time.monotonic()
        records.database.close()
        with caplog.at_level(logging.ERROR):
            records.record(named(message(), "frozen000000"))
            records.record(named(message(), "frozen000001"))
        assert "SQL log: frozen000001 is not recorded: it did not answer lately" in caplog.text
        with pytest.raises(StoreFailure):
            with_undo(keeping)
        assert time.monotonic() - began < 25
    finally:
        server.thaw()


def with_undo(keeping: Keeping) -> None:
    assert keeping.store
    with ExitStack() as undo:
        keeping.store.keep(Original(message(), to_keep("sql:")), undo)


def test_the_second_server_takes_over(postgresql: PostgreSQL, mariadb: MariaDB) -> None:
    mariadb.sql("DROP TABLE IF EXISTS maddr, msgs, msgrcpt, quarantine, amavispy_version")
    records = Records(mariadb.dsn)
    postgresql.stop()
    try:
        records.database = Database((postgresql.dsn, mariadb.dsn))
        records.log = type(records.log)(records.database, str)
        records.record()
        assert mariadb.sql("SELECT count(*) FROM msgs").strip() == "1"
    finally:
        postgresql.start()

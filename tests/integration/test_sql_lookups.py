"""Lookups in real SQL servers, in the schema of amavis' own README files: PostgreSQL, MariaDB, and SQLite."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from amavispy.mail.address import Address
from amavispy.mail.reply import TemporaryFailure
from amavispy.policy.directory import NUMBER, TEXT, TRUTH, WBLIST, Field
from amavispy.policy.lookup import AccessList, LookupList
from amavispy.policy.settings import Settings
from amavispy.tables.directory import Databases
from amavispy.tables.failover import Failover
from amavispy.tables.sql import SqlOptions, SqlSource
from amavispy.tables.sql_clause import SEL_POLICY, SEL_WBLIST
from amavispy.tables.sql_server import SqlConnection, SqlServer
from tests.integration.database_servers import MariaDB, PostgreSQL
from tests.integration.lookup_data import ROWS, address, schema

LOCAL = LookupList.of([AccessList((".example.org",))])
FIELDS = {
    "spam_tag2_level_maps": LookupList.of([Field("sql", "spam_tag2_level", NUMBER)]),
    "local_domains_maps": LookupList.of([Field("sql", "local", TRUTH, True), AccessList((".example.org",))]),
}


@dataclass
class Counting:
    """An SqlServer that counts the statements of its connections."""

    server: SqlServer
    statements: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.server.name

    @property
    def failures(self) -> tuple[type[Exception], ...]:
        return self.server.failures

    def connect(self) -> SqlConnection:
        connection = self.server.connect()
        rows = connection.rows

        class Counted(SqlConnection):
            def rows(_, statement: str, parameters: Sequence[Any]) -> list[dict[str, Any]]:  # noqa: N805
                self.statements.append(statement)
                return rows(statement, parameters)

        return Counted(connection.dialect, connection.paramstyle, connection.handle)

    def close(self, connection: SqlConnection) -> None:
        self.server.close(connection)


class Database:
    """One filled database and what asks it."""

    def __init__(self, dsn: str, *, is_octets: bool) -> None:
        self.dsn = dsn
        self.is_octets = is_octets
        self.counting = Counting(SqlServer(dsn, 2.0))
        self.source = self.make_source()

    def make_source(self, **options: Any) -> SqlSource:
        found = SqlOptions(**{"allow_8bit_address": self.is_octets, **options})
        return SqlSource(Failover("lookup_sql", [self.counting]), found)

    def rows(self, path: str, column: str, **settings: Any) -> list[Any]:
        """The values of a column in the rows of an address."""
        made = Settings(**{"local_domains_maps": LOCAL, **settings})
        (rows,) = self.source.fetch([address(path, made)], made)
        return [row[column] for row in rows]

    def known(self, path: str, *senders: str, **settings: Any) -> Address:
        made = Settings(**{**FIELDS, **settings})
        directory = Databases({"sql": self.source})
        people = [address(sender, made) for sender in senders]
        (known,), _ = directory.know([address(path, made)], people, made)
        return known


@pytest.fixture(scope="module")
def postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        server.sql(schema("README.sql-pg.gz") + ROWS)
        yield server


@pytest.fixture(scope="module")
def mariadb() -> Iterator[MariaDB]:
    with MariaDB() as server:
        server.sql(schema("README.sql-mysql.gz") + ROWS)
        yield server


@pytest.fixture(params=["postgresql", "mariadb", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        return Database(sqlite_file(tmp_path / "lookup.db"), is_octets=False)
    return Database(request.getfixturevalue(request.param).dsn, is_octets=True)


def sqlite_file(path: Path) -> str:
    """As the README says: its PostgreSQL schema with INTEGER PRIMARY KEY AUTOINCREMENT instead of serial."""
    text = schema("README.sql-pg.gz").replace("serial  PRIMARY KEY", "serial PRIMARY KEY")
    text = text.replace("serial PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(text + ROWS)
    return f"sqlite:///{path}"


def test_rows_come_in_the_order_of_their_priority(database: Database) -> None:
    assert database.rows("ann@example.org", "email") == ["ann@example.org", "@example.org", "@.example.org", "@."]
    assert database.rows("x@sub.example.org", "email") == ["@.example.org", "@."]
    assert database.rows("x@elsewhere.example", "email") == ["@."]


def test_the_id_of_a_row_is_the_users_not_the_policys(database: Database) -> None:
    assert database.rows("ann@example.org", "id") == [10, 11, 12, 15]


def test_an_extension_is_looked_up_with_and_without(database: Database) -> None:
    assert database.rows("Bob+Lists@Example.Org", "id", recipient_delimiter="+")[0] == 14
    assert database.rows("ann+lists@example.org", "id", recipient_delimiter="+")[0] == 10
    assert database.rows("ann+lists@example.org", "id")[0] == 11


def test_a_name_without_domain_is_looked_up_for_local_addresses_only(database: Database) -> None:
    assert 13 in database.rows("root@example.org", "id")
    assert 13 not in database.rows("root@elsewhere.example", "id")


def test_capitals_of_a_local_part_count_when_told_so(database: Database) -> None:
    assert database.rows("ANN@example.org", "id")[0] == 10
    assert database.rows("ANN@example.org", "id", localpart_is_case_sensitive=True)[0] == 11


@pytest.mark.parametrize(
    ("column", "kind", "recipient", "answer"),
    [
        ("virus_lover", TRUTH, "ann@example.org", True),
        ("virus_lover", TRUTH, "x@example.org", False),
        ("virus_lover", TRUTH, "x@sub.example.org", False),
        ("virus_lover", TRUTH, "x@elsewhere.example", None),
        ("spam_lover", TRUTH, "x@example.org", False),
        ("bypass_spam_checks", TRUTH, "ann@example.org", True),
        ("bypass_spam_checks", TRUTH, "x@sub.example.org", False),
        ("spam_tag2_level", NUMBER, "ann@example.org", 3.0),
        ("spam_tag2_level", NUMBER, "x@example.org", 4.5),
        ("spam_tag2_level", NUMBER, "x@sub.example.org", 5.0),
        ("spam_kill_level", NUMBER, "ann@example.org", 6.5),
        ("message_size_limit", NUMBER, "ann@example.org", 100_000),
        ("message_size_limit", NUMBER, "x@sub.example.org", 0),
        ("spam_subject_tag2", TEXT, "ann@example.org", "[SPAM] "),
        ("spam_quarantine_to", TEXT, "ann@example.org", ""),
        ("spam_quarantine_to", TEXT, "x@example.org", "spam@example.org"),
        ("no_such_column", TEXT, "ann@example.org", None),
    ],
)
def test_the_first_row_with_a_value_answers(
    database: Database, column: str, kind: str, recipient: str, answer: Any
) -> None:
    assert Field("sql", column, kind).find(database.known(recipient)) == answer


def test_being_found_makes_local_but_the_catchall_does_not(database: Database) -> None:
    local = FIELDS["local_domains_maps"]
    assert local.find(database.known("ann@example.org")) is True
    assert local.find(database.known("x@elsewhere.example")) is None


def test_a_column_local_says_who_is_local(tmp_path: Path) -> None:
    dsn = sqlite_file(tmp_path / "lookup.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "lookup.db")) as connection:
        connection.executescript(
            "ALTER TABLE users ADD COLUMN local char(1);"
            "UPDATE users SET local='N' WHERE id=11; UPDATE users SET local='Y' WHERE id=15"
        )
    database = Database(dsn, is_octets=False)
    local = Field("sql", "local", TRUTH, True)
    assert local.find(database.known("x@example.org")) is False
    assert local.find(database.known("x@sub.example.org")) is True
    assert local.find(database.known("x@elsewhere.example")) is True


def listed(known: Address) -> list[tuple[str, str]]:
    return [(row["sender"].partition("@")[0], row["wb"]) for row in known.records.get(WBLIST, ())]


def test_wblist_tells_of_every_sender_for_each_of_the_recipients_rows(database: Database) -> None:
    known = database.known("ann@example.org", "friend@elsewhere.example", "foe@elsewhere.example")
    assert listed(known) == [
        ("friend", "W"),
        ("friend", "B"),
        ("friend", "N"),
        ("foe", "B"),
        ("foe", " "),
        ("foe", "N"),
    ]
    assert listed(database.known("ann@example.org", "points@elsewhere.example"))[0] == ("points", "-2.5")
    assert listed(database.known("x@elsewhere.example", "other@site.example")) == [("other", "N")]


def test_a_wblist_clause_of_the_sites_own_tells_the_same(database: Database) -> None:
    own = {"sel_wblist": SEL_WBLIST.replace("SELECT wb", "SELECT wblist.wb")}
    people = ("ann@example.org", "friend@elsewhere.example", "foe@elsewhere.example")
    assert listed(database.known(*people, sql_clause=own)) == listed(database.known(*people))


def test_an_empty_clause_asks_nothing(database: Database) -> None:
    assert database.known("ann@example.org", "friend@elsewhere.example", sql_clause={"sel_policy": ""}).records == {}
    known = database.known("ann@example.org", "friend@elsewhere.example", sql_clause={"sel_wblist": ""})
    assert WBLIST not in known.records
    assert len(known.records["sql"]) == 4


def test_a_clause_of_the_sites_own_gets_what_its_marks_mean(database: Database) -> None:
    clause = (
        "SELECT %a AS a, %l AS l, %u AS u, %e AS e, %d AS d, %L AS is_local, '%k?' AS literal FROM policy WHERE id=9"
    )
    database.source = database.make_source(allow_8bit_address=False)
    made = Settings(
        sql_clause={"sel_policy": clause},
        recipient_delimiter="+",
        local_domains_maps=LOCAL,
    )
    (rows,) = database.source.fetch([address("Bob+Lists@Example.ORG", made)], made)
    assert dict(rows[0]) == {
        "a": "Bob+Lists@Example.ORG", "l": "Bob+Lists", "u": "bob", "e": "+lists", "d": "example.org",
        "is_local": "1", "literal": "%k?",
    }  # fmt: skip


def test_all_people_of_a_message_cost_two_queries(database: Database) -> None:
    made = Settings(**FIELDS)
    recipients = [address(f"user{n}@example.org", made) for n in range(40)] + [address("ann@example.org", made)]
    senders = [address(path, made) for path in ("friend@elsewhere.example", "foe@elsewhere.example")]
    known, _ = Databases({"sql": database.source}).know(recipients, senders, made)
    assert len(database.counting.statements) == 2
    tag2 = made.spam_tag2_level_maps
    assert [tag2.find(one) for one in known] == [4.5] * 40 + [3.0]
    assert listed(known[40]) == listed(database.known("ann@example.org", *(sender.path for sender in senders)))


def test_a_thousand_recipients_are_asked_for_in_portions(database: Database) -> None:
    made = Settings(**FIELDS)
    recipients = [address(f"user{n}@d{n}.example.org", made) for n in range(1000)]
    found = database.source.fetch([*recipients, address("ann@example.org", made)], made)
    assert [len(rows) for rows in found] == [2] * 1000 + [4]
    assert len(database.counting.statements) < 10


def test_a_clause_of_another_shape_is_asked_once_an_address(database: Database) -> None:
    made = Settings(**FIELDS, sql_clause={"sel_policy": SEL_POLICY + " LIMIT 1"})
    recipients = [address(f"{name}@example.org", made) for name in ("ann", "bob", "ann")]
    found = database.source.fetch(recipients, made)
    assert [[row["id"] for row in rows] for rows in found] == [[10], [11], [10]]
    assert len(database.counting.statements) == 2


@pytest.mark.parametrize("local_part", ["a\\b", 'a"b', "a'b", "a%sb%%", "a?b", ":x", "\udce4", "\x00", "ä"])
def test_no_address_breaks_a_query(database: Database, local_part: str) -> None:
    assert database.rows(f"{local_part}@example.org", "id")[-1] == 15
    database.source = database.make_source(allow_8bit_address=False)
    assert database.rows(f"{local_part}@example.org", "id")[-1] == 15
    known = database.known("ann@example.org", f"{local_part}@elsewhere.example")
    assert ("N" in [wb for _, wb in listed(known)]) is True


def test_octets_are_found_in_columns_of_octets(postgresql: PostgreSQL, mariadb: MariaDB) -> None:
    postgresql.sql("INSERT INTO users (id, policy_id, email) VALUES (99, 2, 'j\\303\\266rg@example.org'::bytea)")
    mariadb.sql("INSERT INTO users (id, policy_id, email) VALUES (99, 2, 'jörg@example.org')")
    for dsn in (postgresql.dsn, mariadb.dsn):
        assert 99 in Database(dsn, is_octets=True).rows("jörg@example.org", "id")
        assert 99 not in Database(dsn, is_octets=False).rows("jörg@example.org", "id")


def test_addresses_in_text_columns_are_found_too(postgresql: PostgreSQL) -> None:
    """Schemas from before amavis 2.6 have varchar."""
    postgresql.sql(
        "CREATE SCHEMA old; SET search_path TO old; CREATE TABLE policy (id serial PRIMARY KEY, spam_tag2_level real);"
        "CREATE TABLE users (id serial PRIMARY KEY, priority integer, policy_id integer, email varchar(255));"
        "INSERT INTO policy VALUES (1, 2.5); INSERT INTO users VALUES (1, 5, 1, 'ann@example.org');"
    )
    database = Database(postgresql.dsn + "?options=-csearch_path%3Dold", is_octets=False)
    assert database.rows("ann@example.org", "spam_tag2_level") == [2.5]


def test_a_database_that_compares_without_case_gives_each_recipient_his_own(mariadb: MariaDB) -> None:
    mariadb.sql(
        "CREATE DATABASE ci CHARACTER SET utf8mb4; GRANT ALL ON ci.* TO amavis@'127.0.0.1'; USE ci;"
        "CREATE TABLE policy (id int PRIMARY KEY, spam_tag2_level float);"
        "CREATE TABLE users (id int PRIMARY KEY, priority int, policy_id int, email varchar(255));"
        "INSERT INTO policy VALUES (1, 2.5), (2, 3.5);"
        "INSERT INTO users VALUES (1, 5, 1, 'Ann@Example.Org'), (2, 5, 2, 'bob@example.org');"
    )
    database = Database(mariadb.dsn.replace("/mail", "/ci"), is_octets=False)
    made = Settings(**FIELDS)
    found = database.source.fetch([address(f"{name}@example.org", made) for name in ("ann", "bob", "eve")], made)
    assert [[row["spam_tag2_level"] for row in rows] for rows in found] == [[2.5], [3.5], []]


def test_blanks_at_the_end_are_trimmed_when_wished(database: Database) -> None:
    assert database.rows("ann@example.org", "spam_subject_tag2")[0] == "[SPAM] "
    database.source = database.make_source(trims_trailing_space=True)
    assert database.rows("ann@example.org", "spam_subject_tag2")[0] == "[SPAM]"


# --- servers that fail


def source_of(*dsns: str, timeout: float = 1.0) -> SqlSource:
    return SqlSource(Failover("lookup_sql", [SqlServer(dsn, timeout) for dsn in dsns]), SqlOptions(True))


def tag2(source: SqlSource, path: str = "ann@example.org") -> Any:
    made = Settings(**FIELDS)
    (known,), _ = Databases({"sql": source}).know([address(path, made)], [], made)
    return made.spam_tag2_level_maps.find(known)


@pytest.fixture(params=[PostgreSQL, MariaDB])
def own_server(request: pytest.FixtureRequest) -> Iterator[PostgreSQL | MariaDB]:
    """A server that only this test stops and starts."""
    with request.param() as server:
        readme = "README.sql-pg.gz" if isinstance(server, PostgreSQL) else "README.sql-mysql.gz"
        server.sql(schema(readme) + ROWS)
        yield server


def test_a_restarted_server_is_asked_on_a_new_connection(own_server: PostgreSQL | MariaDB) -> None:
    source = source_of(own_server.dsn)
    assert tag2(source) == 3.0
    own_server.stop()
    own_server.start()
    assert tag2(source) == 3.0


def test_a_dead_server_defers_the_mail_in_one_line(
    own_server: PostgreSQL | MariaDB, caplog: pytest.LogCaptureFixture
) -> None:
    source = source_of(own_server.dsn)
    assert tag2(source) == 3.0
    own_server.kill()
    with pytest.raises(TemporaryFailure) as caught:
        tag2(source)
    assert str(caught.value.reply) == "451 4.5.0 Error in processing, lookup_sql FAILED"
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    assert f"127.0.0.1:{own_server.port}/mail failed, next try in 1 s" in caplog.text
    assert "secret" not in caplog.text


def test_while_a_dead_server_rests_nobody_waits_for_it(own_server: PostgreSQL | MariaDB) -> None:
    source = source_of(own_server.dsn)
    own_server.kill()
    with pytest.raises(TemporaryFailure):
        tag2(source)
    began = time.monotonic()
    with pytest.raises(TemporaryFailure):
        tag2(source)
    assert time.monotonic() - began < 0.05


def test_a_server_that_hangs_is_given_up_in_time(own_server: PostgreSQL | MariaDB, tmp_path: Path) -> None:
    source = source_of(own_server.dsn, sqlite_file(tmp_path / "lookup.db"))
    source._options = SqlOptions()  # SQLite keeps text
    assert tag2(source) == 3.0
    own_server.freeze()
    began = time.monotonic()
    try:
        assert tag2(source) == 3.0
        assert 0.9 < time.monotonic() - began < 4
        began = time.monotonic()
        assert tag2(source) == 3.0
        assert time.monotonic() - began < 0.5
    finally:
        own_server.thaw()


def test_of_several_servers_the_first_that_answers_is_asked(tmp_path: Path) -> None:
    missing = tmp_path / "missing.db"
    source = SqlSource(
        Failover(
            "lookup_sql",
            [SqlServer(f"sqlite:///{missing}", 1.0), SqlServer(sqlite_file(tmp_path / "lookup.db"), 1.0)],
        ),
        SqlOptions(),
    )
    assert tag2(source) == 3.0
    assert not missing.exists()


def test_a_table_that_is_missing_defers_the_mail(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TemporaryFailure):
        database.known("ann@example.org", sql_clause={"sel_policy": "SELECT * FROM nothing WHERE email IN (%k)"})
    assert "nothing" in caplog.text

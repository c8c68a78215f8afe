"""lookups - what lookups in databases cost a message: `python -m bench.lookups`.

Starts private servers, fills them with a thousand users each, and asks for the policies of one and of ten recipients,
all lists of amavis' schema. Prints microseconds: wall time, and CPU time of this process (the server has its own).
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amavispy.config.implied import with_implied_tables
from amavispy.config.model import ServerSettings
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.policy.directory import NUMBER, TRUTH, Field
from amavispy.policy.lookup import LookupList
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import Settings
from amavispy.tables.directory import Databases, Source
from amavispy.tables.failover import Failover
from amavispy.tables.ldap import LdapServer, LdapSource
from amavispy.tables.ldap_settings import LdapSettings
from amavispy.tables.redis import RedisServer, RedisSource
from amavispy.tables.sql import SqlOptions, SqlSource
from amavispy.tables.sql_server import SqlServer
from tests.integration.database_servers import LDAP_BASE, MariaDB, OpenLDAP, PostgreSQL, Redis
from tests.integration.lookup_data import schema

SQL = with_implied_tables(Settings(), ServerSettings(lookup_sql_dsn=("x",)), {})
LDAP = with_implied_tables(Settings(enable_ldap=True), ServerSettings(), {})
REDIS = Settings(
    spam_tag2_level_maps=LookupList.of([Field("redis", "spam_tag2_level", NUMBER)]),
    local_domains_maps=LookupList.of([Field("redis", "local", TRUTH, True)]),
)
ROUNDS = 2000


def rows() -> str:
    users = ",".join(f"({n}, 7, 1, 'user{n}@example.org')" for n in range(1, 1001))
    return (
        "INSERT INTO policy (id, spam_tag2_level, spam_kill_level) VALUES (1, 5, 9);"
        f"INSERT INTO users (id, priority, policy_id, email) VALUES {users}, (2000, 1, 1, '@example.org');"
        "INSERT INTO mailaddr (id, email) VALUES (1, 'friend@elsewhere.example');"
        "INSERT INTO wblist (rid, sid, wb) VALUES (7, 1, 'W');"
    )


def measure(name: str, source: Source | None, settings: Settings, kind: str = "sql") -> None:
    """One line: a message to one recipient, and one to ten."""
    directory = Databases({kind: source}) if source else None
    content = Content(b"From: friend@elsewhere.example\r\n\r\n")
    for count in (1, 10):
        recipients = tuple(Recipient(f"user{n}@example.org") for n in range(7, 7 + count))
        envelope = Envelope("a@elsewhere.example", recipients)
        wall, cpu = timed(lambda envelope=envelope: recipient_policies(envelope, settings, content, directory))
        print(f"{name:<12} {count:>3} recipients  {wall:8.0f} us  {cpu:8.0f} us CPU")


def timed(ask: Callable[[], Any]) -> tuple[float, float]:
    for _ in range(50):
        ask()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(ROUNDS):
        ask()
    return (time.perf_counter() - wall) / ROUNDS * 1e6, (time.process_time() - cpu) / ROUNDS * 1e6


def sql_source(dsn: str, *, octets: bool) -> Source:
    return SqlSource(Failover("lookup_sql", [SqlServer(dsn, 10.0)]), SqlOptions(allow_8bit_address=octets))


def sqlite_file(directory: str) -> str:
    text = schema("README.sql-pg.gz").replace("serial  PRIMARY KEY", "serial PRIMARY KEY")
    connection = sqlite3.connect(Path(directory) / "lookup.db")
    connection.executescript(text.replace("serial PRIMARY KEY", "INTEGER PRIMARY KEY") + rows())
    connection.close()
    return f"sqlite:///{directory}/lookup.db"


def main() -> None:
    measure("none", None, Settings())
    with tempfile.TemporaryDirectory() as directory:
        measure("SQLite", sql_source(sqlite_file(directory), octets=False), SQL)
    with PostgreSQL() as postgresql:
        postgresql.sql(schema("README.sql-pg.gz") + rows() + "ANALYZE;")
        measure("PostgreSQL", sql_source(postgresql.dsn, octets=True), SQL)
        measure("  prepared", sql_source(postgresql.dsn + "?prepare_threshold=5", octets=True), SQL)
    with MariaDB() as mariadb:
        mariadb.sql(schema("README.sql-mysql.gz") + rows())
        measure("MariaDB", sql_source(mariadb.dsn, octets=True), SQL)
    with Redis() as redis:
        for n in range(1, 20):
            redis.cli("HSET", f"lookup:user{n}@example.org", "spam_tag2_level", "5")
        servers = Failover("lookup_redis", [RedisServer(redis.dsn, 10.0)])
        measure("Redis", RedisSource(servers, "lookup:"), REDIS, "redis")
    with OpenLDAP() as slapd:
        slapd.add("\n".join(entry(n) for n in range(1, 1001)))
        ldap = LdapSettings(hostname=(slapd.uri,), base=LDAP_BASE)
        measure("LDAP", LdapSource(Failover("lookup_ldap", [LdapServer(slapd.uri, ldap, 10.0)]), ldap), LDAP, "ldap")


def entry(number: int) -> str:
    return (
        f"dn: cn=u{number},{LDAP_BASE}\nobjectClass: inetOrgPerson\nobjectClass: amavisAccount\ncn: u{number}\nsn: u\n"
        f"mail: user{number}@example.org\namavisSpamTag2Level: 5\n"
    )


if __name__ == "__main__":
    main()

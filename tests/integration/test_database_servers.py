"""The servers that other tests talk to start, keep what they are told, hang and come back."""

from __future__ import annotations

import socket

from tests.integration.database_servers import LDAP_BASE, MariaDB, OpenLDAP, PostgreSQL, Redis


def test_postgresql_keeps_rows_over_a_restart() -> None:
    with PostgreSQL() as server:
        server.sql("CREATE TABLE t (n integer); INSERT INTO t VALUES (7);")
        server.stop()
        server.start()
        assert server.sql("SELECT n FROM t") == "7\n"


def test_mariadb_keeps_rows_over_a_restart() -> None:
    with MariaDB() as server:
        server.sql("CREATE TABLE t (n integer); INSERT INTO t VALUES (7);")
        server.stop()
        server.start()
        assert server.sql("SELECT n FROM t") == "7\n"


def test_redis_wants_its_password_and_hangs_when_frozen() -> None:
    with Redis(password="secret") as server:
        assert server.cli("SET", "key", "value") == "OK"
        assert server.dsn == f"redis://:secret@127.0.0.1:{server.port}/0"
        server.freeze()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.settimeout(0.2)
            connection.sendall(b"PING\r\n")
            try:
                answer = connection.recv(100)
            except TimeoutError:
                answer = b""
            server.thaw()
            connection.settimeout(5)
            assert answer == b""
            assert connection.recv(100).startswith(b"-NOAUTH")


def test_slapd_knows_the_schema_of_amavis() -> None:
    with OpenLDAP() as server:
        server.add(
            f"dn: cn=ann,{LDAP_BASE}\nobjectClass: amavisAccount\nobjectClass: person\ncn: ann\nsn: ann\n"
            "amavisSpamTag2Level: 4.5\n"
        )
        found = server.run(
            "ldapsearch", "-x", "-LLL", "-H", server.uri, "-b", LDAP_BASE, "cn=ann", "amavisSpamTag2Level"
        )
        assert "amavisSpamTag2Level: 4.5" in found

"""The running daemon asks its databases: each recipient his own policy, and 451 while a database does not answer.

Workers run as an unprivileged user who cannot read Python's own files: whatever is imported late would fail here.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.daemons import EICAR
from tests.integration.database_servers import LDAP_BASE, OpenLDAP, PostgreSQL, Redis
from tests.integration.lookup_data import ROWS, schema
from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import RunningDaemon, wait_until
from tests.sink import Sink
from tests.tables.fake_dns import FakeNameServer

VIRUS = MAIL.replace(b"Hi\r\n", EICAR + b"\r\n")


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


def deliver(port: int, octets: bytes, *recipients: str, sender: str = "a@elsewhere.example") -> str:
    with Talk(port) as talk:
        talk.greet()
        talk.ask(f"MAIL FROM:<{sender}>")
        for recipient in recipients:
            talk.ask(f"RCPT TO:<{recipient}>")
        talk.ask("DATA")
        talk.say(octets + b".\r\n")
        return talk.hear()


def received(sink: Sink) -> list[str]:
    """Who got mail since this was asked last."""
    found = [recipient for mail in sink.mails for recipient in mail.recipients]
    sink.mails.clear()
    return sorted(found)


def test_each_recipient_has_the_policy_of_his_rows_in_postgresql(sink: Sink) -> None:
    with PostgreSQL() as server:
        server.sql(schema("README.sql-pg.gz") + ROWS)
        server.sql("UPDATE policy SET message_size_limit=10 WHERE id=3")
        extra = f'lookup_sql_dsn = "{server.dsn}"\nsql_allow_8bit_address = true\nlog_level = 3\nlookup_timeout = 1'
        port, config = small_config(sink.port, extra=extra)
        with RunningDaemon(config) as running:
            assert deliver(port, VIRUS, "ann@example.org", "x@example.org").startswith("250 2.")
            assert received(sink) == ["ann@example.org"]
            assert deliver(port, MAIL, "ann@example.org", "x@sub.example.org").startswith("250 2.")
            assert received(sink) == ["ann@example.org"]
            log = running.wait_for_log("Blocked OVERSIZED")
            assert "wbl: blacklisted sender <a@elsewhere.example>,<a@example.org> => <x@sub.example.org>" in log
            assert running.log().count("lookup_sql: connected to postgresql 127.0.0.1") in (1, 2)

            server.stop()
            reply = deliver(port, VIRUS, "x@example.org")
            assert reply == "451 4.5.0 Error in processing, lookup_sql FAILED"
            assert deliver(port, MAIL, "ann@example.org").startswith("451 4.5.0")
            assert received(sink) == []
            log = running.wait_for_log(
                "Refused <a@elsewhere.example> -> <ann@example.org>, 451 4.5.0 Error in processing"
            )
            assert "lookup_sql: postgresql 127.0.0.1" in log
            assert "Traceback" not in log

            server.start()
            wait_for_recovery(port)
            assert deliver(port, VIRUS, "ann@example.org", "x@example.org").startswith("250 2.")
            assert "ann@example.org" in received(sink)


def wait_for_recovery(port: int) -> None:
    """Both workers have given the server another chance."""
    fine = []

    def is_fine() -> bool:
        fine.append(deliver(port, MAIL, "ann@example.org").startswith("250 "))
        return len(fine) > 5 and all(fine[-6:])

    wait_until(is_fine, "the database is asked again")


def test_ldap_and_redis_answer_side_by_side(sink: Sink) -> None:
    with OpenLDAP() as slapd, Redis() as redis:
        slapd.add(
            f"dn: cn=ann,{LDAP_BASE}\nobjectClass: inetOrgPerson\nobjectClass: amavisAccount\ncn: ann\nsn: ann\n"
            "mail: ann@example.org\namavisVirusLover: TRUE\n"
        )
        redis.cli("HSET", "lookup:bob@example.org", "virus_lover", "Y")
        extra = (
            f'enable_ldap = true\ndefault_ldap = {{ hostname = "{slapd.uri}", base = "{LDAP_BASE}" }}\n'
            f'lookup_redis_dsn = "{redis.dsn}"\nvirus_lovers_maps = [{{ redis = "virus_lover" }}]\nlookup_timeout = 1'
        )
        port, config = small_config(sink.port, extra=extra)
        with RunningDaemon(config) as running:
            received(sink)
            reply = deliver(port, VIRUS, "ann@example.org", "bob@example.org", "eve@example.org")
            assert reply.startswith("250 2."), running.wait_for_log("TROUBLE")
            assert received(sink) == ["ann@example.org", "bob@example.org"]
            redis.stop()
            assert deliver(port, MAIL, "eve@example.org") == "451 4.5.0 Error in processing, lookup_redis FAILED"
            slapd.stop()
            assert deliver(port, MAIL, "eve@example.org") == "451 4.5.0 Error in processing, lookup_ldap FAILED"
            assert "Traceback" not in running.log()


def test_a_client_in_a_blocklist_gets_its_policy_bank(sink: Sink) -> None:
    rule = '[[client_ipaddr_policy]]\ndnsxl = "zen.example"\nbanks = ["LISTED"]\n'
    rule += "[policy_bank.LISTED]\nsmtpd_message_size_limit = 10\n"
    with FakeNameServer({"2.2.0.192.zen.example": ["127.0.0.2"]}) as server:
        extra = f'dnsxl_nameservers = ["127.0.0.1:{server.address[1]}"]'
        port, config = small_config(sink.port, extra=extra, tables=rule)
        with RunningDaemon(config) as running, Talk(port) as talk:
            talk.greet()
            for client, heard in (("192.0.2.2", "552 5.3.4"), ("192.0.2.3", "250 2.1.0"), ("192.0.2.2", "552 5.3.4")):
                assert talk.ask(f"XFORWARD ADDR={client}").startswith("250 ")
                assert talk.ask("MAIL FROM:<a@example.org> SIZE=100").startswith(heard), running.log()
                talk.ask("RSET")
        assert set(server.asked) == {"2.2.0.192.zen.example", "3.2.0.192.zen.example"}


def test_a_blocklist_that_does_not_answer_defers_the_mail_at_its_sender(sink: Sink) -> None:
    rule = '[[client_ipaddr_policy]]\ndnsxl = "zen.example"\nbanks = ["LISTED"]\n[policy_bank.LISTED]\n'
    port, config = small_config(sink.port, extra='dnsxl_nameservers = ["127.0.0.1:9"]', tables=rule)
    with RunningDaemon(config) as running, Talk(port) as talk:
        talk.greet()
        assert talk.ask("MAIL FROM:<a@example.org>") == "451 4.5.0 Error in processing, lookup_dnsxl FAILED"
        assert talk.ask("QUIT").startswith("221 ")
        assert "Traceback" not in running.wait_for_log("dnsxl: no answer for 1.0.0.127.zen.example from 127.0.0.1")

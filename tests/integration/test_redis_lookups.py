"""Lookups in a real Redis: a hash for each key, found by all keys of an address."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from amavispy.mail.address import Address
from amavispy.mail.reply import TemporaryFailure
from amavispy.policy.directory import NUMBER, TEXT, TRUTH, Field
from amavispy.policy.lookup import AccessList, LookupList
from amavispy.policy.settings import Settings
from amavispy.tables.directory import Databases
from amavispy.tables.failover import Failover
from amavispy.tables.redis import RedisServer, RedisSource
from tests.integration.database_servers import Redis
from tests.integration.lookup_data import address

TAG2 = Field("redis", "spam_tag2_level", NUMBER)
SETTINGS = Settings(
    recipient_delimiter="+",
    spam_tag2_level_maps=LookupList.of([TAG2]),
    local_domains_maps=LookupList.of([Field("redis", "local", TRUTH, True), AccessList((".example.org",))]),
)


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    with Redis(password="secret") as server:
        server.cli(
            "HSET", "lookup:ann@example.org", "spam_tag2_level", "3", "virus_lover", "Y", "Spam_Subject_Tag2", "[S] "
        )
        server.cli("HSET", "lookup:@example.org", "spam_tag2_level", "4.5", "virus_lover", "N")
        server.cli("HSET", "lookup:root", "spam_tag2_level", "1")
        server.cli("HSET", "lookup:@.", "spam_tag2_level", "much", "virus_lover", "0")
        yield server


def source_of(*dsns: str, timeout: float = 2.0) -> RedisSource:
    return RedisSource(Failover("lookup_redis", [RedisServer(dsn, timeout) for dsn in dsns]), "lookup:")


def known(source: RedisSource, path: str) -> Address:
    (found,), _ = Databases({"redis": source}).know([address(path, SETTINGS)], [], SETTINGS)
    return found


@pytest.mark.parametrize(
    ("name", "kind", "recipient", "answer"),
    [
        ("spam_tag2_level", NUMBER, "Ann+Lists@Example.org", 3.0),
        ("spam_tag2_level", NUMBER, "x@example.org", 4.5),
        ("spam_tag2_level", NUMBER, "root@example.org", 1.0),
        ("spam_tag2_level", NUMBER, "root@elsewhere.example", None),
        ("virus_lover", TRUTH, "ann@example.org", True),
        ("virus_lover", TRUTH, "x@elsewhere.example", False),
        ("spam_subject_tag2", TEXT, "ann@example.org", "[S] "),
        ("spam_subject_tag2", TEXT, "x@example.org", None),
    ],
)
def test_the_first_hash_with_a_value_answers(redis: Redis, name: str, kind: str, recipient: str, answer: Any) -> None:
    assert Field("redis", name, kind).find(known(source_of(redis.dsn), recipient)) == answer


def test_being_found_makes_local_but_the_catchall_does_not(redis: Redis) -> None:
    local, source = SETTINGS.local_domains_maps.tables[0], source_of(redis.dsn)
    assert local.find(known(source, "ann@example.org")) is True
    assert local.find(known(source, "x@elsewhere.example")) is None


def test_octets_in_an_address_are_octets_in_a_key(redis: Redis) -> None:
    redis.cli("HSET", "lookup:jörg@example.org", "spam_tag2_level", "8")
    assert TAG2.find(known(source_of(redis.dsn), "jörg@example.org")) == 8.0
    assert TAG2.find(known(source_of(redis.dsn), "a\udce4\r\nb@example.org")) == 4.5


def test_a_thousand_recipients_travel_together(redis: Redis) -> None:
    people = [address(f"u{n}@example.org", SETTINGS) for n in range(1000)]
    found = source_of(redis.dsn).fetch([*people, address("ann@example.org", SETTINGS)], SETTINGS)
    assert [len(rows) for rows in found] == [2] * 1000 + [3]


def test_a_wrong_password_defers_the_mail_and_is_not_logged(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(TemporaryFailure) as caught:
        known(source_of(redis.dsn.replace("secret", "guessed")), "ann@example.org")
    assert str(caught.value.reply) == "451 4.5.0 Error in processing, lookup_redis FAILED"
    assert f"redis 127.0.0.1:{redis.port}/0 failed" in caplog.text
    assert "guessed" not in caplog.text


def test_a_restarted_server_is_asked_again_a_dead_one_defers_and_another_takes_over(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with Redis() as server:
        server.cli("HSET", "lookup:ann@example.org", "spam_tag2_level", "7")
        source, both = source_of(server.dsn), source_of(server.dsn, redis.dsn)
        assert TAG2.find(known(source, "ann@example.org")) == TAG2.find(known(both, "ann@example.org")) == 7.0
        server.stop()
        server.start()
        assert TAG2.find(known(source, "ann@example.org")) is None  # it forgets, but answers
        server.kill()
        with pytest.raises(TemporaryFailure):
            known(source, "ann@example.org")
        assert len(caplog.records) == 1
        assert TAG2.find(known(both, "ann@example.org")) == 3.0


def test_a_server_that_hangs_is_given_up_in_time() -> None:
    with Redis() as server:
        source = source_of(server.dsn, timeout=0.3)
        known(source, "ann@example.org")
        server.freeze()
        began = time.monotonic()
        with pytest.raises(TemporaryFailure):
            known(source, "ann@example.org")
        assert time.monotonic() - began < 2

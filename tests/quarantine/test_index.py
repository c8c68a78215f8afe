"""The index: everything kept is found by all that people ask for, and its failures lose nothing."""

from __future__ import annotations

import logging
import multiprocessing
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from amavispy.delivery.index_database import IndexDatabase, IndexFailure
from amavispy.delivery.quarantine_index import KeptFor, KeptMail, QuarantineIndex, Query
from amavispy.mail.disposition import Disposition
from amavispy.mail.outcome import KeptCopy
from tests.integration.database_servers import PostgreSQL
from tests.making import MAIL, bank, message
from tests.quarantine.keeping import CLEAN, SPAM, VIRUS, Keeping, named, to_keep

DAY = datetime(2026, 11, 22, 10, 7, 33, tzinfo=UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgreSQL]:
    with PostgreSQL() as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def keeping(request: pytest.FixtureRequest, tmp_path: Path) -> Keeping:
    if request.param == "sqlite":
        return Keeping(tmp_path)
    running: PostgreSQL = request.getfixturevalue("server")
    running.sql("DROP TABLE IF EXISTS quarantine_index, quarantine_index_recipient")
    return Keeping(tmp_path, index=running.dsn)


def keep(
    keeping: Keeping, mail_id: str, *to: str, subject: str = "Hello", sender: str = "a@example.org", **more
) -> None:  # type: ignore[no-untyped-def]
    octets = MAIL.replace(b"Hello", subject.encode())
    mail = message(octets, *to, sender=sender)
    mail = replace(mail, received_at=DAY + timedelta(days=more.pop("days", 0)))
    category = more.pop("category", VIRUS)
    disposition = to_keep("local:%m", category=category, recipients=to or ("b@example.net",), **more)
    keeping.quarantine.keep(named(mail, mail_id), disposition, bank())


def test_a_kept_mail_is_described_as_people_know_it(keeping: Keeping) -> None:
    keep(keeping, "aaaaaaaaaaaa", "b@example.net", "c@example.net", subject="=?utf-8?q?f=C3=BCr_dich?= \u2026")
    assert keeping.only() == KeptMail(
        "aaaaaaaaaaaa", 0, "mx.example.net", int(DAY.timestamp()), "virus", "a@example.org", "für dich …",
        "Ann <a@example.org>", "<x1@example.org>", len(MAIL) + 24, None, (KeptCopy("F", "a/aaaaaaaaaaaa"),),
        (KeptFor("b@example.net", True), KeptFor("c@example.net", True)),
    )  # fmt: skip
    assert keeping.index.get("aaaaaaaaaaaa") == keeping.only()
    assert keeping.index.get("AAAAAAAAAAAA") is None


@pytest.fixture
def several(keeping: Keeping) -> Keeping:
    keep(keeping, "virus0000001", "b@example.net", days=0)
    keep(keeping, "spam00000002", "c@example.net", "b@example.net", category=SPAM, subject="100% Gewinn_e", days=1)
    keep(keeping, "clean0000003", "Dan@Example.NET", category=CLEAN, sender="", days=2, is_blocked=False)
    keep(keeping, "archive00004", "d@example.net", category=CLEAN, sender="News@Lists.example.com", days=3,
         is_archive=True, is_blocked=False, subject="ÄRGER")  # fmt: skip
    return keeping


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, "4321"),
        ({"is_oldest_first": True}, "1234"),
        ({"limit": 2}, "43"),
        ({"category": "spam"}, "2"),
        ({"category": "archive"}, "4"),
        ({"recipient": "b@example.net"}, "21"),
        ({"recipient": "B@EXAMPLE.net"}, "21"),
        ({"recipient": "dan@example.net"}, "3"),
        ({"recipient": "*@example.net"}, "4321"),
        ({"recipient": "b@example"}, ""),
        ({"sender": "a@example.org"}, "21"),
        ({"sender": "*@lists.example.com"}, "4"),
        ({"sender": "%"}, ""),
        ({"subject": "100%"}, "2"),
        ({"subject": "gewinn_E"}, "2"),
        ({"subject": "gewinn?e"}, ""),
        ({"subject": "H*LO"}, "31"),
        ({"subject": "ärger"}, "4"),
        ({"since": int((DAY + timedelta(days=1)).timestamp())}, "432"),
        ({"until": int((DAY + timedelta(days=1)).timestamp())}, "1"),
        ({"recipient": "b@example.net", "category": "virus", "sender": "a@*"}, "1"),
        ({"sender": "x' OR '1'='1"}, ""),
    ],
)
def test_mail_is_found_by_whatever_is_asked(several: Keeping, query: dict[str, object], found: str) -> None:
    assert "".join(mail_id[-1] for mail_id in several.ids(**query)) == found


def test_a_thousand_recipients_are_all_known(keeping: Keeping) -> None:
    recipients = tuple(f"r{n}@example.net" for n in range(1000))
    keep(keeping, "aaaaaaaaaaaa", *recipients)
    assert tuple(recipient.address for recipient in keeping.only().recipients) == recipients
    assert keeping.ids(recipient="r999@example.net") == ["aaaaaaaaaaaa"]


def test_the_gravest_category_counts_and_an_archive_only_when_nothing_else_does(keeping: Keeping) -> None:
    both = to_keep("local:%m", category=SPAM).recipients + to_keep("local:%m", category=VIRUS, to="x").recipients
    archived = to_keep("local:a-%m", category=VIRUS, is_archive=True).recipients
    keeping.quarantine.keep(named(message(), "aaaaaaaaaaaa"), Disposition(both + archived), bank())
    assert keeping.only().category == "virus"


def test_hostile_texts_are_kept_as_they_can_be_shown(keeping: Keeping) -> None:
    keep(keeping, "aaaaaaaaaaaa", "b\udcff\x00\n'@example.net", sender="\x1b[2J@x", subject="\x00\x1b]0;x\x07" * 99)
    mail = keeping.only()
    assert mail.sender == "\\x1B[2J@x"
    assert mail.recipients[0].address == "b\\xFF\\x00\\x0A'@example.net"
    assert len(mail.subject) == 255
    assert mail.subject.isprintable()


def test_a_release_is_remembered(several: Keeping) -> None:
    several.index.released("spam00000002", ["B@example.net"])
    mail = several.index.get("spam00000002")
    assert mail
    assert [(r.address, r.released_at is not None) for r in mail.recipients] == [
        ("c@example.net", False),
        ("b@example.net", True),
    ]


def test_what_is_removed_is_forgotten_with_its_recipients(several: Keeping) -> None:
    several.index.remove(["spam00000002", "virus0000001"])
    assert several.ids() == ["archive00004", "clean0000003"]
    assert several.ids(recipient="b@example.net") == []


# --- failures


def test_an_index_that_fails_refuses_no_mail(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keeping = Keeping(tmp_path, index=f"{tmp_path}/missing/index.db")
    with caplog.at_level(logging.WARNING):
        (copy,) = keeping.keep("local:%m")
    assert (keeping.directory / copy.location).exists()
    assert "quarantine index: cannot remember Jnk7NzYB8pvl:" in caplog.text
    assert "`amavispy quarantine reindex`" in caplog.text
    with pytest.raises(IndexFailure):
        keeping.ids()


def test_a_file_that_is_no_database_refuses_no_mail(tmp_path: Path) -> None:
    (tmp_path / "index.db").write_bytes(b"not a database at all" * 100)
    keeping = Keeping(tmp_path)
    with pytest.raises(IndexFailure, match="not a database"):
        keeping.ids()
    assert keeping.keep("local:%m")


def test_a_server_that_does_not_answer_is_not_asked_by_every_mail(server: PostgreSQL) -> None:
    now = 0.0
    database = IndexDatabase(server.dsn, clock=lambda: now)
    index = QuarantineIndex(database)
    index.find(Query())
    server.stop()
    for words in ("terminat|closed|lost|server", "refused", "did not answer lately"):
        with pytest.raises(IndexFailure, match=words):
            index.find(Query())
    server.start()
    with pytest.raises(IndexFailure, match="did not answer lately"):
        index.find(Query())
    now = 11.0
    assert index.find(Query()) is not None


def test_workers_write_at_the_same_time(keeping: Keeping) -> None:
    context = multiprocessing.get_context("fork")
    keep(keeping, "parent000000")  # a connection that the children must not use
    children = [context.Process(target=_keep_many, args=(keeping, number)) for number in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0] * 4
    assert len(keeping.ids()) == 4 * 25 + 1


def _keep_many(keeping: Keeping, number: int) -> None:
    for n in range(25):
        keep(keeping, f"mail{number}{n:07}")

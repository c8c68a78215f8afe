"""Rows of maddr, msgs and msgrcpt: the codes amavis uses, what a column takes, and failures that refuse no mail."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from amavispy.journal import storage
from amavispy.journal.database import Database, DatabaseFailure
from amavispy.journal.facts import Facts
from amavispy.journal.sql_log import SqlLog, delivery_status, maddr_email
from amavispy.journal.timings import Timings
from amavispy.mail.disposition import Destiny
from amavispy.mail.message import Message
from amavispy.mail.outcome import KeptCopy, Outcome, RecipientOutcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory, Verdict
from tests.making import CLIENT, MAIL, bank, fate, message, outcome, passed


class Records:
    """A database with amavis' tables and what writes to it."""

    def __init__(self, dsn: str) -> None:
        self.database = Database((dsn,))
        storage.migrate(self.database)
        self.log = SqlLog(self.database, lambda mail_id: f"s-{mail_id[:4]}")

    def record(self, mail: Message | None = None, what: Outcome | None = None, **settings: Any) -> None:
        self.log.record(facts(mail, what, **settings))

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self.database.transaction() as session:
            return [tuple(row) for row in session.connection.execute(text(statement))]

    def values(self, column: str, table: str = "msgs") -> list[Any]:
        return [row[0] for row in self.rows(f"SELECT {column} FROM {table} ORDER BY 1")]


def facts(mail: Message | None = None, what: Outcome | None = None, **settings: Any) -> Facts:
    in_bank = bank("SUBMISSION", "MYNETS", **settings)
    return Facts(mail or message(), in_bank, Verdict(), what or outcome(passed()), Timings())


def named(mail_id: str, octets: bytes = MAIL, *to: str, **more: Any) -> Message:
    mail = message(octets, *to, **more)
    return replace(mail, ids=replace(mail.ids, mail_id=mail_id))


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Records]:
    made = Records(f"sqlite:///{tmp_path}/records.db")
    yield made
    made.database.close()


def blocked(category: Category, destiny: Destiny, reply: Reply, minor: int = 0, **more: Any) -> RecipientOutcome:
    disposition = fate("b@example.net", ContentsCategory(category, minor), destiny=destiny, reply=reply, **more)
    return RecipientOutcome(disposition, reply, bounce="sent" if destiny is Destiny.BOUNCE else "")


REJECTED = Reply(554, "5.7.0", "Reject, id=07655-01 - spam")


def test_a_mail_is_one_row_and_each_recipient_another(records: Records) -> None:
    quarantined = (KeptCopy("F", "archive", True), KeptCopy("Z", "J/spam-x.gz"), KeptCopy("Q", "x"))
    spam = blocked(Category.SPAM, Destiny.REJECT, REJECTED, score=7.5, sender_listed="B", is_local=False)
    records.record(what=replace(outcome(passed(fate(score=2.5, sender_listed="W")), spam), quarantine=quarantined))
    columns = "partition_tag, mail_id, secret_id, am_id, time_num, time_iso, policy, client_addr, size, originating"
    assert records.rows(f"SELECT {columns} FROM msgs") == [
        (0, b"Jnk7NzYB8pvl", b"s-Jnk7", "07655-01", 1795342053, "20261122T100733Z", "SUBMISSION/MYNETS", "192.0.2.1",
         len(MAIL), "N")
    ]  # fmt: skip
    columns = "content, quar_type, quar_loc, dsn_sent, spam_level, message_id, from_addr, subject, host"
    assert records.rows(f"SELECT {columns} FROM msgs") == [
        ("S", "Z", "J/spam-x.gz", "N", 2.5, "<x1@example.org>", "Ann <a@example.org>", "Hello", "mx.example.net")
    ]
    columns = "partition_tag, mail_id, rseqnum, is_local, content, ds, rs, bl, wl, bspam_level, smtp_resp"
    queued = "250 2.0.0 from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 553261D1CB0"
    assert records.rows(f"SELECT {columns} FROM msgrcpt") == [
        (0, b"Jnk7NzYB8pvl", 1, "Y", "C", "P", " ", "N", "Y", 2.5, queued),
        (0, b"Jnk7NzYB8pvl", 2, "N", "S", "R", " ", "Y", "N", 7.5, "554 5.7.0 Reject, id=07655-01 - spam"),
    ]
    assert records.rows("SELECT s.email, s.domain FROM msgs JOIN maddr s ON s.id = sid") == [
        (b"a@example.org", "org.example")
    ]
    assert records.rows("SELECT DISTINCT r.email, r.domain FROM msgrcpt JOIN maddr r ON r.id = rid") == [
        (b"b@example.net", "net.example")
    ]


@pytest.mark.parametrize(
    ("category", "minor", "code"),
    [
        (Category.VIRUS, 0, "V"), (Category.BANNED, 0, "B"), (Category.UNCHECKED, 1, "U"), (Category.SPAM, 0, "S"),
        (Category.SPAMMY, 1, "Y"), (Category.BADH, 2, "M"), (Category.BADH, 7, "H"), (Category.OVERSIZED, 0, "O"),
        (Category.MTA, 1, "T"), (Category.CLEAN, 1, "C"), (Category.CATCHALL, 0, "?"),
    ],
)  # fmt: skip
def test_every_category_has_amavis_letter(records: Records, category: Category, minor: int, code: str) -> None:
    records.record(what=outcome(passed(fate("b@example.net", ContentsCategory(category, minor)))))
    assert records.values("content") == records.values("content", "msgrcpt") == [code]


@pytest.mark.parametrize(
    ("destiny", "reply", "status"),
    [
        (Destiny.PASS, Reply(250, "2.0.0", "Ok"), "P"),
        (Destiny.DISCARD, Reply(250, "2.7.0", "Ok, discarded"), "D"),
        (Destiny.REJECT, Reply(554, "5.7.0", "Reject"), "R"),
        (Destiny.BOUNCE, Reply(554, "5.7.0", "Bounce"), "B"),
        (Destiny.BOUNCE, Reply(250, "2.5.0", "Ok, DSN was sent"), "B"),
        (Destiny.TEMPFAIL, Reply(450, "4.7.0", "Temporary failure"), "T"),
        (Destiny.PASS, Reply(451, "4.5.0", "later"), "T"),
    ],
)
def test_the_delivery_status_is_what_became_of_the_recipient(destiny: Destiny, reply: Reply, status: str) -> None:
    assert delivery_status(RecipientOutcome(fate(destiny=destiny), reply)) == status


@pytest.mark.parametrize(("bounce", "code"), [("", "N"), ("sent", "Y"), ("suppressed", "q"), ("failed", "N")])
def test_whether_a_bounce_was_sent_is_told(records: Records, bounce: str, code: str) -> None:
    spam = replace(blocked(Category.SPAM, Destiny.BOUNCE, REJECTED), bounce=bounce)
    records.record(what=outcome(spam, passed()))
    assert records.values("dsn_sent") == [code]


@pytest.mark.parametrize(
    ("path", "email"),
    [
        ("", ""),
        ("Ann.B@Example.ORG", "ann.b@example.org"),
        ('"a b"@example.org', "a b@example.org"),
        ("postmaster", "postmaster@"),
        ("x@bücher.example", "x@xn--bcher-kva.example"),
        ("a\udcff\x00@x", "a\\xFF\\x00@x"),
        ("y" * 300 + "@x", "y" * 255),
    ],
)
def test_addresses_are_those_of_table_maddr(path: str, email: str) -> None:
    assert maddr_email(path) == email


def test_an_address_has_one_row_in_each_partition(records: Records) -> None:
    for mail_id, tag in (("a", ""), ("b", ""), ("c", "%V")):
        mail = named(f"{mail_id}23456789012", MAIL, "A@example.org", "b@example.net", "b@example.net")
        records.record(mail, outcome(passed(fate("A@example.org")), passed(), passed()), partition_tag=tag)
    assert records.rows("SELECT partition_tag, email FROM maddr ORDER BY id") == [
        (0, b"a@example.org"), (0, b"b@example.net"), (47, b"a@example.org"), (47, b"b@example.net"),
    ]  # fmt: skip
    assert len(records.values("rid", "msgrcpt")) == 9


def test_only_quarantined_mail_is_recorded_when_that_is_wanted(records: Records) -> None:
    records.record(named("clean0000000"), sql_store_info_for_all_msgs=False)
    archived = replace(outcome(passed()), quarantine=(KeptCopy("F", "archive", True),))
    records.record(named("archived0000"), archived, sql_store_info_for_all_msgs=False)
    kept = replace(outcome(passed()), quarantine=(KeptCopy("Q", "x"),))
    records.record(named("kept00000000"), kept, sql_store_info_for_all_msgs=False)
    assert records.values("mail_id") == [b"kept00000000"]


def test_hostile_and_long_texts_fit(records: Records) -> None:
    octets = (
        b"From: \x1b[2J =?utf-8?b?" + b"/w=="
        b"?=\r\nSubject: =?utf-8?q?=00=F0=9F=98=80?="
        + b"z" * 500
        + b"\r\nMessage-ID: (c) <"
        + b"i" * 400
        + b">\r\n\r\n"
    )
    client = replace(CLIENT, address="2001:db8::1")
    long = RecipientOutcome(fate(), Reply(250, "2.0.0", "é" + "x" * 400))
    records.record(message(octets, client=client, sender="ü" * 300 + "@x"), outcome(long))
    assert records.values("from_addr") == ["\\x1B[2J �"]
    subject = records.values("subject")[0]
    assert subject.startswith("\\x00😀zzz")
    assert len(subject) == 255
    assert len(records.values("message_id")[0]) <= 255
    assert records.values("smtp_resp", "msgrcpt")[0] == ("250 2.0.0 ?" + "x" * 400)[:255]


def test_a_thousand_recipients_are_a_thousand_rows(records: Records) -> None:
    recipients = [fate(f"r{n}@example.net") for n in range(1000)]
    mail = message(MAIL, *(r.recipient.address for r in recipients))
    records.record(mail, outcome(*map(passed, recipients)))
    records.record(named("again0000000"), outcome(*map(passed, recipients)))
    assert len(records.values("rid", "msgrcpt")) == 2000
    assert len(records.values("id", "maddr")) == 1001


# --- tables of others


def test_tables_of_an_old_amavis_are_served_too(tmp_path: Path) -> None:
    records = Records(f"sqlite:///{tmp_path}/records.db")
    with records.database.transaction() as session:
        session.connection.execute(text("DROP TABLE msgrcpt"))
        session.connection.execute(
            text("CREATE TABLE msgrcpt (partition_tag INTEGER, mail_id BLOB, rseqnum INTEGER, rid INTEGER, is_local"
                 " CHAR(1), content CHAR(1), ds CHAR(1), rs CHAR(1), bl CHAR(1), wl CHAR(1), bspam_level REAL,"
                 " smtp_resp VARCHAR(255), extra INTEGER DEFAULT 5)")
        )  # fmt: skip
    records.record()
    assert records.rows("SELECT ds, extra FROM msgrcpt") == [("P", 5)]


# --- failures


def test_a_mail_that_cannot_be_recorded_is_told_and_nothing_else(
    records: Records, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records.record()
    with caplog.at_level(logging.ERROR):
        records.record()  # the same mail_id again
    assert "SQL log: Jnk7NzYB8pvl is not recorded: UNIQUE constraint failed" in caplog.text
    records.record(named("another00000"))
    assert len(records.values("mail_id")) == 2


def test_missing_tables_are_named_with_the_command_that_makes_them(tmp_path: Path) -> None:
    database = Database((f"sqlite:///{tmp_path}/empty.db",))
    with pytest.raises(DatabaseFailure, match="tables are missing; `amavispy db init`"), database.transaction():
        pass


def test_the_next_database_is_used_when_the_first_fails(tmp_path: Path) -> None:
    working = Records(f"sqlite:///{tmp_path}/records.db")
    database = Database((f"sqlite:///{tmp_path}/missing/x.db", f"sqlite:///{tmp_path}/records.db"))
    SqlLog(database, str).record(facts())
    assert len(working.values("mail_id")) == 1


# --- migrations and purging


def test_migrating_twice_changes_nothing(tmp_path: Path) -> None:
    database = Database((f"sqlite:///{tmp_path}/records.db",))
    assert storage.revision_of(database) == ""
    assert storage.migrate(database) == ["amavis_schema"]
    assert storage.migrate(database) == []
    assert storage.revision_of(database) == "amavis_schema"


def test_purging_by_time_takes_everything_that_belongs_to_a_mail(records: Records) -> None:
    old, new = named("old000000000", MAIL, "old@x"), named("new000000000")
    records.record(replace(old, received_at=old.received_at.replace(year=2020)), outcome(passed(fate("old@x"))))
    records.record(new)
    with records.database.transaction() as session:
        session.connection.execute(text("INSERT INTO quarantine VALUES (0, 'old000000000', 1, 'x')"))
        session.connection.execute(text("UPDATE quarantine SET mail_id = CAST(mail_id AS BLOB)"))
    cutoff = int(new.received_at.timestamp())
    assert {p.table: p.rows for p in storage.purge(records.database, before=cutoff)} == {
        "msgs": 1, "msgrcpt": 1, "quarantine": 1, "maddr": 1,
    }  # fmt: skip
    assert records.values("mail_id") == records.values("mail_id", "msgrcpt") == [b"new000000000"]
    assert records.values("email", "maddr") == [b"a@example.org", b"b@example.net"]


def test_purging_by_partition_leaves_the_others(records: Records) -> None:
    records.record(named("a00000000000"), partition_tag="12")
    records.record(named("b00000000000"), partition_tag="13")
    purged = {p.table: p.rows for p in storage.purge(records.database, tags=[12])}
    assert purged == {"msgs": 1, "msgrcpt": 1, "quarantine": 0, "maddr": 2}
    assert records.values("mail_id") == [b"b00000000000"]


def test_purging_in_batches_takes_all(records: Records, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_BATCH", 3)
    for n in range(7):
        records.record(named(f"mail0000000{n}"))
    assert list(storage.purge(records.database, before=2**31 - 1))[0].rows == 7
    assert records.values("id", "maddr") == []

"""What people do with kept mail: release, delete, expire, and making the index again from what is there."""

from __future__ import annotations

import gzip
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from amavispy.delivery.quarantine_index import KeptFor, Query
from amavispy.delivery.quarantined import NotReleasable
from amavispy.delivery.release import Errand
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.reply import Reply
from tests.making import MAIL, bank, message
from tests.quarantine.keeping import CLEAN, SPAM, Keeping
from tests.quarantine.test_kinds import METHODS

SETTINGS = bank().settings
ALL = Query()


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    return Keeping(tmp_path, f"sqlite:///{tmp_path}/records.db")


def released(keeping: Keeping, kind: str = "release", mail_id: str = "Jnk7NzYB8pvl", **more: object) -> list[str]:
    answers = keeping.desk.send(Errand(kind, mail_id, **more), SETTINGS)  # type: ignore[arg-type]
    return [f"{recipient} {reply}" for recipient, reply in answers]


# --- release


@pytest.mark.parametrize("method", METHODS)
def test_mail_of_every_kind_can_be_released(keeping: Keeping, method: str) -> None:
    keeping.keep(method)
    assert released(keeping) == ["b@example.net 250 2.0.0 Ok"]
    (submission,) = keeping.transport.sent
    assert b"".join(submission.chunks).endswith(MAIL)
    assert keeping.only().recipients[0].released_at


def test_others_may_get_it_and_only_they_are_marked(keeping: Keeping) -> None:
    keeping.keep("sql:", recipients=("b@example.net", "c@example.net"))
    assert released(keeping, recipients=("C@example.net",), requested_by="me@x") == ["C@example.net 250 2.0.0 Ok"]
    assert [r.released_at is not None for r in keeping.only().recipients] == [False, True]


def test_what_nobody_took_is_not_released(keeping: Keeping) -> None:
    keeping.keep("local:%m")
    keeping.transport.reply = Reply(451, "4.3.0", "later")
    assert released(keeping) == ["b@example.net 451 4.3.0 later"]
    assert keeping.only().recipients == (KeptFor("b@example.net", True),)


def test_a_report_is_no_release(keeping: Keeping) -> None:
    keeping.keep("local:%m")
    assert released(keeping, "report", recipients=("abuse@x",)) == ["abuse@x 250 2.0.0 Ok"]
    assert b"multipart/report; report-type=feedback-report" in b"".join(keeping.transport.sent[0].chunks)
    assert keeping.only().recipients[0].released_at is None


@pytest.mark.parametrize(("form", "content_type"), [("attach", "multipart/mixed"), ("arf", "multipart/report")])
def test_a_release_may_be_wrapped(keeping: Keeping, form: str, content_type: str) -> None:
    keeping.keep("sql:")
    keeping.desk.send(Errand("release", "Jnk7NzYB8pvl"), bank(release_format=form).settings)
    octets = b"".join(keeping.transport.sent[0].chunks)
    assert f"Content-Type: {content_type}".encode() in octets
    assert b"Content-Type: message/rfc822\r\nContent-Disposition: attachment\r\n\r\n" in octets
    assert MAIL in octets


def test_what_lies_in_a_mailbox_cannot_be_released_and_it_is_said(keeping: Keeping) -> None:
    keeping.keep("smtp:[192.0.2.9]:25", to="abuse@example.net")
    with pytest.raises(NotReleasable, match=r"kept in a mailbox \(abuse@example.net\), which cannot be read from here"):
        released(keeping)


# --- delete


@pytest.mark.parametrize("method", METHODS)
def test_a_deleted_mail_is_gone_but_for_mailboxes(keeping: Keeping, method: str) -> None:
    (copy,) = keeping.keep(method)
    deleted = keeping.desk.delete(keeping.only())
    assert deleted.left == ((copy,) if method.startswith("mbox") else ())
    assert keeping.ids() == []
    if not method.startswith("mbox"):
        assert keeping.vault.copy("Jnk7NzYB8pvl", copy) is None


def test_a_file_that_is_gone_already_is_fine(keeping: Keeping) -> None:
    keeping.keep("local:%m")
    shutil.rmtree(keeping.directory / "J")
    assert keeping.desk.delete(keeping.only()).left == ()
    assert keeping.ids() == []


def test_a_file_of_another_mail_is_never_deleted(keeping: Keeping) -> None:
    (copy,) = keeping.keep("local:%m", mail_id="aaaaaaaaaaaa")
    mail = keeping.only()
    keeping.keep("local:other", mail_id="bbbbbbbbbbbb")
    os.rename(keeping.directory / "b/other", keeping.directory / copy.location)
    with pytest.raises(NotReleasable, match="Stored quarantine ID 'bbbbbbbbbbbb' does not match"):
        keeping.desk.delete(mail)
    assert (keeping.directory / copy.location).exists()


def test_a_link_is_not_followed(keeping: Keeping, tmp_path: Path) -> None:
    (copy,) = keeping.keep("local:%m")
    os.rename(keeping.directory / copy.location, tmp_path / "elsewhere")
    (keeping.directory / copy.location).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        keeping.desk.delete(keeping.only())
    assert (tmp_path / "elsewhere").exists()


# --- expiry


@pytest.fixture
def filled(keeping: Keeping) -> Keeping:
    for n in range(4):
        keeping.keep("local:%m", mail_id=f"virus000000{n}")
        keeping.keep("local:%m", mail_id=f"spam0000000{n}", category=SPAM, mail=message(MAIL + b"x" * 100 * n))
    keeping.keep("local:%m", mail_id="clean0000000", category=CLEAN)
    return keeping


def expired(keeping: Keeping, lifetimes: dict[str, float], limits: dict[str, int], days: float = 0.0) -> Sequence[str]:
    now = message().received_at.timestamp() + days * 86_400
    return sorted(mail.mail_id for mail in keeping.desk.expired(lifetimes, limits, now))


def test_mail_expires_by_its_age_and_category(filled: Keeping) -> None:
    lifetimes = {"virus": 2 * 86_400.0, "clean": 86_400.0}
    assert expired(filled, lifetimes, {}, 0.9) == []
    assert expired(filled, lifetimes, {}, 1.0) == ["clean0000000"]
    assert expired(filled, lifetimes, {}, 2.5) == ["clean0000000", *(f"virus000000{n}" for n in range(4))]


def test_what_is_beyond_the_size_of_a_category_expires_oldest_first(filled: Keeping) -> None:
    sizes = [len(MAIL) + 100 * n for n in range(4)]
    newest_first = [f"spam0000000{n}" for n in reversed(range(4))]  # of equal times the higher mail_id counts as newer
    for kept in range(5):
        room = sum(reversed(sizes[4 - kept :]))
        assert expired(filled, {}, {"spam": room}) == sorted(newest_first[kept:])


# --- making the index again


def test_an_index_is_made_again_from_the_copies(keeping: Keeping, tmp_path: Path) -> None:
    for number, method in enumerate(METHODS):
        keeping.keep(method, mail_id=f"virus000000{number}")
    before = {
        mail.mail_id: (mail.sender, mail.subject, mail.recipients, mail.copies) for mail in keeping.index.find(ALL)
    }
    fresh = Keeping(tmp_path, f"sqlite:///{tmp_path}/records.db", index=f"{tmp_path}/fresh.db")
    copies = fresh.desk.copies()
    assert list(fresh.desk.reindex(copies)) == list(range(1, len(METHODS) + 1))
    assert {m.mail_id: (m.sender, m.subject, m.recipients, m.copies) for m in fresh.index.find(ALL)} == before
    assert {mail.category for mail in fresh.index.find(ALL)} == {"virus"}


def test_a_copy_in_an_archive_beside_one_in_quarantine_is_the_same_mail(keeping: Keeping, tmp_path: Path) -> None:
    keeping.keep("local:spam-%m.gz", category=SPAM)
    keeping.keep("mbox:archive.mbox", is_archive=True)
    fresh = Keeping(tmp_path, index=f"{tmp_path}/fresh.db")
    list(fresh.desk.reindex(fresh.desk.copies()))
    assert fresh.only().category == "spam"
    assert fresh.only().copies == (KeptCopy("Z", "J/spam-Jnk7NzYB8pvl.gz"), KeptCopy("F", "archive.mbox", True))


def test_files_that_amavisd_wrote_are_taken_in(keeping: Keeping) -> None:
    text = (
        "Return-Path: <s@example.org>\nDelivered-To: spam-quarantine\nX-Envelope-From: <s@example.org>\n"
        "X-Envelope-To: <r@example.net>\nX-Envelope-To-Blocked: <r@example.net>\nX-Quarantine-ID: <kpMdsWJyj6tY>\n"
        "X-Spam-Flag: YES\nX-Spam-Score: 999\nX-Spam-Status: Yes, score=1000.5 tag=2 tag2=6.31 kill=6.31\n"
        "\ttests=[GTUBE=1000] autolearn=no\nReceived: from x\nSubject: =?utf-8?q?buy?=\n\nnow\n"
    )
    place = keeping.directory / "k"
    place.mkdir()
    (place / "spam-kpMdsWJyj6tY.gz").write_bytes(gzip.compress(text.encode()))
    (place / "notes.txt").write_text("no mail at all\n")
    list(keeping.desk.reindex(keeping.desk.copies()))
    mail = keeping.only()
    assert (mail.category, mail.score, mail.subject, mail.sender) == ("spam", 1000.5, "buy", "s@example.org")
    assert released(keeping, mail_id="kpMdsWJyj6tY") == ["r@example.net 250 2.0.0 Ok"]


def test_a_new_index_knows_no_more_what_is_gone_and_remembers_what_was_released(keeping: Keeping) -> None:
    keeping.keep("local:%m", mail_id="aaaaaaaaaaaa")
    keeping.keep("local:%m", mail_id="bbbbbbbbbbbb")
    keeping.keep("smtp:[192.0.2.9]:25", mail_id="cccccccccccc", to="abuse@example.net")
    released(keeping, mail_id="aaaaaaaaaaaa")
    before = keeping.index.get("aaaaaaaaaaaa")
    shutil.rmtree(keeping.directory / "b")
    list(keeping.desk.reindex(keeping.desk.copies()))
    assert sorted(keeping.ids()) == ["aaaaaaaaaaaa", "cccccccccccc"]
    assert keeping.index.get("aaaaaaaaaaaa") == before


def test_two_nodes_share_an_index_and_a_database_but_not_their_files(tmp_path: Path) -> None:
    one_place, other_place = tmp_path / "one", tmp_path / "other"
    one_place.mkdir()
    other_place.mkdir()
    dsn, index = f"sqlite:///{tmp_path}/records.db", f"{tmp_path}/index.db"
    one = Keeping(one_place, dsn, index, "one.example.net")
    other = Keeping(other_place, dsn, index, "other.example.net")
    one.keep("sql:", mail_id="aaaaaaaaaaaa")
    one.keep("local:%m", mail_id="bbbbbbbbbbbb")
    assert sorted(other.ids()) == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    assert released(other, mail_id="aaaaaaaaaaaa") == ["b@example.net 250 2.0.0 Ok"]
    list(other.desk.reindex(other.desk.copies()))
    assert sorted(one.ids()) == ["aaaaaaaaaaaa", "bbbbbbbbbbbb"]
    known = one.index.get("aaaaaaaaaaaa")
    assert known
    assert known.recipients[0].released_at

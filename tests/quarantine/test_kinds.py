"""Copies of every kind: what they look like, that the mail comes out of them again, and how they are taken back."""

from __future__ import annotations

import gzip
import mailbox
import os
from pathlib import Path

import pytest

from amavispy.delivery import quarantine_files as module
from amavispy.delivery.quarantine_text import Original
from amavispy.delivery.quarantined import NotReleasable
from amavispy.mail.disposition import Disposition
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.reply import Reply, TemporaryFailure
from tests.making import MAIL, bank, message
from tests.quarantine.keeping import Keeping, to_keep

ODD = b"Subject: odd\r\n\r\n.\r\n..\r\nFrom here\r\n>From there\r\n.From\r\nno end"
LONG = b"Subject: long\r\n\r\n" + b"From " * 5000 + b"\r\n" + b"x" * 3000 + b"\r\nFrom x\r\n"
HEADER_ONLY = b"Subject: nothing else\r\n"
DOTS = b".Dot: 1\r\n\r\n.\r\n"
MAILS = {"usual": MAIL, "odd": ODD, "long": LONG, "header only": HEADER_ONLY, "dots": DOTS, "empty": b""}
METHODS = {
    "local:virus-%m": ("F", "J/virus-Jnk7NzYB8pvl"),
    "local:virus-%m.gz": ("Z", "J/virus-Jnk7NzYB8pvl.gz"),
    "maildir:mail/%P": ("F", None),
    "mbox:boxes/kept.mbox": ("F", "boxes/kept.mbox"),
    "bsmtp:batch/%m.bsmtp": ("B", "batch/Jnk7NzYB8pvl.bsmtp"),
    "sql:": ("Q", "Jnk7NzYB8pvl"),
}


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    return Keeping(tmp_path, f"sqlite:///{tmp_path}/records.db")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("octets", MAILS.values(), ids=MAILS)
def test_what_was_kept_comes_out_as_it_went_in(keeping: Keeping, method: str, octets: bytes) -> None:
    (copy,) = keeping.keep(method, mail=message(octets, "b@example.net", "c@example.net"))
    assert copy.kind == METHODS[method][0]
    assert METHODS[method][1] in (None, copy.location)
    kept = keeping.vault.copy("Jnk7NzYB8pvl", copy)
    assert kept
    ending = b"\r\n" if method.startswith(("mbox", "bsmtp")) and octets and not octets.endswith(b"\r\n") else b""
    assert bytes(kept.original) == octets + ending
    assert (kept.sender, kept.blocked) == ("a@example.org", ("b@example.net",))


@pytest.mark.parametrize("method", METHODS)
def test_a_mail_is_found_by_its_id_alone(keeping: Keeping, method: str) -> None:
    keeping.keep(method)
    assert bytes(keeping.vault.find("Jnk7NzYB8pvl").original) == MAIL
    with pytest.raises(NotReleasable, match="no quarantined message AAAAAAAAAAAA"):
        keeping.vault.find("AAAAAAAAAAAA")


def test_a_large_mail_comes_out_of_every_kind(keeping: Keeping) -> None:
    octets = b"Subject: large\r\n\r\n" + b"".join(b"From %d\r\n.%d\r\n" % (n, n) for n in range(120_000))
    for copy in keeping.keep(*METHODS, mail=message(octets)):
        kept = keeping.vault.copy("Jnk7NzYB8pvl", copy)
        assert kept, copy
        assert bytes(kept.original) == octets, copy


def test_programs_read_our_mbox_and_maildir(keeping: Keeping) -> None:
    for mail_id in ("aaaaaaaaaaaa", "bbbbbbbbbbbb"):
        keeping.keep("mbox:box", "maildir:dir", mail=message(ODD), mail_id=mail_id)
    box, directory = mailbox.mbox(keeping.directory / "box"), mailbox.Maildir(keeping.directory / "dir", create=False)
    assert [mail["X-Quarantine-ID"] for mail in box] == ["<aaaaaaaaaaaa>", "<bbbbbbbbbbbb>"]
    assert sorted(mail["X-Quarantine-ID"] for mail in directory) == ["<aaaaaaaaaaaa>", "<bbbbbbbbbbbb>"]
    assert [mail.get_subdir() for mail in directory] == ["new", "new"]
    assert b"\n>From here\n>>From there\n.From\nno end\n\n" in (keeping.directory / "box").read_bytes()
    assert (keeping.directory / "box").read_text().startswith("From a@example.org Sun Nov 22 10:07:33 2026\n")


def test_what_a_crash_left_in_an_mbox_swallows_no_mail(keeping: Keeping) -> None:
    box = keeping.directory / "box"
    box.write_bytes(b"From a@x Sun Nov 22 10:07:33 2026\nSubject: half\n\nhal")
    (copy,) = keeping.keep("mbox:box")
    kept = keeping.vault.copy("Jnk7NzYB8pvl", copy)
    assert kept
    assert bytes(kept.original) == MAIL
    assert len(mailbox.mbox(box)) == 2


def test_a_full_disk_cuts_the_mbox_back(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    keeping.keep("mbox:box", mail_id="aaaaaaaaaaaa")
    before = (keeping.directory / "box").read_bytes()
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(TemporaryFailure, match="insufficient storage"):
        keeping.keep("mbox:box")
    assert (keeping.directory / "box").read_bytes() == before


def test_bsmtp_is_what_a_client_would_say(keeping: Keeping) -> None:
    mail = message(b".x: 1\r\n\r\n.\r\n", sender="", body="8BITMIME")
    disposition = to_keep("bsmtp:%s-%m", to="b@example.net")
    (copy,) = keeping.quarantine.keep(mail, disposition, bank())
    assert copy.location == "-Jnk7NzYB8pvl"
    lines = (keeping.directory / copy.location).read_text().split("\n")
    assert lines[:5] == [
        "EHLO localhost", "MAIL FROM:<> BODY=8BITMIME", "RCPT TO:<b@example.net>", "DATA", "Return-Path: <>",
    ]  # fmt: skip
    assert lines[-6:] == ["..x: 1", "", "..", ".", "QUIT", ""]


def test_a_sender_in_a_name_is_harmless() -> None:
    mail = message(sender="../../etc/passwd\n<x>@example.org" + "y" * 200)
    name = Original(mail, to_keep("x")).name("%s-%m")
    assert name == "_.._etc_passwd__x_@example.org".ljust(100, "y")[: len(name) - 13] + "-Jnk7NzYB8pvl"
    assert "/" not in Original(mail, to_keep("x")).path("%s")


def test_a_partition_is_in_names_and_in_sql(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, f"sqlite:///{tmp_path}/records.db")
    weekly = bank(partition_tag="%V")
    copies = keeping.quarantine.keep(message(), to_keep("local:W%P-%m", "sql:"), weekly)
    assert [copy.location for copy in copies] == ["J/W47-Jnk7NzYB8pvl", "Jnk7NzYB8pvl[47]"]
    assert keeping.only().tag == 47
    assert bytes(keeping.vault.find("Jnk7NzYB8pvl", quar_type="Q", tag=47).original) == MAIL
    with pytest.raises(NotReleasable):
        keeping.vault.find("Jnk7NzYB8pvl", quar_type="Q", tag=46)


# --- several kinds, and failures


def test_when_mail_is_refused_all_that_can_be_is_taken_back(keeping: Keeping) -> None:
    keeping.transport.reply = Reply(452, "4.2.2", "Mailbox full")
    by_mail = to_keep("smtp:[192.0.2.9]:25", to="abuse@example.net").recipients
    wanted = Disposition(by_mail + to_keep(*METHODS).recipients)
    with pytest.raises(TemporaryFailure, match="quarantine FAILED: 452 4.2.2 Mailbox full"):
        keeping.quarantine.keep(message(), wanted, bank())
    left = [path.name for path in keeping.directory.rglob("*") if path.is_file()]
    assert left == ["kept.mbox"]
    assert keeping.store
    assert keeping.store.keys() == []
    assert keeping.ids() == []


def test_a_second_mail_of_this_id_is_refused_by_sql(keeping: Keeping) -> None:
    keeping.keep("sql:")
    with pytest.raises(TemporaryFailure, match="451 4.5.0 .*quarantine FAILED: database: UNIQUE constraint failed"):
        keeping.keep("sql:", mail=message(b"\r\nanother\r\n"))
    assert bytes(keeping.vault.find("Jnk7NzYB8pvl").original) == MAIL


def test_a_database_without_tables_leaves_the_mail_with_the_client(tmp_path: Path) -> None:
    keeping = Keeping(tmp_path, f"sqlite:///{tmp_path}/records.db")
    os.unlink(tmp_path / "records.db")
    with pytest.raises(TemporaryFailure, match="amavis' tables are missing; `amavispy db init` makes them"):
        keeping.keep("sql:")


def test_an_alarm_passes_and_leaves_nothing_behind(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    def late(*_: object) -> None:
        raise TimeoutError("task exceeded allowed time")

    monkeypatch.setattr(module, "_sync_directory", late)
    with pytest.raises(TimeoutError):
        keeping.keep("local:%m", "bsmtp:%m")
    assert keeping.ids() == []


def test_everybody_gets_an_archive_by_one_mail_with_its_envelope(keeping: Keeping) -> None:
    recipients = ("b@example.net", "c@example.net")
    fates = [
        to_keep("smtp:[192.0.2.9]:25", recipients=(recipient,), to=recipient, is_archive=True).recipients[0]
        for recipient in recipients
    ]
    anonymous = bank(mailfrom_to_quarantine="<>")
    copies = keeping.quarantine.keep(message(MAIL, *recipients), Disposition(tuple(fates)), anonymous)
    assert copies == tuple(KeptCopy("M", recipient, True) for recipient in recipients)
    (submission,) = keeping.transport.sent
    assert submission.sender == ""
    assert [recipient.address for recipient in submission.recipients] == list(recipients)
    assert keeping.only().category == "archive"


def test_a_compressed_copy_is_a_gzip_file(keeping: Keeping) -> None:
    (copy,) = keeping.keep("bsmtp:%m.gz")
    assert gzip.decompress((keeping.directory / copy.location).read_bytes()).endswith(b"hello\n.\nQUIT\n")

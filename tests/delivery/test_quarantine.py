"""Quarantined copies: what is in them, where they are, and that they are whole or not there."""

from __future__ import annotations

import errno
import gzip
import os
import stat
from pathlib import Path

import pytest

from amavispy.delivery.quarantine import Quarantine
from amavispy.delivery.quarantine_text import Original
from amavispy.delivery.transports import Handover, Submission
from amavispy.mail.disposition import Destiny, Disposition, QuarantineTarget
from amavispy.mail.envelope import Recipient
from amavispy.mail.message import Message
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.mail.verdict import Category, ContentsCategory
from tests.making import MAIL, bank, fate, message

VIRUS = ContentsCategory(Category.VIRUS)
MAIL_ID = "Jnk7NzYB8pvl"


class FakeTransport:
    """Remembers what it was given and answers alike."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.sent: list[tuple[tuple[NextHop, ...], Submission]] = []

    def send(self, next_hops, submission, settings, deadline, log_id):  # type: ignore[no-untyped-def]
        self.sent.append((next_hops, submission))
        return tuple(Handover(self.reply) for _ in submission.recipients)


def wanted(*targets: tuple[str, str], to: str = "b@example.net", destiny: Destiny = Destiny.DISCARD) -> Disposition:
    kept = tuple(QuarantineTarget(*target) for target in targets)
    reply = None if destiny is Destiny.PASS else Reply(250, "2.7.0", "Ok, discarded")
    return Disposition(
        (fate(to, VIRUS, destiny=destiny, reply=reply, quarantine=kept),),
        (("X-Amavis-Alert", "INFECTED, message contains virus: Eicar-Signature"), ("X-Spam-Level", "")),
    )


def kept(place: Path, disposition: Disposition, mail: Message | None = None, **options: object) -> tuple[str, ...]:
    copies = Quarantine(str(place), **options).keep(mail or message(), disposition, bank())  # type: ignore[arg-type]
    return tuple(copy.location for copy in copies)


def test_nothing_is_kept_of_what_nobody_wants_kept(tmp_path: Path) -> None:
    assert kept(tmp_path / "does not even exist", Disposition((fate(),))) == ()


def test_a_copy_reads_as_amavis_writes_it(tmp_path: Path) -> None:
    (location,) = kept(tmp_path, wanted(("local:virus-%m", "virus-quarantine")))
    assert location == f"J/virus-{MAIL_ID}"
    assert (tmp_path / location).read_bytes() == (
        b"Return-Path: <a@example.org>\n"
        b"Delivered-To: virus-quarantine\n"
        b"X-Envelope-From: <a@example.org>\n"
        b"X-Envelope-To: <b@example.net>\n"
        b"X-Envelope-To-Blocked: <b@example.net>\n"
        b"X-Quarantine-ID: <Jnk7NzYB8pvl>\n"
        b"X-Amavis-Alert: INFECTED, message contains virus: Eicar-Signature\n"
        b"X-Spam-Level:\n" + MAIL.replace(b"\r\n", b"\n")
    )


def test_only_blocked_recipients_are_listed_as_blocked(tmp_path: Path) -> None:
    (location,) = kept(tmp_path, wanted(("local:badh-%m", "x"), destiny=Destiny.PASS))
    assert b"\nX-Envelope-To-Blocked:\n" in (tmp_path / location).read_bytes()


def test_the_file_is_ours_and_our_groups_and_nothing_else_is_left_behind(tmp_path: Path) -> None:
    (location,) = kept(tmp_path, wanted(("local:virus-%m", "virus-quarantine")))
    assert stat.S_IMODE((tmp_path / location).stat().st_mode) == 0o640
    assert os.listdir(tmp_path / "J") == [f"virus-{MAIL_ID}"]


def test_without_subdirectories_it_lies_in_quarantinedir(tmp_path: Path) -> None:
    assert kept(tmp_path, wanted(("local:virus-%m", "virus-quarantine")), subdir_levels=0) == (f"virus-{MAIL_ID}",)


def test_gz_compresses(tmp_path: Path) -> None:
    (location,) = kept(tmp_path, wanted(("local:spam-%m.gz", "spam-quarantine")))
    assert location.endswith(".gz")
    assert gzip.decompress((tmp_path / location).read_bytes()).endswith(MAIL.replace(b"\r\n", b"\n"))


def test_a_crlf_at_the_edge_of_two_pieces_is_one_line_end() -> None:
    original = Original(message(), wanted(("local:x-%m", "x")))
    for size in range(1, 9):
        assert b"".join(original.pieces(size=size)).endswith(b"X-Spam-Level:\n" + MAIL.replace(b"\r\n", b"\n"))


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("local:v-%m-%n-%i-%%-%P.x%z", f"v-{MAIL_ID}-07655-01-20261122T100733-%-.x%z"),
        ("local:../../etc/%m", f"_.._etc_{MAIL_ID}"),
        ("local:", MAIL_ID),
    ],
)
def test_the_template_names_the_file_and_never_a_path(tmp_path: Path, template: str, name: str) -> None:
    (location,) = kept(tmp_path, wanted((template, "virus-quarantine")), subdir_levels=0)
    assert location.startswith(name)
    assert "/" not in location


def test_the_body_digest_is_the_same_for_the_same_body(tmp_path: Path) -> None:
    (one,) = kept(tmp_path, wanted(("local:%b", "x")), message(b"A: 1\r\n\r\nbody\r\n"), subdir_levels=0)
    (other,) = kept(tmp_path, wanted(("local:%b", "x")), message(b"B: 2\r\n\r\nbody\r\n"), subdir_levels=0)
    assert (len(one), other) == (32, f"{one}-1")


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    one = kept(tmp_path, wanted(("local:virus-%m.gz", "x")))
    before = (tmp_path / one[0]).read_bytes()
    other = kept(tmp_path, wanted(("local:virus-%m.gz", "x")), message(b"\r\nanother\r\n"))
    assert other == (f"J/virus-{MAIL_ID}-1.gz",)
    assert (tmp_path / one[0]).read_bytes() == before


def test_several_recipients_share_a_copy_and_several_methods_make_several(tmp_path: Path) -> None:
    one = wanted(("local:virus-%m", "virus-quarantine"))
    other = wanted(("local:virus-%m", "virus-quarantine"), to="c@example.net")
    third = wanted(("local:spam-%m", "spam-quarantine"), to="d@example.net", destiny=Destiny.PASS)
    joined = Disposition(one.recipients + other.recipients + third.recipients)
    locations = kept(tmp_path, joined)
    assert locations == (f"J/virus-{MAIL_ID}", f"J/spam-{MAIL_ID}")
    text = (tmp_path / locations[0]).read_text()
    assert "X-Envelope-To: <b@example.net>,\n <c@example.net>,\n <d@example.net>\n" in text
    assert "X-Envelope-To-Blocked: <b@example.net>, <c@example.net>\n" in text
    assert text.count("Delivered-To: virus-quarantine\n") == 1


def test_an_address_with_control_characters_makes_no_field(tmp_path: Path) -> None:
    mail = message(MAIL, sender="a\nX-Evil: 1@example.org")
    (location,) = kept(tmp_path, wanted(("local:x", "x")), mail)
    assert b"Return-Path: <a\\x0AX-Evil: 1@example.org>\n" in (tmp_path / location).read_bytes()


# --- failures


def test_a_directory_that_is_not_there_leaves_the_mail_with_the_client(tmp_path: Path) -> None:
    with pytest.raises(TemporaryFailure) as caught:
        kept(tmp_path / "missing", wanted(("local:virus-%m", "x")))
    assert str(caught.value.reply) == (
        "451 4.5.0 Error in processing, id=07655-01, quarantine FAILED: No such file or directory"
    )


def test_a_full_disk_says_so_and_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TemporaryFailure) as caught:
        kept(tmp_path, wanted(("local:virus-%m", "x")), subdir_levels=0)
    assert (caught.value.reply.code, caught.value.reply.enhanced) == (452, "4.3.1")
    assert os.listdir(tmp_path) == []


def test_when_a_second_copy_fails_the_first_is_taken_back(tmp_path: Path) -> None:
    with pytest.raises(TemporaryFailure, match="no transport"):
        kept(tmp_path, wanted(("local:virus-%m", "x"), ("smtp:[192.0.2.9]:25", "abuse@example.net")), subdir_levels=0)
    assert os.listdir(tmp_path) == []


def test_a_file_system_without_hard_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    one = kept(tmp_path, wanted(("local:v-%m", "x")))
    other = kept(tmp_path, wanted(("local:v-%m", "x")))
    assert (one, other) == ((f"J/v-{MAIL_ID}",), (f"J/v-{MAIL_ID}-1",))
    assert (tmp_path / one[0]).read_bytes().endswith(b"hello\n")


# --- by mail


def test_an_address_gets_the_copy_by_mail(tmp_path: Path) -> None:
    transport = FakeTransport(Reply(250, "2.0.0", "Ok"))
    wanted_by_mail = wanted(("local:virus-%m", "abuse@example.net"), ("smtp:[192.0.2.9]:2525", "other@example.net"))
    assert kept(tmp_path, wanted_by_mail, transport=transport) == ("abuse@example.net", "other@example.net")
    (hops, submission), (other_hops, _) = transport.sent
    assert submission.sender == "a@example.org"
    assert submission.recipients == (Recipient("abuse@example.net", frozenset(("NEVER",))),)
    assert b"".join(submission.chunks).startswith(
        b"Return-Path: <a@example.org>\r\nX-Envelope-From: <a@example.org>\r\n"
    )
    assert b"".join(submission.chunks).endswith(MAIL)
    assert [str(hop) for hop in (*hops, *other_hops)] == ["smtp:[127.0.0.1]:10025", "smtp:[192.0.2.9]:2525"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("method", ["smtp:[192.0.2.9]:25", "sql:", "pipe:x"])
def test_a_copy_that_nobody_takes_leaves_the_mail_with_the_client(tmp_path: Path, method: str) -> None:
    with pytest.raises(TemporaryFailure, match="quarantine FAILED"):
        kept(tmp_path, wanted((method, "a@example.net")), transport=FakeTransport(Reply(554, "5.7.1", "no")))

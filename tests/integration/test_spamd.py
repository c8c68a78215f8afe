"""What the real spamd says of a mail through us."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.workload import SpamTask
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import SpamScan
from amavispy.policy.settings import ScannerSpec
from tests.integration.daemons import GTUBE, Spamd

HEADER = (
    b"Received: from mx.example.org (mx.example.org [192.0.2.1]) by mx.example.net with ESMTP id 1\r\n"
    b"\tfor <b@example.net>; Mon, 1 Jan 2024 00:00:00 +0000\r\nFrom: <a@example.org>\r\nTo: <b@example.net>\r\n"
    b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@example.org>\r\nSubject: Minutes of the meeting\r\n\r\n"
)
ENVELOPE = Envelope("a@example.org", (Recipient("b@example.net"), Recipient("c@example.net")))


@pytest.fixture(scope="module")
def spamd() -> Iterator[Spamd]:
    daemon = Spamd()
    yield daemon
    daemon.close()


def scan(address: str, octets: bytes, seconds: float = 60.0) -> SpamScan:
    spec = ScannerSpec("SpamAssassin", "spamd", address)
    _, spam = Scanning([spec]).scan(Content(octets), (), ENVELOPE, (), (spec,), Deadline.after(seconds))
    return spam[0]


def test_an_ordinary_mail_has_a_low_score_and_its_tests_have_scores(spamd: Spamd) -> None:
    checked = scan(f"127.0.0.1:{spamd.port}", HEADER + b"Hello,\r\n\r\nhere are the minutes.\r\n")
    assert checked.error == ""
    assert checked.score is not None
    assert checked.score < 5
    assert "Content analysis details" in checked.report
    assert abs(sum(score for _, score in checked.tests) - checked.score) < 0.1 * (len(checked.tests) + 1)


def test_gtube_scores_a_thousand(spamd: Spamd) -> None:
    checked = scan(f"127.0.0.1:{spamd.port}", HEADER + GTUBE + b"\r\n")
    assert checked.score is not None
    assert checked.score >= 1000
    assert ("GTUBE", 1000.0) in checked.tests


def test_a_mail_without_a_final_line_end_does_not_hang(spamd: Spamd) -> None:
    checked = scan(f"127.0.0.1:{spamd.port}", HEADER + GTUBE)
    assert checked.score is not None
    assert checked.score >= 1000


def test_a_large_mail_is_checked_by_its_beginning(spamd: Spamd) -> None:
    filler = b"This line is as good as any other line of a long report.\r\n"
    mail = HEADER + GTUBE + b"\r\n" + filler * (SpamTask().body_limit // len(filler) * 2)
    checked = scan(f"127.0.0.1:{spamd.port}", mail)
    assert checked.error == ""
    assert "GTUBE" in dict(checked.tests)


def test_users_have_their_own_preferences_and_a_compressed_mail_is_the_same_mail(spamd: Spamd) -> None:
    spamd.prefers("ann", "score MISSING_SUBJECT 0", "blacklist_from *@example.org")
    spamd.prefers("bob", "whitelist_from *@example.org")
    spec = ScannerSpec("SpamAssassin", "spamd", f"127.0.0.1:{spamd.port}", compress=True)
    envelope = Envelope("a@example.org", tuple(Recipient(f"{name}@example.net") for name in "abcde"))
    task = SpamTask(("ann", "", "bob", None, "ann"))
    octets = HEADER + b"Hello,\r\n\r\nhere are the minutes.\r\n"
    found = Scanning([spec]).scan(Content(octets), (), envelope, (), (spec,), Deadline.after(60), spam_task=task)[1]
    assert [scan.recipients for scan in found] == [(0, 4), (1,), (2,)]
    assert [scan.error for scan in found] == ["", "", ""]
    ann, nobody, bob = [scan.score or 0.0 for scan in found]
    assert ann > 50 > nobody > -50 > bob


def test_no_spamd_is_an_error_and_no_score() -> None:
    checked = scan("127.0.0.1:1", HEADER)
    assert checked == SpamScan("SpamAssassin", error="can't connect to 127.0.0.1:1: Connection refused")

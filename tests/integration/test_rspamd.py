"""What the real rspamd says of a mail through us, and what becomes of the mail then."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.reply import TemporaryFailure
from amavispy.mail.verdict import Category, SpamScan, Verdict
from amavispy.policy.settings import ScannerSpec
from tests.integration.daemons import GTUBE, Rspamd
from tests.making import bank, decided, message

CLIENT = Client("192.0.2.1", 41831, "host.example.org", "helo.example.org", "ESMTP", "Q123", "REMOTE", "ann")


@pytest.fixture(scope="module")
def rspamd() -> Iterator[Rspamd]:
    with Rspamd() as daemon:
        yield daemon


@pytest.fixture(params=["tcp", "unix"])
def address(request: pytest.FixtureRequest, rspamd: Rspamd) -> str:
    return f"127.0.0.1:{rspamd.port}" if request.param == "tcp" else str(rspamd.socket)


def mail(subject: str, body: bytes = b"Hello,\r\n\r\nhere are the minutes.\r\n") -> bytes:
    return f"From: <a@example.org>\r\nX-Old: x\r\nSubject: {subject}\r\n\r\n".encode() + body


def scan(address: str, octets: bytes, *to: str, scanning: Scanning | None = None, client: Client = CLIENT) -> SpamScan:
    spec = ScannerSpec("rspamd", "rspamd", address)
    envelope = Envelope("a@example.org", tuple(Recipient(r) for r in to or ("b@example.net",)), client)
    (found,) = (scanning or Scanning([spec])).scan(Content(octets), (), envelope, (), (spec,), Deadline.after(60))[1]
    return found


def test_every_recipient_is_known_to_rspamd(address: str) -> None:
    found = scan(address, mail("Minutes"), *(f"user{number}@example.net" for number in range(500)))
    assert found.error == ""
    assert dict(found.tests)["RECIPIENTS"] == 500.0


def test_the_longest_lists_of_recipients_are_no_failure(address: str) -> None:
    found = scan(address, mail("Minutes"), *(f"{'u' * 64}{number}@{'d' * 63}.example.net" for number in range(1100)))
    assert found.error == ""
    assert dict(found.tests)["RECIPIENTS"] > 400


def test_the_client_and_its_login_are_known_to_rspamd(rspamd: Rspamd, address: str) -> None:
    scan(address, mail("Minutes"))
    assert "CLIENT(0.00){192.0.2.1 helo.example.org host.example.org ann a@example.org;}" in rspamd.log()
    assert "qid: <Q123>" in rspamd.log()


def test_an_unknown_client_is_no_failure(address: str) -> None:
    assert scan(address, mail("Minutes"), client=Client()).error == ""


def test_a_mail_of_any_size_is_looked_at_in_full(address: str) -> None:
    found = scan(address, mail("Minutes", b"a line of a long report\r\n" * 800_000))
    assert dict(found.tests)["LARGE"] == pytest.approx(20.0, abs=0.1)


def test_an_empty_mail_is_no_failure(address: str) -> None:
    assert scan(address, b"").error == ""


def test_one_scanner_serves_many_mails(address: str) -> None:
    scanning = Scanning([ScannerSpec("rspamd", "rspamd", address)])
    assert [scan(address, mail("Minutes"), scanning=scanning).error for _ in range(20)] == [""] * 20


def test_gtube_is_rejected(address: str) -> None:
    found = scan(address, mail("Minutes", GTUBE + b"\r\n"))
    assert found.advice
    assert (found.score, found.advice.action) == (15.0, "reject")
    fate = decided(Verdict(spam_scans=(found,)), in_bank=bank(final_spam_destiny=Destiny.REJECT)).recipients[0]
    assert fate.destiny is Destiny.REJECT
    assert str(fate.reply) == "554 5.7.0 Reject, id=07655-01 - spam"


def test_what_rspamd_would_reject_is_spam_whatever_our_levels_say(address: str) -> None:
    found = scan(address, mail("Minutes", GTUBE + b"\r\n"))
    quiet = Verdict(spam_scans=(SpamScan("rspamd", 0.1, advice=found.advice),))
    assert decided(quiet).recipients[0].main.major is Category.SPAM


def test_a_soft_reject_puts_the_mail_off(address: str) -> None:
    found = scan(address, mail("later"))
    with pytest.raises(TemporaryFailure) as raised:
        decided(Verdict(spam_scans=(found,)))
    assert str(raised.value.reply) == "451 4.7.1 Come back later, id=07655-01"


def test_header_edits_of_rspamd_reach_the_mail(address: str) -> None:
    octets = mail("edits")
    edits = decided(Verdict(spam_scans=(scan(address, octets),)), message(octets)).recipients[0].edits
    assert ("X-Rspamd-Said", "hello") in edits.prepend
    assert edits.remove == {"x-old"}


def test_no_rspamd_is_an_error_and_no_score() -> None:
    found = scan("127.0.0.1:1", mail("Minutes"))
    assert found == SpamScan("rspamd", error="can't connect to 127.0.0.1:1: Connection refused")


def test_a_daemon_that_is_no_rspamd_is_an_error(rspamd: Rspamd) -> None:
    spec = ScannerSpec("spamd", "spamd", f"127.0.0.1:{rspamd.port}")
    envelope = Envelope("a@example.org", (Recipient("b@example.net"),))
    (found,) = Scanning([spec]).scan(Content(mail("x")), (), envelope, (), (spec,), Deadline.after(20))[1]
    assert found.error

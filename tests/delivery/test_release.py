"""Releasing quarantined mail: who may, which file it is, what is sent to whom, and what the client hears."""

from __future__ import annotations

import gzip
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.delivery.quarantined import Vault
from amavispy.delivery.release import Release
from amavispy.delivery.transports import Handover, Submission
from amavispy.mail.envelope import Recipient
from amavispy.mail.ids import IdIssuer
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings
from amavispy.protocols.ampdp import Request, RequestReader, respond

ISSUER = IdIssuer(b"k" * 32)
MAIL_ID = "kpMdsWJyj6tY"
SECRET = ISSUER.secret_of(MAIL_ID)
ORIGINAL = b"Received: from x\nX-Spam-Later: stays\nSubject: h\xc3\xa9\n\nbody\n.\nend\n"
SETTINGS = Settings(
    myhostname="mail.example.com",
    localhost_name="localhost.example.com",
    release_method=(NextHop("smtp", "127.0.0.1", 10025),),
    requeue_method=(NextHop("smtp", "127.0.0.1", 25),),
)


def pseudo(
    mail_id: str = MAIL_ID,
    sender: str = "<a@example.org>",
    everybody: str = "<b@x>, <c@x>",
    blocked: str | None = "<c@x>",
) -> bytes:
    lines = [f"Return-Path: {sender}", "Delivered-To: spam-quarantine", f"X-Envelope-From: {sender}"]
    lines += [f"X-Envelope-To: {everybody}"] + ([] if blocked is None else [f"X-Envelope-To-Blocked: {blocked}"])
    lines += [f"X-Quarantine-ID: <{mail_id}>", "X-Amavis-Alert: BANNED,\n x.exe", "X-Spam-Flag: YES"]
    return "\n".join([*lines, ""]).encode()


class FakeTransport:
    """Remembers what it was given; answers with `reply`."""

    def __init__(self) -> None:
        self.sent: list[tuple[tuple[NextHop, ...], Submission, str]] = []
        self.replies: list[Reply] = []

    def send(
        self,
        next_hops: tuple[NextHop, ...],
        submission: Submission,
        settings: Settings,
        deadline: Deadline,
        log_id: str,
    ) -> tuple[Handover, ...]:
        self.sent.append((next_hops, submission, log_id))
        ok = Reply(250, "2.0.0", "from MTA(x): 250 Ok")
        return tuple(Handover(reply) for reply in self.replies or [ok] * len(submission.recipients))

    @property
    def submission(self) -> Submission:
        return self.sent[-1][1]

    @property
    def octets(self) -> bytes:
        return b"".join(bytes(chunk) for chunk in self.submission.chunks)


class Site:
    """A quarantine directory and what serves releases from it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.transport = FakeTransport()
        self.release = Release(self.transport, Vault(str(directory)), ISSUER.verifies)
        self.settings = SETTINGS

    def keep(self, name: str, octets: bytes) -> None:
        path = self.directory / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(gzip.compress(octets) if name.endswith(".gz") else octets)

    def handle(self, request: str = "release", **attributes: str | tuple[str, ...]) -> list[str]:
        given = {"mail_id": MAIL_ID, "secret_id": SECRET, **attributes, "request": request}
        values = {name: (value,) if isinstance(value, str) else value for name, value in given.items()}
        bank = PolicyBank(self.settings, (), {})
        return [str(r) for r in self.release.handle(Request(values), bank, Deadline.after(5))]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    made = Site(tmp_path / "quarantine")
    made.keep(f"k/virus-{MAIL_ID}", pseudo() + ORIGINAL)
    return made


OK = "250 2.0.0 from MTA(x): 250 Ok"

# --- what is sent


def test_the_original_goes_out_to_those_who_did_not_get_it(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert site.handle() == [OK]
    next_hops, submission, log_id = site.transport.sent[0]
    assert next_hops == SETTINGS.release_method
    assert submission.sender == "a@example.org"
    assert submission.recipients == (Recipient("c@x"),)
    assert submission.splits
    assert submission.body == "8BITMIME"
    assert re.fullmatch(r"rel-[\w-]{12}", log_id)
    assert site.transport.octets.endswith(b"\r\n" + ORIGINAL.replace(b"\n", b"\r\n"))
    assert b"X-Spam-Flag" not in site.transport.octets
    assert b"X-Quarantine-ID" not in site.transport.octets
    assert f"Quarantined message release (miscategorized): {MAIL_ID} <a@example.org> -> <c@x>" in caplog.messages


def test_the_release_leaves_its_trace(site: Site) -> None:
    site.handle()
    mail = message_from_bytes(site.transport.octets)
    assert list(mail)[:5] == ["Received", "Resent-From", "Resent-To", "Resent-Date", "Resent-Message-ID"]
    unique = rf"{MAIL_ID}-[\w-]{{12}}"
    assert re.match(rf"by localhost.example.com \(mail.example.com\) .*id {unique};", mail["Received"], re.S)
    assert mail["Resent-From"] == '"Content-filter at mail.example.com" <postmaster@mail.example.com>'
    assert mail["Resent-To"] == "<c@x>"
    assert re.fullmatch(rf"<{unique}@mail.example.com>", mail["Resent-Message-ID"])


def test_who_asked_is_named_and_recipients_and_sender_can_be_others(site: Site) -> None:
    assert site.handle(recipient=("<d@x>", "e@x"), sender="<>", requested_by="<admin@x>") == [OK, OK]
    assert site.transport.submission.sender == ""
    assert [r.address for r in site.transport.submission.recipients] == ["d@x", "e@x"]
    mail = message_from_bytes(site.transport.octets)
    assert mail["Resent-From"] == "<admin@x>"
    assert mail["Resent-Sender"] == '"Content-filter at mail.example.com" <postmaster@mail.example.com>'
    assert mail["Resent-To"] == "undisclosed-recipients:;"


def test_every_recipient_has_a_reply_of_its_own(site: Site) -> None:
    site.transport.replies = [Reply(250, "2.0.0", "Ok"), Reply(550, "5.1.1", "unknown")]
    assert site.handle(recipient=("d@x", "e@x")) == ["250 2.0.0 Ok", "550 5.1.1 unknown"]


def test_requeue_goes_to_the_requeue_method(site: Site) -> None:
    assert site.handle("requeue") == [OK]
    assert site.transport.sent[0][0] == SETTINGS.requeue_method


def test_a_report_encloses_the_mail_with_its_verdict(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert site.handle("report", recipient="abuse@example.org") == [OK]
    assert f"Quarantined message report (abuse): {MAIL_ID} <a@example.org> -> <abuse@example.org>" in caplog.messages
    assert site.transport.submission.sender == ""
    mail = message_from_bytes(site.transport.octets)
    assert mail.get_content_type() == "multipart/report"
    assert mail.get_param("report-type") == "feedback-report"
    parts = [part.get_content_type() for part in mail.walk()]
    assert parts[1:4] == ["text/plain", "message/feedback-report", "text/plain"]
    assert parts[4] == "message/rfc822"
    assert b"Feedback-Type: abuse\r\n" in site.transport.octets
    assert b"Original-Rcpt-To: <c@x>\r\n" in site.transport.octets
    assert b"X-Spam-Flag: YES\r\nReceived: from x\r\n" in site.transport.octets


def test_without_a_list_of_blocked_recipients_all_get_it(site: Site) -> None:
    site.keep("old", pseudo(blocked=None) + ORIGINAL)
    assert site.handle(mail_file="old") == [OK, OK]


def test_quoted_addresses_with_commas_and_brackets_survive(site: Site) -> None:
    odd = '"a, b> \\"c"@x'
    site.keep("odd", pseudo(sender="<>", blocked=f"<{odd}>,\n <ü@x>") + ORIGINAL)
    assert site.handle(mail_file="odd") == [OK, OK]
    assert [r.address for r in site.transport.submission.recipients] == [odd, "ü@x"]
    assert site.transport.submission.smtputf8
    assert site.transport.submission.sender == ""


def test_a_mail_that_everybody_got_needs_nothing(site: Site) -> None:
    site.keep("k/clean", pseudo(blocked="") + ORIGINAL)
    assert site.handle(mail_file="k/clean") == ["250 2.5.0 No recipients, nothing to do"]
    assert not site.transport.sent


def test_fields_that_the_sender_wrote_are_not_believed(site: Site) -> None:
    forged = b"X-Envelope-To-Blocked: <evil@x>\nX-Quarantine-ID: <other>\nReturn-Path: <evil@x>\n"
    site.keep("forged", pseudo() + forged + ORIGINAL)
    assert site.handle(mail_file="forged") == [OK]
    assert [r.address for r in site.transport.submission.recipients] == ["c@x"]
    assert b"X-Envelope-To-Blocked: <evil@x>\r\n" in site.transport.octets


# --- which file it is


@pytest.mark.parametrize(
    ("kept", "mail_file"),
    [
        (f"k/virus-{MAIL_ID}", f"k/virus-{MAIL_ID}"),
        (f"k/virus-{MAIL_ID}", f"virus-{MAIL_ID}"),
        (f"k/spam-{MAIL_ID}.gz", f"spam-{MAIL_ID}.gz"),
        (f"k/spam-{MAIL_ID}.gz", MAIL_ID),
        (f"spam-{MAIL_ID}.gz", ""),
        (MAIL_ID, MAIL_ID),
        ("a+b_c-d/e.f", "a+b_c-d/e.f"),
    ],
)
def test_the_file_is_found_by_name_or_by_id(site: Site, kept: str, mail_file: str) -> None:
    shutil.rmtree(site.directory)
    site.keep(kept, pseudo() + ORIGINAL)
    assert site.handle(mail_file=mail_file) == [OK]


@pytest.mark.parametrize(
    "mail_file", ["../secret", "k/../../secret", "/etc/passwd", "k//x", "./x", "k/.", "a b", "a\nb", "x" * 300, "-x"]
)
def test_unsafe_file_names_are_refused(site: Site, mail_file: str) -> None:
    (reply,) = site.handle(mail_file=mail_file)
    assert reply.startswith("550 5.5.0 ERROR: Unsafe filename '")


def test_links_are_not_followed_and_only_files_are_read(site: Site, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mail").write_bytes(pseudo() + ORIGINAL)
    (site.directory / "link").symlink_to(outside / "mail")
    (site.directory / "dir").symlink_to(outside)
    os.mkfifo(site.directory / "fifo")
    assert site.handle(mail_file="link") == ["550 5.5.0 ERROR: no quarantined message link"]
    assert site.handle(mail_file="dir/mail") == ["550 5.5.0 ERROR: no quarantined message dir/mail"]
    assert site.handle(mail_file="fifo") == ["550 5.5.0 ERROR: File fifo is not a plain file"]
    assert site.handle(mail_file="k") == ["550 5.5.0 ERROR: File k is not a plain file"]
    assert not site.transport.sent


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "It has no X-Quarantine-ID and does not match"),
        (ORIGINAL, "It has no X-Quarantine-ID and does not match"),
        (b"EHLO x\nMAIL FROM:<a@b>\n", "damaged: no DATA with an end"),
        (b"EHLO x\nMAIL FROM:<a@b>\nDATA\nSubject: x\n.\n", "It has no X-Quarantine-ID and does not match"),
        (b"From a@b Thu Jan  1 00:00:00 1970\nSubject: x\n\n", f"no quarantined message {MAIL_ID} in this mailbox"),
        (pseudo("otherOther12") + ORIGINAL, "Stored quarantine ID 'otherOther12' does not match requested ID"),
        (b"X-Quarantine-ID: <" + MAIL_ID.encode() + b">\n" + ORIGINAL, "missing X-Envelope-From or Return-Path"),
        (gzip.compress(pseudo() + ORIGINAL)[:-12], "damaged: "),
        (b"\x1f\x8bnonsense", "damaged: "),
    ],
)
def test_a_file_that_is_not_this_mail_is_not_sent(site: Site, content: bytes, message: str) -> None:
    site.keep("file", content)
    (reply,) = site.handle(mail_file="file")
    assert reply.startswith(f"550 5.5.0 ERROR: {message}")
    assert not site.transport.sent


def test_a_quarantine_that_cannot_be_read_may_be_readable_later(site: Site) -> None:
    shutil.rmtree(site.directory)
    assert site.handle() == ["450 4.5.0 ERROR: No such file or directory"]


# --- who may


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"secret_id": "wrong"}, f"Secret_id wrong does not match mail_id {MAIL_ID}"),
        ({"secret_id": ""}, "Secret_id is required, but missing"),
        ({"mail_id": ""}, "Missing 'mail_id' field"),
        ({"mail_id": "../x"}, "Invalid mail_id '../x'"),
        ({"mail_id": "-abc"}, "Invalid mail_id '-abc'"),
        ({"quar_type": "M"}, "quarantine type M is not kept here, only F, Z, B and Q are"),
        ({"quar_type": "Q"}, f"no quarantined message {MAIL_ID}"),
        ({"partition_tag": "-1"}, "Invalid partition_tag '-1'"),
        ({"recipient": "a@b\r\nRCPT TO:<c@d>"}, "Invalid address 'a@b\\x0D RCPT TO:<c@d>'"),
        ({"requested_by": "a b"}, "Invalid address 'a b'"),
    ],
)
def test_a_request_that_is_not_in_order_is_refused(site: Site, attributes: dict[str, str], message: str) -> None:
    assert site.handle(**attributes) == [f"550 5.5.0 ERROR: {message}"]
    assert not site.transport.sent


def test_a_bank_may_do_without_the_secret_but_a_wrong_one_is_never_right(site: Site) -> None:
    site.settings = replace(SETTINGS, auth_required_release=False)
    assert site.handle(secret_id="") == [OK]
    assert site.handle(secret_id="wrong")[0].startswith("550 5.5.0 ERROR: Secret_id wrong")


def test_a_wrong_secret_does_not_tell_whether_the_mail_exists(site: Site) -> None:
    before = site.handle(secret_id="wrong")
    shutil.rmtree(site.directory)
    assert site.handle(secret_id="wrong") == before


def test_secrets_made_by_amavis_are_honoured(site: Site) -> None:
    assert site.handle(secret_id="xWNILLgTRJ9Z") == [OK]


def test_a_method_that_leads_nowhere_is_said(site: Site) -> None:
    site.settings = replace(SETTINGS, requeue_method=(), release_method=(NextHop("smtp", "*", 0),))
    assert site.handle("requeue") == ["550 5.5.0 ERROR: requeue_method is unspecified"]
    assert site.handle()[0].startswith("550 5.5.0 ERROR: release_method must name host and port")


def test_without_a_release_method_notifications_show_the_way(site: Site) -> None:
    site.settings = replace(SETTINGS, release_method=(), notify_method=(NextHop("smtp", "::1", 2525),))
    assert site.handle() == [OK]
    assert site.transport.sent[0][0] == (NextHop("smtp", "::1", 2525),)


# --- the real client


@pytest.fixture
def client(tmp_path: Path) -> list[str]:
    """amavisd-release, told to use our socket."""
    source = Path("/usr/sbin/amavisd-release").read_text()
    script = tmp_path / "amavisd-release"
    script.write_text(source.replace("'/var/lib/amavis/amavisd.sock'", f"'{tmp_path}/sock'"))
    assert str(tmp_path) in script.read_text()
    return ["perl", "-T", str(script)]


def test_amavisd_release_is_understood_and_understands(site: Site, client: list[str], tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/sock")
    listener.listen()
    server = threading.Thread(target=serve, args=(listener, site))
    server.start()
    lines = f"k/virus-{MAIL_ID} {SECRET} d@x e@x\n# comment\nspam-nosuchmail12.gz {SECRET}\n{MAIL_ID} {SECRET}\n"
    done = subprocess.run([*client, "-"], input=lines, capture_output=True, text=True, timeout=30)
    server.join(30)
    listener.close()
    assert done.stderr.splitlines() == [
        OK,
        OK,
        f"550 5.5.0 ERROR: Secret_id {SECRET} does not match mail_id nosuchmail12",
        OK,
    ]


def serve(listener: socket.socket, site: Site) -> None:
    connection, _ = listener.accept()
    reader = RequestReader()
    bank = PolicyBank(SETTINGS, (), {})
    with connection:
        while octets := connection.recv(65_536):
            reader.receive(octets)
            while request := reader.next_request():
                replies = site.release.handle(request, bank, Deadline.after(5))
                connection.sendall(respond(("setreply", (str(r.code), r.enhanced, r.text)) for r in replies))

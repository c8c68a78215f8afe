"""What the real clamd finds through us, and what happens when it goes away, comes back, or stops answering."""

from __future__ import annotations

import base64
import mmap
import os
import signal
import tempfile
import time
from collections.abc import Iterator

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.workload import Mail, what_clamd_needs
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, Part, VirusScan
from amavispy.policy.settings import ScannerSpec
from tests.integration.daemons import EICAR, Clamd

CLEAN = b"Received: from x by y\r\nSubject: x\r\n\r\nhello\r\n"


def mail_with(attachment: bytes, top: bytes = b"Received: from x by y\r\n") -> bytes:
    return (
        top
        + b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b\r\n'
        + b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: base64\r\n\r\n"
        + base64.encodebytes(attachment).replace(b"\n", b"\r\n")
        + b"--b--\r\n"
    )


def leaf(octets: bytes, number: int = 2, parent: int | None = 1) -> Part:
    return Part(number, f"1/{number}", parent, ("application/octet-stream",), octets=octets)


ROOT = Part(1, "1", None, ("multipart/mixed",), is_leaf=False)


class Client:
    """Our side: one Scanning, as one worker has it."""

    def __init__(self, address: str, timeout: float = 20.0, on_failure: OnFailure = OnFailure.TEMPFAIL) -> None:
        self.spec = ScannerSpec("ClamAV-clamd", "clamd", address, timeout=timeout, on_failure=on_failure)
        self.scanning = Scanning([self.spec])

    def scan(self, octets: bytes | Content, parts: tuple[Part, ...] = (), seconds: float = 30.0) -> VirusScan:
        content = octets if isinstance(octets, Content) else Content(octets)
        virus, _ = self.scanning.scan(content, parts, Envelope("", ()), (self.spec,), (), Deadline.after(seconds))
        return virus[0]


@pytest.fixture(scope="module")
def shared() -> Iterator[Clamd]:
    daemon = Clamd()
    yield daemon
    daemon.close()


@pytest.fixture
def own() -> Iterator[Clamd]:
    daemon = Clamd(stream_max="1M")
    yield daemon
    daemon.close()


@pytest.fixture(params=["unix", "tcp"])
def client(request: pytest.FixtureRequest, shared: Clamd) -> Client:
    return Client(str(shared.socket) if request.param == "unix" else f"127.0.0.1:{shared.port}")


def test_a_clean_mail_is_clean_and_a_virus_is_named(client: Client) -> None:
    for _ in range(3):  # on one connection
        assert client.scan(CLEAN) == VirusScan("ClamAV-clamd")
        found = client.scan(mail_with(EICAR))
        assert found.is_infected
        assert found.names == ("Eicar-Signature.UNOFFICIAL",)
        assert not found.error


@pytest.mark.parametrize("top", [b"DKIM-Signature: v=1", b"X-Foo: bar", b"MZ: x", b"%PDF-1.4: x", b"PK\x03\x04: x"])
def test_a_mail_is_taken_apart_whatever_stands_first_in_it(client: Client, top: bytes) -> None:
    lines = top + b"\r\n" + b"X-Long: " + b"x" * 900 + b"\r\n" + b"X-More: y\r\n" * 200
    assert client.scan(mail_with(EICAR, top=lines)).names == ("Eicar-Signature.UNOFFICIAL",)


@pytest.mark.parametrize("top", [b"Received: x", b"Return-Path: <>", b"Delivered-To: x", b"From: x", b"Subject: x"])
def test_these_first_lines_make_clamd_see_a_mail(own: Clamd, top: bytes) -> None:
    lines = top + b"\r\n" + b"X-Long: " + b"x" * 900 + b"\r\n" + b"X-More: y\r\n" * 200
    mail = Mail(Content(mail_with(EICAR, top=lines)), (), Envelope("", ()))
    assert [scannable.top for scannable in what_clamd_needs(mail)] == [b""]
    assert Client(str(own.socket)).scan(mail.content).is_infected


def test_decoded_parts_of_a_doubtful_mail_are_scanned_by_themselves(client: Client) -> None:
    hidden = mail_with(b"nothing")
    assert not client.scan(hidden, (ROOT, leaf(EICAR))).is_infected  # clamd's own business
    odd = Part(3, "1/3", 1, ("text/plain",), attributes="B", octets=b"x")
    assert client.scan(hidden, (ROOT, leaf(EICAR), odd)).names == ("Eicar-Signature.UNOFFICIAL",)


def test_many_parts_are_all_scanned_and_every_name_is_reported_once(client: Client) -> None:
    parts = [leaf(b"harmless %d" % n, n) for n in range(2, 100)]
    parts += [leaf(b"WORM-TEST-SIGNATURE-1", 100), leaf(EICAR, 101), leaf(EICAR, 102), leaf(b"", 103)]
    found = client.scan(CLEAN, (Part(1, "1", None, ("application/zip",), ("zip",), octets=b"PK"), *parts))
    assert sorted(found.names) == ["Eicar-Signature.UNOFFICIAL", "Test.Worm-1.UNOFFICIAL"]


def test_a_large_mail_goes_as_its_spool_file(client: Client) -> None:
    mail = mail_with(b"\0" * 3_000_000 + EICAR)
    with tempfile.TemporaryFile() as file:
        file.write(mail)
        file.flush()
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as octets:
            found = client.scan(Content(octets, file.fileno()))
    assert found.names == ("Eicar-Signature.UNOFFICIAL",)


def test_clamd_restarted_between_two_mails_is_no_failure(own: Clamd) -> None:
    for client in (Client(str(own.socket)), Client(f"127.0.0.1:{own.port}")):
        assert not client.scan(CLEAN).error
        own.end()
        own.start()
        assert client.scan(mail_with(EICAR)).names == ("Eicar-Signature.UNOFFICIAL",)


def test_a_reload_counts_on_the_connection_that_is_kept(own: Clamd) -> None:
    client = Client(str(own.socket))
    assert not client.scan(mail_with(b"BRAND-NEW-VIRUS-SIGNATURE")).is_infected
    (own.database / "new.ndb").write_text(f"New-1:0:*:{b'BRAND-NEW-VIRUS-SIGNATURE'.hex()}\n")
    own.reload()
    assert client.scan(mail_with(b"BRAND-NEW-VIRUS-SIGNATURE")).names == ("New-1.UNOFFICIAL",)


def test_a_stream_over_clamds_limit_is_an_error_and_never_clean(own: Clamd) -> None:
    client = Client(f"127.0.0.1:{own.port}")
    for _ in range(2):
        found = client.scan(CLEAN + b"x" * 3_000_000)
        assert not found.is_infected
        assert found.error in ("INSTREAM size limit exceeded.", "Broken pipe", "Connection reset by peer")
    assert not client.scan(CLEAN).error


def test_no_clamd_is_an_error_with_the_configured_meaning(own: Clamd) -> None:
    own.end()
    client = Client(str(own.socket), on_failure=OnFailure.UNCHECKED)
    found = client.scan(CLEAN)
    assert found.error.startswith(f"can't connect to {own.socket}: ")
    assert found.on_failure is OnFailure.UNCHECKED
    assert Client(f"127.0.0.1:{own.port}").scan(CLEAN).error.endswith("Connection refused")


@pytest.mark.parametrize(("patience", "deadline"), [(0.3, 30.0), (30.0, 0.3)])
def test_a_clamd_that_hangs_costs_no_more_than_the_time_given(own: Clamd, patience: float, deadline: float) -> None:
    client = Client(str(own.socket), timeout=patience)
    assert not client.scan(CLEAN).error
    own.process.send_signal(signal.SIGSTOP)
    try:
        start = time.monotonic()
        assert client.scan(mail_with(EICAR), seconds=deadline).error == "no answer in time"
        assert time.monotonic() - start < 2
    finally:
        own.process.send_signal(signal.SIGCONT)
    assert client.scan(mail_with(EICAR)).is_infected  # and the late answer is nobody's


def test_no_descriptor_is_left_behind(client: Client) -> None:
    client.scan(CLEAN)
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        client.scan(mail_with(EICAR), (ROOT, leaf(EICAR)))
    assert len(os.listdir("/proc/self/fd")) == len(before)

"""All scanners of a mail side by side: what they are given, what their answers and failures become, and how long."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.wire import DaemonAddress, lost
from amavispy.inspection.workload import Mail, everything, what_clamd_needs
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, Part, SpamScan, VirusScan
from amavispy.policy.settings import ScannerSpec
from tests.inspection.fake_daemons import ClamdTalk, FakeDaemon, says, silence, spamd_response

ENVELOPE = Envelope("a@example.org", (Recipient("b@example.net"),))
MAIL = b"Received: x\r\nSubject: y\r\n\r\nhello\r\n"


def judge(octets: bytes) -> str:
    return "Worm.A FOUND" if b"worm" in octets else "OK"


def clamd(address: str, timeout: float = 10.0, name: str = "clamd") -> ScannerSpec:
    return ScannerSpec(name, "clamd", address, timeout=timeout)


def spamd(address: str, timeout: float = 10.0) -> ScannerSpec:
    return ScannerSpec("spamd", "spamd", address, timeout=timeout, on_failure=OnFailure.PASS)


def scan(
    *specs: ScannerSpec, mail: bytes = MAIL, seconds: float = 10.0, scanning: Scanning | None = None
) -> tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]:
    virus = tuple(spec for spec in specs if spec.type != "spamd")
    spam = tuple(spec for spec in specs if spec.type == "spamd")
    return (scanning or Scanning(specs)).scan(Content(mail), (), ENVELOPE, virus, spam, Deadline.after(seconds))


# --- side by side


def test_every_scanner_answers_in_its_place(tmp_path: Path) -> None:
    with FakeDaemon(ClamdTalk(judge), path=tmp_path / "c") as one, FakeDaemon(says(spamd_response(7.5))) as other:
        yara = ScannerSpec("yara", "yara")
        virus, spam = scan(clamd(one.address), yara, spamd(other.address), mail=MAIL + b"worm")
    assert virus == (VirusScan("clamd", ("Worm.A",), is_infected=True, parts=(0,)), VirusScan("yara"))
    assert spam == (SpamScan("spamd", 7.5, on_failure=OnFailure.PASS),)


def test_scanners_work_at_the_same_time() -> None:
    """Three daemons that answer only when all three have got the mail."""
    together = threading.Barrier(3, timeout=10)

    def clamd_waits(connection: socket.socket) -> None:
        connection.recv(65_536)
        together.wait()
        connection.sendall(b"1: stream: OK\0")

    def spamd_waits(connection: socket.socket) -> None:
        connection.recv(65_536)
        together.wait()
        connection.sendall(spamd_response(1.0))

    with FakeDaemon(clamd_waits) as one, FakeDaemon(clamd_waits) as two, FakeDaemon(spamd_waits) as three:
        virus, spam = scan(clamd(one.address), clamd(two.address, name="second"), spamd(three.address))
    assert [v.error for v in virus] == ["", ""]
    assert spam[0].score == 1.0


def test_a_silent_scanner_does_not_cost_the_others_their_answer(caplog: pytest.LogCaptureFixture) -> None:
    with FakeDaemon(silence) as mute, FakeDaemon(ClamdTalk(judge)) as other, caplog.at_level(logging.WARNING):
        start = time.monotonic()
        virus, spam = scan(clamd(mute.address, 0.2), clamd(other.address, name="b"), spamd(mute.address, 0.3))
        assert 0.3 <= time.monotonic() - start < 2
    assert [v.error for v in virus] == ["no answer in time", ""]
    assert spam == (SpamScan("spamd", error="no answer in time", on_failure=OnFailure.PASS),)
    assert "clamd av-scanner FAILED: no answer in time" in caplog.text
    assert "spamd spam scanner FAILED: no answer in time" in caplog.text


def test_the_deadline_is_kept_even_by_patient_scanners() -> None:
    with FakeDaemon(silence) as mute:
        start = time.monotonic()
        virus, _ = scan(clamd(mute.address, timeout=60), seconds=0.2)
        assert time.monotonic() - start < 2
    assert virus[0].error


def test_the_workers_alarm_passes_through_and_leaves_no_half_used_connection(tmp_path: Path) -> None:
    def alarm(*_: object) -> None:
        raise TimeoutError("the message took too long")

    with FakeDaemon(silence, ClamdTalk(judge), path=tmp_path / "c") as daemon:
        spec = clamd(daemon.address)
        scanning = Scanning([spec])
        before = signal.signal(signal.SIGALRM, alarm)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        try:
            with pytest.raises(TimeoutError, match="took too long"):
                scan(spec, scanning=scanning)
        finally:
            signal.signal(signal.SIGALRM, before)
        assert scan(spec, mail=b"worm", scanning=scanning)[0][0].is_infected
        assert daemon.connections == 2


def test_a_connection_that_timed_out_is_no_alarm() -> None:
    assert str(lost(TimeoutError(errno.ETIMEDOUT, "Connection timed out"))) == "Connection timed out"
    with pytest.raises(TimeoutError):
        lost(TimeoutError("alarm"))


# --- clamd


@pytest.fixture(params=["unix", "tcp"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "clamd" if request.param == "unix" else None


def test_one_connection_serves_many_mails(path: Path | None) -> None:
    talk = ClamdTalk(judge)
    with FakeDaemon(talk, path=path) as daemon:
        spec = clamd(daemon.address)
        scanning = Scanning([spec])
        found = [scan(spec, mail=b"From: %d worm" % n, scanning=scanning)[0][0].is_infected for n in range(5)]
        assert daemon.connections == 1
    assert found == [True] * 5
    assert talk.scanned == [b"From: %d worm" % n for n in range(5)]


def test_a_connection_that_ended_between_two_mails_is_made_anew(path: Path | None) -> None:
    with FakeDaemon(ClamdTalk(judge, requests=1), path=path) as daemon:
        spec = clamd(daemon.address)
        scanning = Scanning([spec])
        assert [scan(spec, scanning=scanning)[0][0].error for _ in range(3)] == ["", "", ""]
        assert daemon.connections == 3


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"COMMAND READ TIMED OUT\0",
        b"1: stream: OK",
        b"7: stream: OK\0",
        b"1: stream: maybe\0",
        b"1: INSTREAM size limit exceeded. ERROR\0",
        b"\0",
    ],
)
def test_anything_but_ok_is_a_failure_and_never_clean(path: Path | None, answer: bytes) -> None:
    with FakeDaemon(says(answer), path=path) as daemon:
        found = scan(clamd(daemon.address))[0][0]
    assert found.error
    assert not found.is_infected


def test_a_finding_outweighs_a_failure() -> None:
    def half(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(b"1: stream: Worm.A FOUND\0")

    spec_parts = (Part(1, "1", None, ("application/zip",), octets=b"zip"), Part(2, "1/1", 1, octets=b"member"))
    with FakeDaemon(half) as daemon:
        spec = clamd(daemon.address)
        found = Scanning([spec]).scan(Content(MAIL), spec_parts, ENVELOPE, (spec,), (), Deadline.after(5))[0][0]
    assert found == VirusScan("clamd", ("Worm.A",), is_infected=True, parts=(0,))


def test_a_slow_reader_gets_a_large_mail_in_full() -> None:
    got: list[int] = []

    def slow(connection: socket.socket) -> None:
        head = connection.recv(25, socket.MSG_WAITALL)
        left = struct.unpack(">I", head[21:25])[0] + 4
        while left and (more := connection.recv(min(left, 50_000))):
            left -= len(more)
        got.append(left)
        connection.sendall(b"1: stream: OK\0")

    with FakeDaemon(slow) as daemon:
        assert scan(clamd(daemon.address), mail=MAIL + b"x" * 20_000_000)[0] == (VirusScan("clamd"),)
    assert got == [0]


def test_an_empty_mail_is_scanned_too(path: Path | None) -> None:
    talk = ClamdTalk(judge)
    with FakeDaemon(talk, path=path) as daemon:
        assert scan(clamd(daemon.address), mail=b"")[0] == (VirusScan("clamd"),)
    assert talk.scanned == [b"Received: by localhost\r\n"]


def test_a_daemon_that_is_not_there_is_a_failure_by_its_name() -> None:
    virus, spam = scan(clamd("/nowhere/clamd.ctl"), spamd("127.0.0.1:1"))
    assert virus[0].error == "can't connect to /nowhere/clamd.ctl: No such file or directory"
    assert spam[0].error == "can't connect to 127.0.0.1:1: Connection refused"
    assert spam[0].score is None


def test_every_address_of_a_host_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeDaemon(ClamdTalk(judge)) as daemon:
        port = int(daemon.address.rpartition(":")[2])
        targets = [(socket.AF_INET, ("127.0.0.1", 1)), (socket.AF_INET, ("127.0.0.1", port))]
        monkeypatch.setattr(DaemonAddress, "targets", lambda self: list(targets))
        assert scan(clamd("scanner.example.org:3310"))[0] == (VirusScan("clamd"),)


# --- what clamd is given

ROOT = Part(1, "1", None, ("multipart/mixed",), is_leaf=False)
TEXT = Part(2, "1/1", 1, ("text/plain",), octets=b"text")
ZIP = Part(3, "1/2", 1, ("application/zip",), short_types=("zip",), octets=b"PK", is_leaf=False)
MEMBER = Part(4, "1/2/1", 3, octets=b"member")
NESTED = Part(5, "1/2/2", 3, ("message/rfc822",), is_leaf=False)
INNER = Part(6, "1/2/2/1", 5, ("text/plain",), octets=b"inner")
ODD = Part(7, "1/3", 1, ("text/plain",), attributes="B", octets=b"other reading")


def given(*parts: Part, mail: bytes = MAIL) -> list[bytes]:
    return [s.top + bytes(s.octets) for s in what_clamd_needs(Mail(Content(mail), parts, ENVELOPE))]


def test_clamd_takes_an_ordinary_mail_apart_by_itself() -> None:
    assert given(ROOT, TEXT) == [MAIL]
    assert given() == [MAIL]


def test_clamd_gets_what_our_own_decoders_found_at_any_depth() -> None:
    assert given(ROOT, TEXT, ZIP, MEMBER, NESTED, INNER) == [MAIL, b"member", b"inner"]


def test_clamd_gets_every_part_of_an_ambiguous_mail() -> None:
    assert given(ROOT, TEXT, ODD) == [MAIL, b"text", b"other reading"]


@pytest.mark.parametrize("top", [b"DKIM-Signature: v=1", b"X-A: b", b"received: x", b"MZ: x", b"%PDF-1.4: x"])
def test_a_mail_that_clamd_would_not_take_for_one_gets_a_line_it_knows(top: bytes) -> None:
    mail = top + b"\r\n" + MAIL
    assert given(ROOT, TEXT, mail=mail) == [b"Received: by localhost\r\n" + mail]


def test_yara_gets_everything() -> None:
    mail = Mail(Content(MAIL), (ROOT, TEXT, ZIP, MEMBER), ENVELOPE)
    assert [scannable.octets for scannable in everything(mail)] == [MAIL, b"text", b"PK", b"member"]


# --- at the start


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (clamd("clamd.ctl"), "scanner clamd: 'clamd.ctl': expected a socket's path, HOST:PORT or"),
        (clamd("[::1]"), "expected a socket's path"),
        (clamd("h:0"), "expected a socket's path"),
        (clamd("h:99999"), "expected a socket's path"),
        (clamd("/" + "x" * 200), "at most 107 octets"),
        (spamd(""), "scanner spamd: ''"),
        (ScannerSpec("x", "spamc"), "scanner x: unknown type 'spamc'"),
    ],
)
def test_a_scanner_that_cannot_be_prepared_is_named(spec: ScannerSpec, message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - compared below
        Scanning([spec])
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/run/c.ctl", DaemonAddress("/run/c.ctl", path="/run/c.ctl")),
        ("host:783", DaemonAddress("host:783", host="host", port=783)),
        ("[::1]:783", DaemonAddress("[::1]:783", host="::1", port=783)),
    ],
)
def test_addresses_of_daemons(text: str, expected: DaemonAddress) -> None:
    assert DaemonAddress.parse(text) == expected

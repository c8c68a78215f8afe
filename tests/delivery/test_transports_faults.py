"""When the next hop dies, dawdles or talks nonsense, and when we are interrupted: the client keeps the mail, and nobody
gets it twice.
"""

from __future__ import annotations

import datetime
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from amavispy.delivery.transports import SmtpTransport
from amavispy.mail.next_hop import NextHop
from amavispy.policy.settings import Settings
from tests.delivery.test_transports import mail_to, said, send
from tests.sink import CLOSE_AFTER, DROP, Sink

OK = ["250 2.0.0 from MTA(*): 250 2.0.0 Ok: queued"]
BIG = b"Subject: big\r\n\r\n" + b".0123456789abcdef\r\n" * 1_000_000


@pytest.fixture
def transport() -> Iterator[SmtpTransport]:
    transport = SmtpTransport()
    yield transport
    transport.close()


# --- death


@pytest.mark.parametrize("stage", ["mail", "rcpt", "data"])
def test_a_kept_connection_that_dies_before_the_content_is_replaced(transport: SmtpTransport, stage: str) -> None:
    with Sink() as sink:
        sink.replies[stage] = [sink.replies[stage], DROP, sink.replies[stage]]
        send(transport, sink.next_hop)
        assert said(send(transport, sink.next_hop)) == OK
        assert len(sink.mails) == sink.connections == 2


def test_a_kept_connection_that_dies_amid_the_content_is_replaced(transport: SmtpTransport) -> None:
    with Sink() as sink:
        send(transport, sink.next_hop)
        sink.replies["content"] = [DROP, None]
        assert said(send(transport, sink.next_hop, mail=mail_to(chunks=(BIG,)))) == OK
        assert sink.mails[1].octets == BIG
        assert sink.connections == 2


def test_a_fresh_connection_that_dies_amid_the_content_is_told(transport: SmtpTransport) -> None:
    with Sink(replies={"content": DROP}) as sink:
        (reply,) = said(send(transport, sink.next_hop, mail=mail_to(chunks=(BIG,))))
        assert reply.startswith("451 4.5.0 From MTA(*) during fwd-data-contents (Error writing to socket: ")
        assert sink.connections == 1


def test_a_refusal_amid_the_content_is_passed_on(transport: SmtpTransport) -> None:
    with Sink(replies={"content": CLOSE_AFTER + "552 5.3.4 too big"}) as sink:
        assert said(send(transport, sink.next_hop, mail=mail_to(chunks=(BIG,)))) == [
            "552 5.3.4 from MTA(*): 552 5.3.4 too big"
        ]


@pytest.mark.parametrize("reply", [DROP, b"garbage\r\n", CLOSE_AFTER + "421 4.3.2 shutting down"])
def test_nothing_is_repeated_once_the_final_dot_was_sent(transport: SmtpTransport, reply: object) -> None:
    with Sink() as sink:
        send(transport, sink.next_hop)
        sink.replies["eod"] = reply
        (handover,) = send(transport, sink.next_hop)
        assert handover.reply.is_tempfail
        assert len(sink.wires) == 2
        assert sink.connections == 1


def test_a_next_hop_that_is_gone_for_good_is_told_after_the_kept_connection_failed(transport: SmtpTransport) -> None:
    with Sink() as sink:
        send(transport, sink.next_hop)
    (reply,) = said(send(transport, sink.next_hop))
    assert "All attempts (1) failed connecting to" in reply


def test_another_next_hop_takes_over_from_a_kept_connection_that_died(transport: SmtpTransport) -> None:
    with Sink() as other:
        with Sink() as first:
            send(transport, first.next_hop)
        for _ in range(4):
            assert said(send(transport, first.next_hop, other.next_hop)) == OK


# --- slowness


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("connect", "450 4.4.2 Timed out during fwd-connect, MTA(), id=26701-03"),
        ("ehlo", "450 4.4.2 Timed out during fwd-connect, MTA(), id=26701-03"),
        ("mail", "450 4.4.2 Timed out during fwd-mail-pip, MTA(*), id=26701-03"),
        ("rcpt", "450 4.4.2 Timed out during fwd-mail-pip, MTA(*), id=26701-03"),  # nothing of the group was answered
        ("eod", "450 4.4.2 Timed out during fwd-data-end, MTA(*), id=26701-03"),
    ],
)
def test_nobody_is_waited_for_beyond_the_deadline(transport: SmtpTransport, stage: str, expected: str) -> None:
    with Sink() as sink:
        sink.hold(stage)
        assert said(send(transport, sink.next_hop, seconds=0.2)) == [expected]


def test_a_next_hop_that_stops_reading_is_not_waited_for_beyond_the_deadline(transport: SmtpTransport) -> None:
    with Sink(replies={"content": DROP}) as sink:
        sink.hold("content")
        assert said(send(transport, sink.next_hop, mail=mail_to(chunks=(BIG,)), seconds=0.4)) == [
            "450 4.4.2 Timed out during fwd-data-contents, MTA(*), id=26701-03"
        ]


def test_connecting_takes_no_longer_than_the_deadline(transport: SmtpTransport) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        crowd = [socket.socket() for _ in range(4)]
        for guest in crowd:
            guest.setblocking(False)
            guest.connect_ex(("127.0.0.1", port))
        hop = NextHop("smtp", "127.0.0.1", port)
        assert said(send(transport, hop, seconds=0.2)) == ["450 4.4.2 Timed out during fwd-connect, MTA(), id=26701-03"]
        for guest in crowd:
            guest.close()


def test_a_crowded_unix_socket_is_not_waited_for_beyond_the_deadline(transport: SmtpTransport, tmp_path: Path) -> None:
    path = str(tmp_path / "crowded")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as guest:
        listener.bind(path)
        listener.listen(0)
        guest.connect(path)
        assert said(send(transport, NextHop("lmtp", path=path), seconds=0.2)) == [
            "450 4.4.2 Timed out during fwd-connect, MTA(), id=26701-03"
        ]


def test_with_no_time_left_nothing_is_begun(transport: SmtpTransport) -> None:
    with Sink() as sink:
        assert said(send(transport, sink.next_hop, seconds=0.0)) == [
            "450 4.4.2 Timed out during fwd-connect, MTA(), id=26701-03"
        ]
        assert sink.wires == []


# --- nonsense


@pytest.mark.parametrize(
    ("stage", "reply", "text"),
    [
        ("connect", b"SSH-2.0-x\r\n", "fwd-connect (Bad greeting: SSH-2.0-x)"),
        ("connect", b"\x00" * 5000, "fwd-connect (Bad greeting: a line of more than 2048 octets)"),
        ("ehlo", b"250-a\r\n" * 5000, "fwd-connect (Bad response to EHLO: a reply of more than 100 lines)"),
        ("mail", b"\xff\xfe\r\n", "fwd-mail-pip (Bad response to MAIL (pip): \\xff\\xfe)"),
        ("data", b"354 go\r\n250 2.0.0 queued\r\n", "fwd-data-cmd (Text behind the reply to DATA)"),
    ],
)
def test_nonsense_is_told_and_harmless(transport: SmtpTransport, stage: str, reply: bytes, text: str) -> None:
    with Sink(replies={stage: reply}) as sink:
        (told,) = said(send(transport, sink.next_hop))
        assert told.startswith("451 4.5.0 From MTA(")
        assert told.endswith(f" during {text}: id=26701-03")
        assert sink.wires == []


def test_a_long_reply_is_cut(transport: SmtpTransport) -> None:
    with Sink(replies={"eod": "\n".join(["250-" + "x" * 1000] * 99 + ["250 end"])}) as sink:
        (handover,) = send(transport, sink.next_hop)
        assert handover.reply.code == 250
        assert len(handover.reply.text) < 1100


# --- interruptions


class Alarm:
    """A signal to this process while the sink holds a stage; what its handler does is the test's choice."""

    def __init__(self, sink: Sink, stage: str, *, raises: bool) -> None:
        self.raises = raises
        self.hold = sink.hold(stage)
        self.count = 0
        self.before = signal.signal(signal.SIGUSR2, self.ring)
        self.thread = threading.Thread(target=self.send, args=(sink, stage))
        self.thread.start()

    def ring(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.raises and self.count == 1:
            raise TimeoutError("child_timeout is over")
        if self.count > 2:
            self.hold.set()

    def send(self, sink: Sink, stage: str) -> None:
        sink.reached(stage)
        while not self.hold.is_set() and not (self.raises and self.count):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR2)
            self.hold.wait(0.002)  # a signal between two waits of the other thread is noticed only with the next one

    def end(self) -> None:
        self.hold.set()
        self.thread.join()
        signal.signal(signal.SIGUSR2, self.before)


@pytest.mark.parametrize("stage", ["connect", "ehlo", "mail", "eod"])
def test_an_interrupted_wait_changes_nothing(transport: SmtpTransport, stage: str) -> None:
    # amavisd: 451 "Interrupted system call", although the next hop takes the mail.
    with Sink() as sink:
        alarm = Alarm(sink, stage, raises=False)
        try:
            assert said(send(transport, sink.next_hop)) == OK
        finally:
            alarm.end()
        assert alarm.count > 2
        assert len(sink.mails) == 1


def test_the_alarm_passes_through_before_the_final_dot(transport: SmtpTransport) -> None:
    with Sink() as sink:
        send(transport, sink.next_hop)
        alarm = Alarm(sink, "mail", raises=True)
        try:
            with pytest.raises(TimeoutError, match="child_timeout"):
                send(transport, sink.next_hop)
        finally:
            alarm.end()
        assert said(send(transport, sink.next_hop)) == OK
        assert len(sink.mails) == sink.connections == 2


def test_the_alarm_after_the_final_dot_is_a_451_and_nothing_is_repeated(transport: SmtpTransport) -> None:
    with Sink() as sink:
        send(transport, sink.next_hop)
        alarm = Alarm(sink, "eod", raises=True)
        try:
            assert said(send(transport, sink.next_hop)) == [
                "451 4.4.2 Timed out during fwd-data-end, MTA(*), id=26701-03"
            ]
        finally:
            alarm.end()
        assert len(sink.wires) == 2
        assert sink.connections == 1


# --- TLS


@pytest.fixture(scope="module")
def server_context(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sink.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path_factory.mktemp("tls") / "both.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


@pytest.mark.parametrize("level", ["may", "encrypt"])
def test_tls_is_used_where_it_is_offered(transport: SmtpTransport, server_context: ssl.SSLContext, level: str) -> None:
    settings = Settings(tls_security_level_out=level)
    with Sink(tls=server_context) as sink:
        assert said(send(transport, sink.next_hop, settings=settings, mail=mail_to(chunks=(BIG,)))) == OK
        assert sink.mails[0].octets == BIG
        assert sink.commands[:3] == ["EHLO localhost", "STARTTLS", "EHLO localhost"]
        assert said(send(transport, sink.next_hop, settings=settings)) == OK


def test_a_next_hop_without_tls_gets_nothing_where_tls_is_required(transport: SmtpTransport) -> None:
    with Sink() as sink:
        (reply,) = said(send(transport, sink.next_hop, settings=Settings(tls_security_level_out="encrypt")))
        assert reply == (
            "451 4.5.0 From MTA() during fwd-connect (TLS is required, but the next hop does not offer it): id=26701-03"
        )
        assert said(send(transport, sink.next_hop, settings=Settings(tls_security_level_out="may"))) == OK


def test_a_failed_handshake_is_forgiven_only_where_tls_is_optional(
    transport: SmtpTransport, server_context: ssl.SSLContext
) -> None:
    for level, expected in (
        ("may", OK[0]),
        ("encrypt", "451 4.5.0 From MTA() during fwd-connect (TLS handshake failed"),
    ):
        with Sink(tls=server_context, replies={"starttls": "220 go\n???"}) as sink:
            sink.replies["starttls"] = [CLOSE_AFTER + "220 go"]
            (reply,) = said(send(transport, sink.next_hop, settings=Settings(tls_security_level_out=level)))
            assert reply.startswith(expected)


def test_a_certificate_is_verified_when_a_context_says_so(server_context: ssl.SSLContext) -> None:
    transport = SmtpTransport(tls_context=ssl.create_default_context())
    with Sink(tls=server_context) as sink:
        (reply,) = said(send(transport, sink.next_hop, settings=Settings(tls_security_level_out="encrypt")))
        assert "TLS handshake failed: " in reply
        assert sink.mails == []

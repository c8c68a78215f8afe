"""STARTTLS with a real handshake: the session stays with one worker, their number is capped, nothing is smuggled in."""

from __future__ import annotations

import contextlib
import smtplib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import GROUP, RunningDaemon, private_directory
from tests.sink import Sink


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    directory = private_directory("tls")
    certificate, key = directory / "cert.pem", directory / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=mail.example.com",
    ]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True, timeout=60)
    if GROUP:
        key.chmod(0o644)  # a reload reads it as the daemon's user
    yield certificate, key
    for path in (certificate, key):
        path.unlink()
    directory.rmdir()


@contextlib.contextmanager
def running(certificate: tuple[Path, Path], level: str = "may", extra: str = "") -> Iterator[tuple[int, Sink]]:
    lines = f"""
tls_security_level_in = "{level}"
smtpd_tls_cert_file = "{certificate[0]}"
smtpd_tls_key_file = "{certificate[1]}"
max_tls_sessions = 1
{extra}
"""
    with Sink() as sink:
        port, config = small_config(sink.port, extra=lines)
        with RunningDaemon(config):
            yield port, sink


def context() -> ssl.SSLContext:
    made = ssl.create_default_context()
    made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    return made


def test_mail_comes_in_over_tls_and_says_so(certificate: tuple[Path, Path]) -> None:
    with running(certificate) as (port, sink), smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
        smtp.starttls(context=context())
        for number in range(3):
            smtp.sendmail("a@example.org", ["b@example.com"], MAIL.replace(b"Hi", b"Hi %d" % number))
        assert len(sink.mails) == 3
        assert b"with ESMTPS id " in sink.mails[0].octets


def test_with_mandatory_tls_nothing_goes_without_it(certificate: tuple[Path, Path]) -> None:
    with running(certificate, "encrypt") as (port, _), Talk(port) as talk:
        talk.greet("LHLO client.example")
        assert talk.ask("MAIL FROM:<a@example.org>").startswith("530 5.7.0 Must issue a STARTTLS command first")


def test_what_comes_behind_starttls_in_clear_text_is_thrown_away(certificate: tuple[Path, Path]) -> None:
    with running(certificate) as (port, sink), Talk(port) as talk:
        talk.greet()
        talk.say(b"STARTTLS\r\nEHLO smuggled\r\nMAIL FROM:<evil@example.org>\r\n")
        assert talk.hear().startswith("220 ")
        with context().wrap_socket(talk.sock, suppress_ragged_eofs=True) as encrypted:
            encrypted.sendall(b"NOOP\r\n")
            assert encrypted.recv(4096) == b"250 2.0.0 Ok NOOP\r\n"
        assert sink.mails == []


def test_more_tls_sessions_than_allowed_go_on_without(certificate: tuple[Path, Path]) -> None:
    with running(certificate) as (port, _), smtplib.SMTP("127.0.0.1", port, timeout=20) as first:
        first.starttls(context=context())
        first.ehlo()
        with Talk(port) as second:
            second.greet()
            assert second.ask("STARTTLS").startswith("454 4.7.0")
            assert second.deliver().startswith("250 ")


def test_a_broken_handshake_costs_only_its_connection(certificate: tuple[Path, Path]) -> None:
    with running(certificate) as (port, _):
        with Talk(port) as talk:
            talk.greet()
            assert talk.ask("STARTTLS").startswith("220 ")
            talk.say(b"this is no handshake\r\n")
            with contextlib.suppress(ConnectionResetError):
                while talk.sock.recv(4096):
                    continue
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as smtp:
            smtp.starttls(context=context())
            smtp.sendmail("a@example.org", ["b@example.com"], MAIL)

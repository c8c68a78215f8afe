"""The reference deployment behind a real Postfix, on each of its three routes and for clients of both families."""

from __future__ import annotations

import re
import smtplib
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from amavispy.cli.log_line import LogLine, parse
from tests.corpus import build
from tests.integration.deployment import Deployment
from tests.running import wait_until

_numbers = count(1)


@pytest.fixture(scope="module")
def running() -> Iterator[Deployment]:
    with Deployment() as deployment:
        yield deployment


def submit(port: int, client: str, content: bytes, host: str = "127.0.0.1") -> tuple[int, str, str]:
    """Send one mail to Postfix as the given client; the reply's code and text, and the mail's Message-ID."""
    message_id = f"<{next(_numbers)}@reference.test>"
    octets = re.sub(rb"(?im)^Message-ID: [^\r\n]*", f"Message-ID: {message_id}".encode(), content, count=1)
    with smtplib.SMTP(host, port, timeout=60) as smtp:
        smtp.ehlo("client.example")
        family = "IPV6:" if ":" in client else ""
        smtp.docmd(f"XCLIENT ADDR={family}{client} NAME=client.example PORT=2525")
        smtp.ehlo("client.example")
        smtp.mail("alice@example.org")
        smtp.rcpt("bob@example.com")
        code, text = smtp.data(octets)
    return code, text.decode(errors="replace"), message_id


def line_about(running: Deployment, message_id: str) -> LogLine:
    def found() -> list[LogLine]:
        lines = map(parse, running.amavispy.log().splitlines())
        return [line for line in lines if line and line.message_id == message_id]

    logs = f"{running.postfix.log()[-3000:]}\n{running.amavispy.log()[-3000:]}"
    wait_until(found, f"a log line about {message_id}; the logs say:\n{logs}")
    return found()[0]


CLIENTS = [
    ("127.0.0.1", "LOCALHOST"),
    ("192.0.2.5", "PARTNER"),
    ("192.0.2.129", "PARTNER"),
    ("192.0.2.130", "PARTNER"),
    ("192.0.2.131", ""),
    ("203.0.113.9", "SUBMISSION"),
    ("172.16.1.9", ""),
    ("172.16.2.9", "PRIVATENETS"),
    ("192.168.7.7", "PRIVATENETS"),
    ("10.3.2.1", "MYNETS"),
    ("198.51.100.1", ""),
    ("2001:db8::17", ""),
    ("::1", "LOCALHOST"),
]
ROUTES = [
    ("filtered", "SUBMISSION-IN"),
    ("by_lmtp", "SUBMISSION-IN"),
    ("proxied", "SUBMISSION-IN"),
    ("milted", "AM.PDP-SOCK"),
]


@pytest.mark.parametrize(("client", "bank"), CLIENTS)
@pytest.mark.parametrize(("route", "interface_bank"), ROUTES)
def test_the_bank_comes_from_the_socket_and_then_from_the_client(
    running: Deployment, route: str, interface_bank: str, client: str, bank: str
) -> None:
    code, text, message_id = submit(getattr(running.postfix, route), client, build.text())
    assert code == 250, text
    line = line_about(running, message_id)
    assert line.banks == "/".join(filter(None, [interface_bank, bank]))
    assert line.client == client
    assert line.verb == "Passed"


BYPASSES_BANNED = {"PARTNER"}


@pytest.mark.parametrize(("route", "interface_bank"), ROUTES)
@pytest.mark.parametrize(
    ("client", "bank"), [("192.0.2.129", "PARTNER"), ("198.51.100.1", ""), ("172.16.2.9", "PRIVATENETS")]
)
def test_a_bank_lifts_the_banned_checks(
    running: Deployment, route: str, interface_bank: str, client: str, bank: str
) -> None:
    code, text, message_id = submit(getattr(running.postfix, route), client, build.exe_zip())
    line = line_about(running, message_id)
    if bank in BYPASSES_BANNED:
        assert (code, line.verb, line.kind) == (250, "Passed", "CLEAN")
    else:
        assert (line.verb, line.kind.split()[0]) == ("Blocked", "BANNED")
        assert code == (554 if route == "milted" else 250), text  # before the queue it is refused, behind it bounced
        assert line.quarantine


@pytest.mark.parametrize(("route", "interface_bank"), ROUTES)
@pytest.mark.parametrize("client", ["192.0.2.129", "198.51.100.1", "127.0.0.1", "203.0.113.9"])
def test_virus_checks_stay_for_every_client(running: Deployment, route: str, interface_bank: str, client: str) -> None:
    before = len(running.sink.mails)
    code, text, message_id = submit(getattr(running.postfix, route), client, build.eicar())
    line = line_about(running, message_id)
    assert (line.verb, line.kind.split()[0]) == ("Blocked", "INFECTED")
    assert code == (554 if route == "milted" else 250), text
    assert not any(message_id.encode() in mail.octets for mail in running.sink.mails[before:])


@pytest.mark.parametrize(
    ("client", "is_checked"), [("198.51.100.1", True), ("172.16.2.9", False), ("192.0.2.129", False)]
)
def test_a_bank_lifts_the_spam_checks(running: Deployment, client: str, is_checked: bool) -> None:
    _, _, message_id = submit(running.postfix.filtered, client, build.gtube())
    line = line_about(running, message_id)
    assert line.kind.startswith("SPAM") is is_checked
    assert line.verb == "Passed", "final_spam_destiny is D_PASS"


def test_a_filtered_mail_comes_back_with_its_octets_and_our_header_fields(running: Deployment) -> None:
    _, _, message_id = submit(running.postfix.filtered, "198.51.100.1", build.text())
    running.sink.wait_for(lambda: any(message_id.encode() in m.octets for m in running.sink.mails))
    octets = next(m.octets for m in running.sink.mails if message_id.encode() in m.octets)
    assert b"X-Virus-Scanned: amavispy at example.com\r\n" in octets
    assert octets.endswith(build.text().partition(b"\r\n\r\n")[2])


def test_a_bounced_mail_tells_its_sender_and_nobody_else(running: Deployment) -> None:
    before = len(running.sink.mails)
    _, _, message_id = submit(running.postfix.filtered, "198.51.100.1", build.exe_zip())
    assert "Bounced" in line_about(running, message_id).actions
    running.sink.wait_for(lambda: any(message_id.encode() in m.octets for m in running.sink.mails[before:]))
    bounce = next(m for m in running.sink.mails[before:] if message_id.encode() in m.octets)
    assert (bounce.sender, bounce.recipients) == ("", ["alice@example.org"])
    assert b"delivery-status" in bounce.octets.partition(b"\r\n\r\n")[0]
    assert b"UEsDB" not in bounce.octets, "the zip itself is not sent back"


def test_mail_over_ipv6_takes_the_same_way(running: Deployment) -> None:
    code, text, message_id = submit(running.postfix.filtered6, "2001:db8::25", build.text(), host="::1")
    assert code == 250, text
    assert line_about(running, message_id).client == "2001:db8::25"


def test_a_quarantined_mail_is_released_by_the_real_amavisd_release(running: Deployment) -> None:
    _, _, message_id = submit(running.postfix.filtered, "198.51.100.1", build.exe_zip())
    line = line_about(running, message_id)
    secret = secret_of(running, line.mail_id)
    done = release(running, line.quarantine, secret)
    assert "250 2.0.0" in done.stderr, done.stderr
    running.sink.wait_for(lambda: any(message_id.encode() in m.octets for m in running.sink.mails))


def test_a_release_with_a_wrong_secret_is_refused(running: Deployment) -> None:
    _, _, message_id = submit(running.postfix.filtered, "198.51.100.1", build.exe_zip())
    line = line_about(running, message_id)
    done = release(running, line.quarantine, "AAAAAAAAAAAA")
    assert "does not match" in done.stderr


def release(running: Deployment, location: str, secret: str) -> subprocess.CompletedProcess[str]:
    """The real client, told by a copy of its own text where our release socket is (it has no option for that)."""
    program = running.amavispy.directory / "amavisd-release"
    text = Path("/usr/sbin/amavisd-release").read_text(encoding="latin-1")
    changed = _with_socket(text, running.ports[9998])
    program.write_text(changed, encoding="latin-1")
    return subprocess.run(["perl", "-T", program, location, secret], capture_output=True, text=True, timeout=60)


def _with_socket(text: str, port: int) -> str:
    lines = [
        f"    $socketname = '[::1]:{port}';" if line.strip().startswith("$socketname =") else line
        for line in text.split("\n")
    ]
    assert lines != text.split("\n"), "amavisd-release names its socket"
    return "\n".join(lines)


def secret_of(running: Deployment, mail_id: str) -> str:
    from amavispy.mail.ids import IdIssuer

    key = (running.amavispy.home / "release.key").read_bytes()
    return IdIssuer(key).secret_of(mail_id)

"""Bad input gets a clear answer, leaves one line in the log, and the daemon serving."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import RunningDaemon
from tests.sink import Sink


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def running(sink: Sink) -> Iterator[tuple[int, RunningDaemon]]:
    port, config = small_config(sink.port, workers=4)
    with RunningDaemon(config) as daemon:
        yield port, daemon


@pytest.fixture(autouse=True)
def _serves_on(running: tuple[int, RunningDaemon]) -> Iterator[None]:
    """Whatever a test does, the next client is served."""
    yield
    with Talk(running[0]) as talk:
        talk.greet()
        assert talk.deliver().startswith("250 ")
    assert "Traceback" not in running[1].log() + running[1].output()


def test_broken_syntax_is_answered(running: tuple[int, RunningDaemon]) -> None:
    with Talk(running[0]) as talk:
        talk.greet()
        assert talk.ask("MAIL FROM:a@example.org").startswith("501 5.5.2")
        assert talk.ask("!!").startswith("500 5.5.2")


def test_a_command_line_of_ten_megabytes_costs_no_memory(running: tuple[int, RunningDaemon]) -> None:
    port, daemon = running
    before = _memory(daemon)
    with Talk(port) as talk:
        talk.greet()
        for _ in range(160):
            talk.say(b"x" * 65536)
        talk.say(b"\r\n")
        assert talk.hear().startswith("500 5.5.")
    assert _memory(daemon) - before < 4_000_000


def _memory(daemon: RunningDaemon) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in daemon.workers())


def test_a_nul_in_a_command_is_refused(running: tuple[int, RunningDaemon]) -> None:
    with Talk(running[0]) as talk:
        talk.greet()
        talk.say(b"MAIL FROM:<a\0b@example.org>\r\n")
        assert talk.hear()[0] == "5"


@pytest.mark.parametrize("line_end", [b"\n", b"\r"])
def test_a_bare_line_end_is_never_passed_on(running: tuple[int, RunningDaemon], sink: Sink, line_end: bytes) -> None:
    smuggled = MAIL + b"tail" + line_end + b"." + line_end + b"MAIL FROM:<evil@example.org>" + line_end
    with Talk(running[0]) as talk:
        talk.greet()
        for step in ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"):
            talk.ask(step)
        talk.say(smuggled + b"\r\n.\r\n")
        assert talk.hear().startswith("250 ")
    octets = sink.mails[-1].octets
    assert octets.count(b"\r\n") == octets.count(b"\n") == octets.count(b"\r")
    assert b"\r\n.\r\n" not in sink.wires[-1]
    assert sink.mails[-1].sender == "a@example.org"


def test_endless_headers_are_taken_in_linear_time(running: tuple[int, RunningDaemon]) -> None:
    with Talk(running[0]) as talk:
        talk.greet()
        header = b"".join(b"X-Field-%d: value\r\n" % number for number in range(100_000))
        assert talk.deliver(header + MAIL).startswith("250 ")


def test_a_thousand_idle_connections_leave_room_for_a_client(running: tuple[int, RunningDaemon]) -> None:
    port, _ = running
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
        talk = stack.enter_context(Talk(port))
        talk.greet()
        assert talk.deliver().startswith("250 ")


def test_a_half_closed_peer_still_hears_its_reply(running: tuple[int, RunningDaemon]) -> None:
    with Talk(running[0]) as talk:
        talk.greet()
        commands = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" + MAIL + b".\r\n"
        talk.say(commands)
        talk.sock.shutdown(socket.SHUT_WR)
        replies = [talk.hear() for _ in range(4)]
        assert [reply[:3] for reply in replies] == ["250", "250", "354", "250"]


def test_mails_sent_in_one_breath_are_all_answered(running: tuple[int, RunningDaemon], sink: Sink) -> None:
    """amavisd waits for more input with the second mail in its buffer, and runs that in the next client's session."""
    before = len(sink.mails)
    one = b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" + MAIL + b".\r\n"
    with Talk(running[0]) as talk:
        talk.greet()
        talk.say(one * 5 + b"QUIT\r\n")
        codes = [talk.hear()[:3] for _ in range(21)]
    assert codes == ["250", "250", "354", "250"] * 5 + ["221"]
    assert len(sink.mails) == before + 5


def test_what_one_client_left_behind_is_never_run_for_another(running: tuple[int, RunningDaemon], sink: Sink) -> None:
    port, _ = running
    before = len(sink.mails)
    for _ in range(8):
        with Talk(port) as talk:
            talk.greet()
            talk.say(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nSubject: half")
    with Talk(port) as talk:
        assert talk.greet().startswith("250")
        assert talk.ask("NOOP") == "250 2.0.0 Ok NOOP"
    assert len(sink.mails) == before


AMPDP_REQUESTS = {
    "a path outside": ("request=AM.PDP", "tempdir=/etc", "mail_file=/etc/passwd"),
    "a file outside its directory": ("request=AM.PDP", "tempdir={home}/tmp", "mail_file=/etc/passwd"),
    "dots": ("request=AM.PDP", "tempdir={home}/tmp/../../etc", "mail_file={home}/tmp/../../etc/passwd"),
    "a missing file": ("request=AM.PDP", "tempdir={home}/tmp/none", "mail_file={home}/tmp/none/email.txt"),
    "our own directory": ("request=AM.PDP", "tempdir={home}/tmp", "mail_file={home}/tmp/email.txt"),
    "the quarantine": ("request=AM.PDP", "tempdir={home}/quarantine", "mail_file={home}/quarantine/virus-x"),
    "no such request": ("request=frobnicate",),
    "no request at all": ("sender=<a@example.org>",),
}


@pytest.mark.parametrize("name", AMPDP_REQUESTS)
def test_a_bad_ampdp_request_tempfails_with_one_line_in_the_log(running: tuple[int, RunningDaemon], name: str) -> None:
    _, daemon = running
    lines = len(daemon.log().splitlines())
    with Talk(str(daemon.home / "amavisd.sock")) as talk:
        attributes = [line.format(home=daemon.home) for line in AMPDP_REQUESTS[name]]
        talk.say("\r\n".join([*attributes, "sender=<a@example.org>", "recipient=<b@example.com>", ""]))
        answer = talk.block()
    assert "setreply=450 4.5.0" in answer
    assert "return_value=tempfail" in answer
    assert "root:" not in answer
    assert len(daemon.log().splitlines()) == lines + 1
    assert (daemon.home / "quarantine").is_dir()
    assert (daemon.home / "tmp").is_dir()


def test_an_ampdp_link_is_not_followed(running: tuple[int, RunningDaemon]) -> None:
    _, daemon = running
    work = Path(daemon.home / "tmp/amavis-link")
    work.mkdir()
    work.chmod(0o755)
    (work / "email.txt").symlink_to("/etc/passwd")
    with Talk(str(daemon.home / "amavisd.sock")) as talk:
        talk.say(
            f"request=AM.PDP\r\ntempdir={work}\r\ntempdir_removed_by=client\r\nsender=<a@b>\r\nrecipient=<c@d>\r\n"
        )
        assert "return_value=tempfail" in talk.block()

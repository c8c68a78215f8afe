"""When something behind or beside us fails, the client hears 4xx and keeps the mail; nothing slips by."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus import build
from tests.integration.daemons import Clamd
from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import RunningDaemon, free_port, wait_until
from tests.sink import CLOSE_AFTER, DROP, Sink


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def daemon(sink: Sink) -> Iterator[tuple[int, RunningDaemon]]:
    port, config = small_config(sink.port, extra='child_timeout = "5s"')
    with RunningDaemon(config) as running:
        yield port, running


@pytest.fixture(autouse=True)
def _usual_replies(sink: Sink) -> Iterator[None]:
    usual = dict(sink.replies)
    yield
    sink.replies.update(usual)


def deliver(port: int, octets: bytes = MAIL, *recipients: str) -> str:
    with Talk(port) as talk:
        talk.greet()
        return talk.deliver(octets, *recipients)


def test_a_next_hop_that_is_down_leaves_the_mail_with_the_client() -> None:
    port, config = small_config(free_port())
    with RunningDaemon(config) as running:
        reply = deliver(port)
        assert reply.startswith("451 4.5.0 id="), reply
        assert "Temporary MTA failure on relaying" in reply
        running.wait_for_log("Blocked MTA-BLOCKED {TempFailedInbound}")


@pytest.mark.parametrize(
    ("stage", "answer", "heard"),
    [
        ("rcpt", "452 4.2.2 Mailbox full", "452 4.2.2"),
        ("mail", "452 4.3.1 Insufficient system storage", "452 4.3.1"),
        ("eod", "452 4.3.1 Insufficient system storage", "452 4.3.1"),
        ("connect", "554 5.7.1 no way", "451 4.5.0"),
        ("content", DROP, "451 4.5.0"),
        ("eod", DROP, "451 4.5.0"),
        ("data", CLOSE_AFTER + "421 4.3.2 shutting down", "421 4.3.2"),
    ],
)
def test_a_next_hop_that_is_full_or_dies_tempfails(
    sink: Sink, daemon: tuple[int, RunningDaemon], stage: str, answer: object, heard: str
) -> None:
    sink.drop_connections()
    sink.replies[stage] = answer
    before = len(sink.mails)
    assert deliver(daemon[0]).startswith(heard)
    assert len(sink.mails) == before


def test_a_next_hop_that_is_slow_is_given_up_in_time(sink: Sink) -> None:
    with Sink() as slow:
        port, config = small_config(slow.port, extra='child_timeout = "5s"')
        with RunningDaemon(config) as running:
            slow.hold("eod")
            assert deliver(port).startswith("4")
            running.wait_for_log("MTA-BLOCKED")


def test_a_refused_mail_is_passed_on_with_the_next_hops_words(sink: Sink, daemon: tuple[int, RunningDaemon]) -> None:
    sink.replies["eod"] = "554 5.7.1 no way"
    reply = deliver(daemon[0])
    assert reply.startswith("554 5.7.1 id=")
    assert "Rejected by next-hop MTA on relaying, from MTA(smtp:[127.0.0.1]:" in reply


CLAMD = """
[[av_scanners]]
name = "ClamAV-clamd"
type = "clamd"
address = "{path}"
timeout = "3s"
on_failure = "{policy}"
"""


def test_without_clamd_no_mail_passes_unless_the_policy_says_so(sink: Sink) -> None:
    with Clamd() as clamd:
        port, config = small_config(sink.port, tables=CLAMD.format(path=clamd.socket, policy="tempfail"))
        with RunningDaemon(config) as running:
            assert deliver(port).startswith("250 ")
            clamd.process.send_signal(signal.SIGSTOP)
            assert deliver(port).startswith("451 4.5.0 Error in processing, id=")
            clamd.process.send_signal(signal.SIGCONT)
            assert deliver(port).startswith("250 ")
            clamd.end()
            before = len(sink.mails)
            assert deliver(port).startswith("451 4.5.0 Error in processing, id=")
            assert len(sink.mails) == before
            assert "virus_scan FAILED" in running.log()


def test_a_scanner_that_may_fail_makes_mail_unchecked_and_says_so(sink: Sink) -> None:
    port, config = small_config(sink.port, tables=CLAMD.format(path="/nonexistent/clamd.ctl", policy="unchecked"))
    with RunningDaemon(config) as running:
        assert deliver(port).startswith("250 ")
        running.wait_for_log("Passed UNCHECKED")


def test_a_full_disk_in_the_spool_tempfails_and_the_daemon_serves_on(sink: Sink) -> None:
    port, config = small_config(sink.port, extra='spool_threshold = "16KiB"')
    with RunningDaemon(config, full_tempbase=True), Talk(port) as talk:
        talk.greet()
        assert talk.deliver(build.text(4_000_000)).startswith("452 4.3.1")
        assert talk.deliver().startswith("250 ")


def test_a_killed_worker_costs_its_client_the_connection_and_nothing_else(sink: Sink) -> None:
    with Sink() as slow:
        port, config = small_config(slow.port)
        with RunningDaemon(config) as running, Talk(port) as talk:
            talk.greet()
            release = slow.hold("eod")
            for step in ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"):
                talk.ask(step)
            talk.say(MAIL + b".\r\n")
            slow.reached("eod")
            os.kill(_worker_in(running, slow.port), signal.SIGKILL)
            assert talk.hear() == ""
            release.set()
            assert deliver(port).startswith("250 ")


def _worker_in(running: RunningDaemon, port: int) -> int:
    """The worker that talks to the next hop: the one child with an open connection there."""
    wanted = f":{port:04X} 01"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if f"{row[2][8:]} {row[3]}" == wanted}
    for pid in running.workers():
        for link in Path(f"/proc/{pid}/fd").iterdir():
            if os.readlink(link).removeprefix("socket:[").rstrip("]") in inodes:
                return pid
    raise AssertionError("no worker talks to the next hop")


def test_a_message_that_takes_too_long_is_answered_by_its_own_worker(sink: Sink) -> None:
    with Sink() as slow:
        port, config = small_config(slow.port, extra='child_timeout = "5s"')
        with RunningDaemon(config), Talk(port) as talk:
            talk.greet()
            slow.hold("eod")
            assert talk.deliver().startswith("45")


def test_stopping_tells_a_client_in_the_middle_of_a_mail(sink: Sink) -> None:
    port, config = small_config(sink.port)
    with RunningDaemon(config) as running, Talk(port) as talk:
        talk.greet()
        for step in ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"):
            talk.ask(step)
        talk.say(b"Subject: half\r\n")
        wait_until(lambda: "receiving data" in running.states(), "a worker that receives")
        running.process.send_signal(signal.SIGTERM)
        assert talk.hear().startswith("421 4.3.2 Service shutting down")
        assert running.process.wait(20) == 0

"""What amavisd does when its processes are killed, exhausted or idle, case by case, and what we do.

The cases are those recorded from amavisd 2.13 ("kill", "exhaust", "idle"). Where we answer otherwise the reason stands
beside the case.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import RunningDaemon, wait_until
from tests.sink import Sink


@dataclass
class Running:
    port: int
    daemon: RunningDaemon
    sink: Sink

    def worker(self, state: str) -> int:
        """The one worker in this state, once there is one."""
        found: list[int] = []

        def look() -> bool:
            found[:] = [p["pid"] for p in self.daemon.status() if p["role"] == "worker" and p["state"] == state]
            return bool(found)

        wait_until(look, f"a worker in state {state}")
        return found[0]


@pytest.fixture
def running() -> Iterator[Running]:
    with Sink() as sink:
        port, config = small_config(sink.port)
        with RunningDaemon(config) as daemon:
            yield Running(port, daemon, sink)


def begin(talk: Talk) -> None:
    """Up to the middle of DATA."""
    talk.greet()
    for step in ("MAIL FROM:<a@example.org>", "RCPT TO:<b@example.com>", "DATA"):
        assert talk.ask(step)[0] in "23"
    talk.say(MAIL[:40])


def finish(talk: Talk) -> None:
    talk.say(MAIL[40:] + b".\r\n")


def next_message(running: Running) -> str:
    with Talk(running.port) as talk:
        talk.greet()
        return talk.deliver()


class TestAWorkerIsKilled:
    def test_kill_in_data_closes_the_connection_and_delivers_nothing(self, running: Running) -> None:
        """As amavisd; the mail it leaves in its work directory, we do not: a spool file has no name."""
        with Talk(running.port) as talk:
            begin(talk)
            os.kill(running.worker("receiving data"), signal.SIGKILL)
            assert talk.hear() == ""
        assert running.sink.mails == []
        assert list((running.daemon.home / "tmp").iterdir()) == []
        assert next_message(running).startswith("250 ")

    def test_kill_while_waiting_for_the_next_hop_closes_the_connection(self, running: Running) -> None:
        """As amavisd: the next hop may have the mail, the client sends it again; twice rather than never."""
        release = running.sink.hold("eod")
        with Talk(running.port) as talk:
            begin(talk)
            finish(talk)
            running.sink.reached("eod")
            os.kill(running.worker("checking"), signal.SIGKILL)
            assert talk.hear() == ""
        release.set()
        assert next_message(running).startswith("250 ")

    def test_term_in_data_says_421(self, running: Running) -> None:
        """As amavisd; its text tells the signal as well, which is nobody's business."""
        with Talk(running.port) as talk:
            begin(talk)
            os.kill(running.worker("receiving data"), signal.SIGTERM)
            assert talk.hear().startswith("421 4.3.2 Service shutting down")
        assert running.sink.mails == []
        assert next_message(running).startswith("250 ")

    def test_term_while_waiting_for_the_next_hop_lets_the_mail_through(self, running: Running) -> None:
        """amavisd says 421 although the next hop takes the mail: a duplicate. We finish what has begun."""
        release = running.sink.hold("eod")
        with Talk(running.port) as talk:
            begin(talk)
            finish(talk)
            running.sink.reached("eod")
            os.kill(running.worker("checking"), signal.SIGTERM)
            release.set()
            assert talk.hear().startswith("250 2.0.0 from MTA(")
        assert len(running.sink.mails) == 1
        assert next_message(running).startswith("250 ")

    @pytest.mark.parametrize("stage", ["in DATA", "waiting for the next hop"])
    def test_hup_never_costs_a_mail(self, running: Running, stage: str) -> None:
        """amavisd breaks the connection in DATA, and answers 451 for a mail that the next hop has taken."""
        release = running.sink.hold("eod")
        with Talk(running.port) as talk:
            begin(talk)
            if stage == "in DATA":
                os.kill(running.worker("receiving data"), signal.SIGHUP)
                finish(talk)
                release.set()
            else:
                finish(talk)
                running.sink.reached("eod")
                os.kill(running.worker("checking"), signal.SIGHUP)
                release.set()
            assert talk.hear().startswith("250 2.0.0 from MTA(")
        assert len(running.sink.mails) == 1


class TestTheMasterIsKilled:
    def test_kill_lets_the_worker_finish_and_then_all_is_over(self, running: Running) -> None:
        """amavisd's orphans serve on, with nobody to replace or stop them; ours finish and go."""
        children = running.daemon.workers()
        release = running.sink.hold("eod")
        with Talk(running.port) as talk:
            begin(talk)
            finish(talk)
            running.sink.reached("eod")
            running.daemon.process.kill()
            running.daemon.process.wait()
            release.set()
            assert talk.hear().startswith("250 2.0.0 from MTA(")
        wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), "the end of the orphans")

    def test_hup_lets_the_mail_through_and_serves_on(self, running: Running) -> None:
        """amavisd answers 451 for a mail that the next hop has taken."""
        release = running.sink.hold("eod")
        with Talk(running.port) as talk:
            begin(talk)
            finish(talk)
            running.sink.reached("eod")
            running.daemon.reload()
            release.set()
            assert talk.hear().startswith("250 2.0.0 from MTA(")
        assert len(running.sink.mails) == 1
        assert next_message(running).startswith("250 ")

    def test_term_ends_it_and_refuses_new_connections(self, running: Running) -> None:
        """amavisd tells a client 421 whose mail the next hop takes; ours waits some seconds for the reply first."""
        release = running.sink.hold("eod")
        with Talk(running.port) as talk:
            begin(talk)
            finish(talk)
            running.sink.reached("eod")
            running.daemon.process.terminate()
            release.set()
            assert talk.hear()[0] in "24"
        assert running.daemon.process.wait(20) == 0
        with pytest.raises(ConnectionRefusedError):
            Talk(running.port)


class TestAllWorkersAreBusy:
    def test_a_third_client_is_greeted_and_served_when_a_worker_is_free(self, running: Running) -> None:
        """amavisd's third client gets no greeting; ours is greeted, and waits for a worker only at MAIL."""
        with contextlib.ExitStack() as stack:
            holders = [stack.enter_context(Talk(running.port)) for _ in range(2)]
            for holder in holders:
                begin(holder)
            third = stack.enter_context(Talk(running.port))
            assert third.greet().startswith("250")
            third.say("MAIL FROM:<c@example.org>")
            finish(holders[0])
            assert holders[0].hear().startswith("250 ")
            assert third.hear() == "250 2.1.0 Sender <c@example.org> OK"

    def test_who_waits_too_long_hears_421(self) -> None:
        with Sink() as sink:
            port, config = small_config(sink.port, workers=1, extra='max_wait = "1s"')
            with RunningDaemon(config), Talk(port) as holder, Talk(port) as waiting:
                begin(holder)
                waiting.greet()
                assert waiting.ask("MAIL FROM:<c@example.org>").startswith("421 4.3.2")


def test_a_thousand_idle_connections_are_all_greeted_and_a_new_client_is_served() -> None:
    """amavisd greets four and serves nobody for eight minutes."""
    with Sink() as sink, contextlib.ExitStack() as stack:
        port, config = small_config(sink.port, workers=4)
        stack.enter_context(RunningDaemon(config))
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(1000)]
        assert all(connection.recv(100).startswith(b"220 ") for connection in idle)
        talk = stack.enter_context(Talk(port))
        talk.greet()
        assert talk.deliver().startswith("250 ")
        idle[500].sendall(b"EHLO x\r\n")
        assert idle[500].recv(1000).startswith(b"250-")

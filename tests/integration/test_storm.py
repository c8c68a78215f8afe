"""Two thousand messages through the post-queue route of a real Postfix, while reloads and killed workers rain down."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter

import psutil
import pytest

from tests.integration.deployment import Deployment
from tests.running import RunningDaemon, wait_until

MESSAGES = 2000
SESSIONS = 20


@pytest.mark.timeout(600)
def test_no_message_is_lost_while_reloads_and_kills_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    with Deployment(filters=16, extra=("--set", "bypass_spam_checks_maps=true")) as running:
        over = threading.Event()
        storm = Storm(running.amavispy)
        threads = [threading.Thread(target=target, args=(over,)) for target in (storm.reload, storm.kill)]
        for thread in threads:
            thread.start()
        send(running.postfix.filtered)
        wait_for_all(running)
        over.set()
        for thread in threads:
            thread.join()
        counted = Counter(mail.recipients[0] for mail in running.sink.mails)
        missing = MESSAGES - len(counted)
        duplicates = sum(counted.values()) - len(counted)
        with capsys.disabled():
            print(
                f"\n{MESSAGES} messages, {storm.reloads} reloads, {storm.kills} workers killed: "
                f"{missing} lost, {duplicates} duplicates"
            )
        assert missing == 0
        assert storm.reloads >= 5
        assert storm.kills >= 2
        assert "Traceback" not in running.amavispy.log() + running.amavispy.output()


def send(port: int) -> None:
    """smtp-source numbers the recipients, so each message is known by its own."""
    command = ["smtp-source", "-s", str(SESSIONS), "-m", str(MESSAGES), "-l", "4096", "-N", "-f", "a@example.org"]
    subprocess.run([*command, "-t", "b@example.com", f"inet:127.0.0.1:{port}"], check=True, timeout=300)


def wait_for_all(running: Deployment) -> None:
    """Until everything has arrived; what Postfix deferred is tried again each second."""
    end = time.monotonic() + 240

    def arrived() -> bool:
        return len({mail.recipients[0] for mail in running.sink.mails}) >= MESSAGES

    while not arrived() and time.monotonic() < end:
        running.postfix.flush()
        try:
            wait_until(arrived, "all messages", 1.0)
        except AssertionError:
            continue


class Storm:
    """Reloads every second, kills a worker every two, until told that it is over."""

    def __init__(self, daemon: RunningDaemon) -> None:
        self._daemon = daemon
        self.reloads = 0
        self.kills = 0

    def reload(self, over: threading.Event) -> None:
        while not over.wait(1.0):
            self._daemon.process.send_signal(signal.SIGHUP)
            self.reloads += 1

    def kill(self, over: threading.Event) -> None:
        dice = random.Random(7)
        while not over.wait(2.0):
            workers = [pid for pid in self._daemon.workers() if _is_worker(pid)]
            if workers:
                os.kill(dice.choice(workers), signal.SIGKILL)
                self.kills += 1


def _is_worker(pid: int) -> bool:
    try:
        return "gateway" not in " ".join(psutil.Process(pid).cmdline())
    except psutil.NoSuchProcess:
        return False

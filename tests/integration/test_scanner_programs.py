"""Scanners that want files, in a whole daemon: its workers have given up root, and files come and go with the mails."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemons import EICAR, Clamd
from tests.integration.small import small_config
from tests.integration.talk import MAIL, Talk
from tests.running import RunningDaemon, wait_until
from tests.sink import Sink

INFECTED = MAIL + EICAR + b"\r\n"
NAME = "Eicar-Signature.UNOFFICIAL"


def tables(clamd: Clamd) -> str:
    """clamd asked by a line, and clamscan when that fails; a bank for what is found."""
    return rf"""
[[av_scanners]]
name = "clamd"
type = "daemon"
address = ["/nowhere/clamd.ctl", "{clamd.socket}"]
query = "CONTSCAN {{}}\n"
clean = '\bOK$'
infected = '\bFOUND$'
names = '^.*?: (?!Infected Archive)(.*) FOUND$'

[[av_scanners_backup]]
name = "clamscan"
type = "command"
command = ["/usr/bin/clamscan", "--no-summary", "-r", "--database={clamd.database}", "{{}}"]
timeout = 60
clean = [0]
infected = [1]
names = '^.*?: (?!Infected Archive)(.*) FOUND$'

[policy_bank.VIRUS]
final_virus_destiny = "D_REJECT"
"""


class Deployment:
    def __init__(self, clamd: Clamd, sink: Sink) -> None:
        extra = 'virus_name_to_policy_bank_maps = [{ regexp = [["^Eicar", "VIRUS"]] }]\n'
        self.clamd = clamd
        self.port, config = small_config(sink.next_hop.port, workers=1, extra=extra, tables=tables(clamd))
        self.daemon = RunningDaemon(config)

    def send(self, mail: bytes) -> str:
        with Talk(self.port, timeout=60) as talk:
            talk.greet()
            return talk.deliver(mail)

    def directories(self) -> list[Path]:
        return sorted((self.daemon.home / "tmp").glob("parts-*"))


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    with Clamd() as clamd, Sink() as sink:
        clamd.directory.chmod(0o755)
        made = Deployment(clamd, sink)
        with made.daemon:
            yield made


def test_files_are_scanned_by_a_daemon_and_by_a_program_that_stands_in_for_it(deployment: Deployment) -> None:
    assert deployment.send(MAIL).startswith("250 ")
    refused = deployment.send(INFECTED)
    assert refused.startswith("554 5.7.0 Reject, id=")
    assert f"INFECTED: {NAME}" in refused
    deployment.clamd.end()
    assert deployment.send(MAIL).startswith("250 ")
    assert f"INFECTED: {NAME}" in deployment.send(INFECTED)
    log = deployment.daemon.wait_for_log("Blocked INFECTED", 2)
    assert "WARN: all primary virus scanners failed, considering backups" in log
    assert log.count(f"Blocked INFECTED ({NAME})") == 2
    assert log.count("Passed CLEAN") == 2
    (directory,) = deployment.directories()
    assert list(directory.iterdir()) == []


def test_without_any_scanner_that_answers_the_mail_stays_with_the_client(deployment: Deployment) -> None:
    deployment.clamd.end()
    for file in deployment.clamd.database.iterdir():
        file.unlink()
    answer = deployment.send(MAIL)
    assert answer.startswith("451 4.5.0 Error in processing")
    assert "ALL VIRUS SCANNERS FAILED" in answer


def test_a_killed_workers_directory_is_removed_by_the_next_one(deployment: Deployment) -> None:
    assert deployment.send(MAIL).startswith("250 ")
    (before,) = deployment.directories()
    os.kill(int(before.name.split("-")[1]), signal.SIGKILL)
    wait_until(lambda: not Path(f"/proc/{before.name.split('-')[1]}").exists(), "the worker is gone")
    assert deployment.send(MAIL).startswith("250 ")
    (after,) = deployment.directories()
    assert after != before

"""A running daemon and its decoder children: forked when there is something to unpack, replaced, and gone with it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.corpus import build
from tests.inspection import bombs
from tests.integration.small import small_config
from tests.integration.talk import Talk
from tests.running import RunningDaemon, wait_until
from tests.sink import Sink

SETTINGS = """
log_level = 2
final_banned_destiny = "D_REJECT"
banned_filename_re = ['(?i)\\.(exe|vbs)$']
"""


@pytest.fixture
def daemon() -> Iterator[tuple[int, RunningDaemon]]:
    with Sink() as sink:
        port, config = small_config(sink.port, workers=1, extra=SETTINGS)
        with RunningDaemon(config) as running:
            yield port, running


def deliver(port: int, octets: bytes) -> str:
    with Talk(port) as talk:
        talk.greet()
        return talk.deliver(octets)


def decoders(running: RunningDaemon) -> list[int]:
    """The workers' children."""
    found = []
    for worker in running.workers():
        children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
        found += [int(child) for child in children]
    return found


def test_ordinary_mail_is_decoded_without_any_child(daemon: tuple[int, RunningDaemon]) -> None:
    port, running = daemon
    report = build.entity(build.PDF, "application/pdf", "report.pdf")
    picture = build.entity(build.PNG, "image/png", "picture.png")
    for mail in (build.text(), build.html(), build.multipart([build.plain(), report, picture])):
        assert deliver(port, mail).startswith("250 ")
    assert decoders(running) == []


def test_one_child_serves_a_worker_and_is_replaced_when_it_dies(daemon: tuple[int, RunningDaemon]) -> None:
    port, running = daemon
    assert deliver(port, build.exe_zip()).startswith("554 ")
    (child,) = decoders(running)
    assert deliver(port, build.exe_zip()).startswith("554 ")
    assert decoders(running) == [child]
    os.kill(child, signal.SIGKILL)
    stat = Path(f"/proc/{child}/stat")
    wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "Z", "the decoder is dead")
    assert deliver(port, build.exe_zip()).startswith("554 ")
    assert len(decoders(running)) == 1
    assert decoders(running) != [child]


def test_a_child_is_no_more_than_it_needs_to_be(daemon: tuple[int, RunningDaemon]) -> None:
    port, running = daemon
    deliver(port, build.exe_zip())
    (child,) = decoders(running)
    status = dict(line.split(":", 1) for line in Path(f"/proc/{child}/status").read_text().splitlines())
    assert (status["NoNewPrivs"].strip(), status["Seccomp"].strip()) == ("1", "2")
    assert int(status["CapEff"], 16) == 0
    if os.geteuid() == 0:
        assert len(os.listdir(f"/proc/{child}/fd")) == 4


def test_external_tools_serve_the_daemon(daemon: tuple[int, RunningDaemon], tmp_path: Path) -> None:
    port, running = daemon
    (tmp_path / "payload.vbs").write_bytes(b"harmless\n" * 30)
    subprocess.run(["arj", "a", "-y", "x.arj", "payload.vbs"], cwd=tmp_path, check=True, capture_output=True)
    archive = (tmp_path / "x.arj").read_bytes()
    assert deliver(port, build.attachment(archive, "x.arj")).startswith("554 ")


def test_a_bomb_is_passed_on_unchecked_and_the_daemon_serves_on(daemon: tuple[int, RunningDaemon]) -> None:
    port, running = daemon
    assert deliver(port, build.attachment(bombs.zip_that_lies(), "b.zip")).startswith("250 ")
    running.wait_for_log("Exceeded storage quota")
    assert deliver(port, build.exe_zip()).startswith("554 ")


def test_the_children_go_with_the_daemon(daemon: tuple[int, RunningDaemon]) -> None:
    port, running = daemon
    deliver(port, build.exe_zip())
    (child,) = decoders(running)
    running.process.terminate()
    running.process.wait(20)
    wait_until(lambda: not Path(f"/proc/{child}").exists(), "the decoder is gone")


def test_the_log_says_how_decoders_are_confined_and_who_decodes_what(daemon: tuple[int, RunningDaemon]) -> None:
    log = daemon[1].log()
    assert "Sandbox of the decoders: rlimits, no_new_privs, Landlock ABI" in log
    assert "Internal decoders for .7z .Z .a" in log
    assert "Found decoder for .7z" in log

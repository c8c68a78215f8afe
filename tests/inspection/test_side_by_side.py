"""A mail's scanners work at the same time: what each of them takes is not added up.

The daemons here have a clock of their own: an answer is given 200 ms after the question by that clock, and the clock
goes on only when nobody has a question to wait for any more. No test holds a stopwatch; bench/scanners.py does.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from amavispy.deadline import Deadline
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.inspection.inspector import Inspector
from amavispy.inspection.scanning import Scanning
from amavispy.mail.verdict import Verdict
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import ScannerSpec
from tests import making
from tests.inspection.fake_daemons import FakeDaemon, spamd_response

_TAKES = 0.2


class Clock:
    """Counts the time of daemons that work. It stands still until all of `workers` are at work or done."""

    def __init__(self, workers: int) -> None:
        self.now = 0.0
        self.events: list[tuple[float, str]] = []
        self._idle = workers
        self._asleep: list[float] = []
        self._changed = threading.Condition()

    def take(self, seconds: float, who: str) -> None:
        """Work so long: return when the clock has come there."""
        with self._changed:
            self.events.append((self.now, f"{who} is asked"))
            end = self.now + seconds
            self._idle -= 1
            self._asleep.append(end)
            self._go_on()
            assert self._changed.wait_for(lambda: self.now >= end, 10), f"{who} waits for somebody who is not asked"
            self._asleep.remove(end)
            self.events.append((self.now, f"{who} answers"))
            self._go_on()

    def _go_on(self) -> None:
        if not self._idle and self._asleep:
            self.now = max(self.now, min(self._asleep))
        self._changed.notify_all()


def clamd(clock: Clock, connection: socket.socket) -> None:
    connection.recv(65_536)
    clock.take(_TAKES, "clamd")
    connection.sendall(b"1: stream: OK\0")


def spamd(clock: Clock, connection: socket.socket) -> None:
    connection.recv(65_536)
    clock.take(_TAKES, "spamd")
    connection.sendall(spamd_response(1.0))


def sssp(clock: Clock, connection: socket.socket) -> None:
    connection.sendall(b"OK SSSP/1.0\r\n")
    connection.recv(65_536)
    clock.take(_TAKES, "sssp")
    connection.sendall(b"ACC 1\r\nDONE OK 0000\r\n\r\n")
    connection.recv(65_536)  # the decoded text
    connection.sendall(b"ACC 1\r\nDONE OK 0000\r\n\r\n")


def inspected(tempbase: Path, *scanners: ScannerSpec) -> Verdict:
    virus = tuple(spec for spec in scanners if spec.type not in ("spamd", "rspamd", "program"))
    spam = tuple(spec for spec in scanners if spec not in virus)
    bank = making.bank(av_scanners=virus, spam_scanners=spam)
    message = making.message()
    inspector = Inspector(Decoder(Limits()), Scanning(scanners, str(tempbase)))
    recipients = recipient_policies(message.envelope, bank.settings, message.content)
    return inspector.inspect(message, bank, recipients, Deadline.after(60))


def test_a_clamd_and_a_spamd_of_200_ms_each_take_200_ms_together(tmp_path: Path) -> None:
    clock = Clock(workers=2)
    with FakeDaemon(lambda c: clamd(clock, c)) as one, FakeDaemon(lambda c: spamd(clock, c)) as two:
        verdict = inspected(tmp_path, ScannerSpec("a", "clamd", one.address), ScannerSpec("b", "spamd", two.address))
    assert [scan.error for scan in (*verdict.virus_scans, *verdict.spam_scans)] == ["", ""]
    assert sorted(clock.events) == [
        (0.0, "clamd is asked"),
        (0.0, "spamd is asked"),
        (_TAKES, "clamd answers"),
        (_TAKES, "spamd answers"),
    ]


def test_both_have_the_whole_mail_before_either_answers_in_whatever_order_they_are_configured(tmp_path: Path) -> None:
    for turn in (1, -1):
        clock = Clock(workers=3)
        with (
            FakeDaemon(lambda c, clock=clock: sssp(clock, c)) as one,  # type: ignore[misc]
            FakeDaemon(lambda c, clock=clock: spamd(clock, c)) as two,  # type: ignore[misc]
            FakeDaemon(lambda c, clock=clock: clamd(clock, c)) as three,  # type: ignore[misc]
        ):
            specs = [
                ScannerSpec("a", "sssp", one.address, inquiry=Inquiry()),
                ScannerSpec("b", "spamd", two.address),
                ScannerSpec("c", "clamd", three.address),
            ][::turn]
            verdict = inspected(tmp_path, *specs)
        assert [scan.error for scan in (*verdict.virus_scans, *verdict.spam_scans)] == ["", "", ""]
        assert [what.split()[-1] for _, what in clock.events] == ["asked"] * 3 + ["answers"] * 3
        assert clock.now == _TAKES


def test_a_program_works_beside_the_daemons(tmp_path: Path) -> None:
    """The program ends when spamd makes a file appear: whoever waited for one of them alone would wait for ever."""
    signal_file = tmp_path / "signal"

    def spamd_frees_the_program(connection: socket.socket) -> None:
        connection.recv(65_536)
        signal_file.touch()
        connection.sendall(spamd_response(1.0))

    script = f"while [ ! -e {signal_file} ]; do sleep 0.01; done; echo x: OK"
    program = ScannerSpec(
        "p", "command", command=("/bin/sh", "-c", script), inquiry=Inquiry(infected="FOUND$", clean="OK$")
    )
    with FakeDaemon(spamd_frees_the_program) as daemon:
        verdict = inspected(tmp_path, program, ScannerSpec("b", "spamd", daemon.address))
    assert [scan.error for scan in (*verdict.virus_scans, *verdict.spam_scans)] == ["", ""]

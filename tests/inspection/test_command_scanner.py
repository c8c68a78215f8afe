"""Programs that scan for viruses: their command lines, what their words and statuses mean, and how they end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.command_scanner import commands
from amavispy.inspection.part_files import Written
from amavispy.inspection.scanning import Scanning
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part, VirusScan
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.settings import ScannerSpec
from tests.inspection.test_programs import is_gone
from tests.running import wait_until

MAIL = b"Received: x\r\nSubject: y\r\n\r\nhello\r\n"
BAD = Part(2, "2", None, octets=b"a worm")
GREP = Inquiry(infected=(0,), clean=(1,), names=r"^(\w+):")
FOUND = Inquiry(infected="FOUND$", clean="OK$", names="(\\S+) FOUND$")


def spec(*command: str, inquiry: Inquiry = FOUND, timeout: float = 10.0) -> ScannerSpec:
    return ScannerSpec("program", "command", command=command, timeout=timeout, inquiry=inquiry)


def shell(script: str, inquiry: Inquiry = FOUND, timeout: float = 10.0) -> ScannerSpec:
    return spec("/bin/sh", "-c", script, "sh", "{}", inquiry=inquiry, timeout=timeout)


def scan(scanner: ScannerSpec, tempbase: Path, *parts: Part, seconds: float = 20.0) -> VirusScan:
    scanning = Scanning([scanner], str(tempbase))
    return scanning.scan(Content(MAIL), parts, Envelope("", ()), (scanner,), (), Deadline.after(seconds))[0][0]


# --- command lines

WRITTEN = Written("/d", ("p000", "p001"))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (("/av", "-r", "{}"), [["/av", "-r", "/d"]]),
        (("/av", "-path={}", "-x"), [["/av", "-path=/d", "-x"]]),
        (("/av", "{}/*"), [["/av", "/d/p000", "/d/p001"]]),
        (("/av", "--in={}", "-f=*"), [["/av", "--in=/d", "-f=p000", "-f=p001"]]),
        (("/av", "*"), [["/av", "p000", "p001"]]),
        (("/av", "-*", "a*b", "{}"), [["/av", "-*", "a*b", "/d"]]),  # options and patterns of its own
        (("/av",), [["/av"]]),  # it looks where it runs
    ],
)
def test_a_template_becomes_a_command_line(template: tuple[str, ...], expected: list[list[str]]) -> None:
    assert list(commands(template, WRITTEN)) == expected


def test_more_files_than_fit_make_several_command_lines() -> None:
    names = tuple(f"p{number:03d}" for number in range(3000))
    lines = list(commands(("/av", "{}/*"), Written("/var/lib/amavispy/tmp/parts-4711-abcdefgh", names)))
    assert len(lines) > 1
    assert [word for line in lines for word in line[1:]] == [
        f"/var/lib/amavispy/tmp/parts-4711-abcdefgh/{n}" for n in names
    ]
    assert all(sum(map(len, line)) < 20_000 for line in lines)


# --- what they find


def test_what_it_prints_judges_and_tells_names_and_parts(tmp_path: Path) -> None:
    scanner = shell('grep -l worm "$1"/* | sed "s/$/: Worm.A FOUND/"; grep -q worm "$1"/* || echo "$1: OK"')
    assert scan(scanner, tmp_path) == VirusScan("program")
    assert scan(scanner, tmp_path, BAD) == VirusScan("program", ("Worm.A",), is_infected=True, parts=(2,))


def test_its_exit_status_may_judge_and_bare_names_are_found_where_it_runs(tmp_path: Path) -> None:
    scanner = spec("/bin/grep", "-o", "worm", "*", "/dev/null", inquiry=GREP)
    assert scan(scanner, tmp_path) == VirusScan("program")
    assert scan(scanner, tmp_path, BAD).is_infected


def test_every_batch_of_files_is_scanned(tmp_path: Path) -> None:
    parts = tuple(Part(number, str(number), None, octets=b"x") for number in range(1, 900))
    scanner = spec("/bin/grep", "-Hc", "worm", "{}/*", inquiry=Inquiry(infected=r":1$", clean=":0$", names="(p900):1"))
    assert scan(scanner, tmp_path, *parts) == VirusScan("program")
    found = scan(scanner, tmp_path, *parts, Part(900, "900", None, octets=b"worm"))
    assert found.parts == (900,)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("exit 2", "unexpected answer, exit 2: nothing"),
        ("echo licence expired >&2; exit 3", "unexpected answer, exit 3: licence expired"),
        ("kill -9 $$", "unexpected answer, exit -9: nothing"),
        ("head -c 400000 /dev/zero; echo; echo x: OK", "unexpected answer, exit 0: nothing"),  # beyond 200 KiB
    ],
)
def test_anything_else_is_a_failure_and_never_clean(script: str, error: str, tmp_path: Path) -> None:
    found = scan(shell(script), tmp_path)
    assert found.error == error
    assert not found.is_definite


def test_a_finding_on_standard_error_counts(tmp_path: Path) -> None:
    assert scan(shell('echo "$1/p002: Worm.B FOUND" >&2'), tmp_path).names == ("Worm.B",)


def test_nothing_of_a_mail_reaches_a_shell(tmp_path: Path) -> None:
    part = Part(2, "2", None, names=("$(touch evil); `touch evil`",), octets=b"; touch evil")
    scanner = spec("/bin/echo", "{}/*", "$(touch evil)", inquiry=Inquiry(infected=r"FOUND", clean=r"\$\(touch evil\)$"))
    assert scan(scanner, tmp_path, part) == VirusScan("program")
    assert list(tmp_path.rglob("evil")) == []


# --- where it runs, and how it ends


def test_it_runs_among_the_parts_with_nothing_to_read_and_we_do_not(tmp_path: Path) -> None:
    before = os.getcwd()
    assert scan(shell('[ "$(pwd)" = "$1" ] && [ -z "$(cat)" ] && ls -d p000 >/dev/null && echo x: OK'), tmp_path) == (
        VirusScan("program")
    )
    assert os.getcwd() == before


def test_a_program_that_hangs_is_killed_with_all_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    start = time.monotonic()
    found = scan(shell(f"sleep 60 & echo $! $$ > {pids}.new; mv {pids}.new {pids}; wait", timeout=1.0), tmp_path)
    assert found.error == "no answer in time"
    assert time.monotonic() - start < 10
    assert [pid for pid in map(int, pids.read_text().split()) if not _goes(pid)] == []


def _goes(pid: int) -> bool:
    wait_until(lambda: is_gone(pid), f"process {pid} is gone")
    return True


def test_the_mails_deadline_ends_a_patient_program_too(tmp_path: Path) -> None:
    start = time.monotonic()
    assert scan(shell("sleep 60"), tmp_path, seconds=0.3).error == "no answer in time"
    assert time.monotonic() - start < 10


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    scanner = shell("echo x: OK")
    scanning = Scanning([scanner], str(tmp_path))
    given = (Content(MAIL), (), Envelope("", ()), (scanner,), (), Deadline.after(20))
    scanning.scan(*given)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        assert scanning.scan(*given)[0] == (VirusScan("program"),)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("command", [("/nowhere/clamscan", "{}"), ("/etc/passwd", "{}"), ("/bin", "{}")])
def test_a_program_that_is_not_there_is_told_at_the_start(command: tuple[str, ...], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"scanner program: {command[0]}: there is no such program"):
        Scanning([spec(*command)], str(tmp_path))

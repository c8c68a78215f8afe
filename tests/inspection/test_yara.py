"""YARA rules in this process: the rules that come along, own ones, and one scanner for all workers."""

from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, Part, VirusScan
from amavispy.policy.settings import ScannerSpec

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
MAIL = b"Received: x\r\n\r\nhello\r\n"
BUILTIN = ScannerSpec("yara", "yara")


def scan(
    octets: bytes | Content, *parts: bytes | memoryview, spec: ScannerSpec = BUILTIN, scanning: Scanning | None = None
) -> VirusScan:
    content = octets if isinstance(octets, Content) else Content(octets)
    leaves = tuple(Part(n, str(n), None, octets=part) for n, part in enumerate(parts, 1))
    given = (content, leaves, Envelope("", ()), (spec,), (), Deadline.after(10))
    return (scanning or Scanning([spec])).scan(*given)[0][0]


def own_rules(tmp_path: Path, text: str) -> ScannerSpec:
    (tmp_path / "own.yar").write_text(text)
    return ScannerSpec("own", "yara", rules=(str(tmp_path / "own.yar"),))


def test_the_test_file_is_found_in_a_part() -> None:
    for part in (EICAR, memoryview(EICAR), memoryview(b"xx" + EICAR + b"\r\n  ")[2:]):
        assert scan(MAIL, b"text", part).names == ("EICAR-Test-File",)


def test_a_text_that_quotes_the_test_file_is_none() -> None:
    assert scan(MAIL, b"They say: " + EICAR) == VirusScan("yara")
    assert scan(MAIL, EICAR + b" and so on, at length" * 20) == VirusScan("yara")


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (b"{\\rtf1 {\\object\\objupdate {\\*\\objdata 4571756174696F6E2E33}}}", "Heuristics.RTF.EquationObject"),
        (b"%PDF-1.7 << /S /Launch /Win << /F (cmd.exe) >> >>", "Heuristics.PDF.LaunchesShell"),
        (
            bytes.fromhex("4c0000000114020000000000") + "powershell.exe -windowstyle hidden".encode("utf-16-le"),
            "Heuristics.LNK.StartsInterpreter",
        ),
    ],
)
def test_what_no_honest_mail_contains(part: bytes, name: str) -> None:
    assert scan(MAIL, part).names == (name,)


@pytest.mark.parametrize(
    "part",
    [
        b"{\\rtf1 an equation 4571756174696F6E2E33}",
        b"%PDF-1.7 << /S /URI >> (cmd.exe)",
        b"how to write /S /Launch /F (cmd.exe) in a PDF",
        bytes.fromhex("4c0000000114020000000000") + "notepad.exe".encode("utf-16-le"),
    ],
)
def test_what_only_looks_like_it(part: bytes) -> None:
    assert scan(MAIL, part) == VirusScan("yara")


def test_own_rules_are_named_by_meta_or_identifier_and_once(tmp_path: Path) -> None:
    spec = own_rules(
        tmp_path,
        'rule a { meta: name = "Own.Name" strings: $ = "hello" condition: any of them }'
        ' rule b { strings: $ = "hello" condition: any of them }',
    )
    assert scan(MAIL, b"hello", spec=spec).names == ("Own.Name", "b")


def test_builtin_rules_and_a_directory_of_own_ones_go_together(tmp_path: Path) -> None:
    (tmp_path / "one.yar").write_text('rule eicar_test_file { strings: $ = "hello" condition: any of them }')
    (tmp_path / "two.yara").write_text('include "three.inc" rule two { condition: false }')
    (tmp_path / "three.inc").write_text("rule three { condition: filesize == 5 }")
    spec = ScannerSpec("own", "yara", rules=("builtin", str(tmp_path)))
    assert set(scan(MAIL, EICAR, b"hello", spec=spec).names) == {"EICAR-Test-File", "eicar_test_file", "three"}


def test_a_large_mail_is_scanned_from_its_spool_file_where_it_lies(tmp_path: Path) -> None:
    spec = own_rules(tmp_path, 'rule a { strings: $ = "needle" condition: any of them }')
    with tempfile.TemporaryFile() as file:
        file.write(MAIL + b"x" * 1_000_000 + b"needle")
        file.flush()
        with mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as octets:
            assert scan(Content(octets, file.fileno()), spec=spec).is_infected
            assert scan(Content(octets), spec=spec).is_infected
            octets.close()  # fails while somebody holds on to it


def test_a_descriptor_that_cannot_be_read_is_a_failure(tmp_path: Path) -> None:
    with tempfile.TemporaryFile() as file, mmap.mmap(-1, 10) as octets:
        number = file.fileno()
        file.close()
        found = scan(Content(octets, number))
    assert found.error
    assert found.on_failure is OnFailure.TEMPFAIL


def test_without_time_left_nothing_is_called_clean() -> None:
    given = (Content(MAIL), (), Envelope("", ()), (BUILTIN,), (), Deadline.after(-1))
    assert Scanning([BUILTIN]).scan(*given)[0][0].error == "out of time"


@pytest.mark.parametrize(
    ("text", "message"),
    [("rule a { condition: foo }", "unknown identifier `foo`"), ("rule", "syntax error")],
)
def test_rules_that_do_not_compile_are_shown(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=f"scanner own: YARA rules .*own.yar: (.|\n)*{message}"):
        Scanning([own_rules(tmp_path, text)])


def test_rules_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        Scanning([ScannerSpec("own", "yara", rules=(str(tmp_path / "gone.yar"),))])


def test_the_scanner_made_before_the_fork_serves_every_worker() -> None:
    """Used in the parent, then in three children at once, without a thread in any of them."""
    scanning = Scanning([BUILTIN])
    assert scan(MAIL, EICAR, scanning=scanning).is_infected
    children = [os.fork() for _ in range(3) if os.getpid() == PARENT]
    if os.getpid() != PARENT:
        found = [scan(MAIL, EICAR, scanning=scanning).is_infected for _ in range(3)]
        clean = scan(MAIL, b"x" * 100_000, scanning=scanning) == VirusScan("yara")
        os._exit(0 if all(found) and clean and len(os.listdir("/proc/self/task")) == 1 else 1)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert scan(MAIL, EICAR, scanning=scanning).is_infected


PARENT = os.getpid()

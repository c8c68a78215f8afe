"""`amavispy scan`: what it prints for people and programs, its exit statuses, and that it judges as the daemon does."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from amavispy.cli import scan as scan_module
from amavispy.cli.main import amavispy
from amavispy.cli.scan_report import Report, in_tree_order, print_tree
from amavispy.deadline import Deadline
from amavispy.mail.disposition import Disposition
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import OnFailure, Part, SpamScan, Unchecked, Verdict, VirusScan
from tests.corpus import build
from tests.making import message

KEYS = ["file", "size", "category", "parts", "defects", "viruses", "banned", "spam", "would"]
CONFIG = """
myhostname = "mail.example.com"
mydomain = "example.com"
local_domains_maps = [[".example.com"]]
listen_sockets = ["[::1]:10026", "$MYHOME/amavisd.sock"]
banned_filename_re = ['\\.exe$']
final_banned_destiny = "D_REJECT"
bypass_banned_checks_maps = [["free@example.com"]]
interface_policy = { 10026 = "STRICT", SOCK = "AM.PDP-SOCK" }

[[client_ipaddr_policy]]
networks = ["192.0.2.0/24"]
banks = ["PARTNER"]

[policy_bank.STRICT]
final_unchecked_destiny = "D_REJECT"

[policy_bank.PARTNER]
banned_filename_re = []

["policy_bank"."AM.PDP-SOCK"]
protocol = "AM.PDP"
"""

YARA = 'av_scanners=[{name="YARA", type="yara", rules=["builtin"]}]'

_Scan = Callable[..., Result]


@pytest.fixture
def scan(tmp_path: Path) -> _Scan:
    """`amavispy scan` with the configuration above."""
    path = tmp_path / "amavispy.toml"
    path.write_text(CONFIG)

    def run(*arguments: str, octets: bytes | None = None) -> Result:
        return CliRunner().invoke(amavispy, ["scan", "-c", str(path), *arguments], input=octets)

    return run


@pytest.fixture
def mail(tmp_path: Path) -> Callable[[str, bytes], str]:
    """Writes a mail into a file and tells its path."""

    def write(name: str, octets: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(octets)
        return str(path)

    return write


def objects(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


# -- for programs


def test_json_has_one_line_a_mail_in_the_order_given(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    names = [mail("b.eml", build.text()), mail("a.eml", build.double_extension()), mail("c.eml", build.html())]
    result = scan("--json", *names)
    assert result.exit_code == 1
    assert [found["file"] for found in objects(result)] == names
    assert [found["category"] for found in objects(result)] == ["CLEAN", "BANNED", "CLEAN"]


def test_the_keys_are_an_interface(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    (found,) = objects(scan("--json", mail("a.eml", build.exe_zip())))
    assert list(found) == KEYS
    assert list(found["parts"][0]) == ["path", "type", "names", "size", "sha256", "defects"]
    assert list(found["banned"][0]) == ["path", "attributes", "rule", "value", "comment", "recipients"]
    assert list(found["spam"]) == ["score", "tests", "scanners"]
    assert list(found["would"][0]) == ["recipient", "destiny", "category", "reply", "quarantine"]


def test_every_part_is_told_in_the_order_of_the_tree(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    inner = b"Content-Type: multipart/mixed; boundary=b2\r\n\r\n" + build.multipart_body([build.plain()] * 2, "b2")
    nested = build.multipart([inner, build.entity(build.PDF, "application/pdf", "a.pdf")])
    (found,) = objects(scan("--json", mail("a.eml", nested)))
    assert [part["path"] for part in found["parts"]] == ["1", "1/1", "1/1/1", "1/1/2", "1/2"]
    assert found["parts"][-1] == {
        "path": "1/2",
        "type": ["application/pdf", ".pdf"],
        "names": ["a.pdf"],
        "size": len(build.PDF),
        "sha256": hashlib.sha256(build.PDF).hexdigest(),
        "defects": [],
    }
    assert found["parts"][0]["sha256"] is None


def test_what_is_wrong_is_told_with_kind_and_minor(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    octets = build.encrypted_zip().replace(b"Date: ", b"X-Date: ")
    (found,) = objects(scan("--json", mail("a.eml", octets)))
    assert found["category"] == "UNCHECKED-ENCRYPTED"
    assert {"kind": "header", "minor": 7, "text": 'Missing required header field: "Date"'} in found["defects"]
    assert ("unchecked", 1) in [(defect["kind"], defect["minor"]) for defect in found["defects"]]
    assert "encrypted" in found["parts"][-1]["defects"]


def test_each_recipient_is_told_what_would_happen(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    arguments = ("--recipient", "ann@example.com", "--recipient", "free@example.com", "--sender", "x@example.org")
    (found,) = objects(scan("--json", *arguments, mail("a.eml", build.double_extension())))
    assert [(fate["recipient"], fate["destiny"], fate["category"]) for fate in found["would"]] == [
        ("ann@example.com", "D_REJECT", "BANNED"),
        ("free@example.com", "D_PASS", "CLEAN"),
    ]
    assert found["would"][0]["reply"].startswith("554 5.7.0 Reject, id=scan-01 - BANNED: ")
    assert found["would"][0]["quarantine"] == ["banned-quarantine"]
    assert found["would"][1]["reply"] is None
    assert found["banned"][0]["recipients"] == ["ann@example.com"]


def test_viruses_are_told_with_their_scanner(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    (found,) = objects(scan("--json", "--set", YARA, mail("a.eml", build.eicar_zip())))
    assert found["category"] == "INFECTED"
    assert found["viruses"] == [{"name": "EICAR-Test-File", "scanner": "YARA"}]


# -- as the daemon does


def test_the_socket_and_the_client_choose_policy_banks(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    program, secret = mail("a.eml", build.double_extension()), mail("b.eml", build.encrypted_zip())
    assert scan(program, "--client", "192.0.2.1").exit_code == 0
    assert scan(program, "--client", "198.51.100.1").exit_code == 1
    assert objects(scan("--json", secret))[0]["would"][0]["destiny"] == "D_PASS"
    strict = scan(
        "--json", secret, "--socket", "10026", "--set", 'av_scanners=[{name="Y",type="yara",rules=["builtin"]}]'
    )
    assert objects(strict)[0]["would"][0]["destiny"] == "D_REJECT"


def test_a_line_end_makes_no_difference(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    octets = build.exe_zip()
    crlf, lf = (objects(scan("--json", "-", octets=o))[0] for o in (octets, octets.replace(b"\r\n", b"\n")))
    assert crlf == lf
    assert crlf["size"] == len(octets)


def test_a_scanner_that_cannot_be_asked_fails_the_mail(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    clamd = 'av_scanners=[{name="clamd", type="clamd", address="/nonexistent/clamd.sock", timeout=1}]'
    result = scan("--json", "--set", clamd, mail("a.eml", build.text()))
    (found,) = objects(result)
    assert result.exit_code == 1
    assert found["category"] == "FAILED"
    assert found["would"][0]["destiny"] == "D_TEMPFAIL"
    assert found["would"][0]["reply"].startswith("451 4.5.0 Error in processing, id=scan-01, virus_scan FAILED")


def test_without_a_configuration_the_usual_rules_and_yara_hold(
    mail: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scan_module, "DEFAULT_FILE", str(tmp_path / "none.toml"))
    names = [mail("a.eml", build.eicar_zip()), mail("b.eml", build.exe_zip()), mail("c.eml", build.text())]
    result = CliRunner().invoke(amavispy, ["scan", "--json", *names])
    assert [found["category"] for found in objects(result)] == ["INFECTED", "BANNED", "CLEAN"]


def test_log_lines_are_shown_when_they_are_asked_for(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    name = mail("a.eml", build.double_extension())
    assert scan(name).stderr == ""
    command = [sys.executable, "-m", "amavispy", "scan", "-d", "1", name]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert "p.path BANNED:1 postmaster@localhost" in run.stderr


ROOT = Path(__file__).parent.parent
DOCUMENTED = re.findall(r"^amavispy (scan .*)$", (ROOT / "docs" / "scan.md").read_text(), re.M)


@pytest.mark.parametrize("command", DOCUMENTED)
def test_the_commands_of_the_documentation_run(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amavispy.toml").write_text(CONFIG)
    for name in ("message.eml", "other.eml"):
        (tmp_path / name).write_bytes(build.text())
    monkeypatch.chdir(tmp_path)
    run = subprocess.run([sys.executable, "-m", "amavispy", *command.split()], capture_output=True, check=False)  # noqa: S603
    assert run.returncode == 0, run.stderr
    assert b"CLEAN" in run.stdout


def test_the_documentation_names_every_key(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    (found,) = objects(scan("--json", mail("a.eml", build.exe_zip())))
    text = (ROOT / "docs" / "scan.md").read_text()
    keys = [*found, *found["parts"][0], *found["banned"][0], *found["spam"], *found["would"][0]]
    assert [key for key in keys if f"`{key}`" not in text] == []


# -- exit statuses and errors


def test_a_clean_mail_is_status_0(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    assert scan(mail("a.eml", build.text())).exit_code == 0


def test_a_bad_header_alone_is_status_1(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    result = scan(mail("a.eml", build.mail(fields={"Date": None})))
    assert result.exit_code == 1
    assert 'header: Missing required header field: "Date"' in result.stdout


def test_a_file_that_cannot_be_read_is_status_2_and_the_others_are_scanned(
    scan: _Scan, mail: Callable[[str, bytes], str], tmp_path: Path
) -> None:
    result = scan(str(tmp_path / "none.eml"), str(tmp_path), mail("a.eml", build.text()))
    assert result.exit_code == 2
    assert result.stdout.startswith(f"{tmp_path}/a.eml: CLEAN\n")
    assert result.stderr.splitlines() == [
        f"{tmp_path}/none.eml: No such file or directory",
        f"{tmp_path}: Is a directory",
    ]


@pytest.mark.parametrize(
    "arguments",
    [(), ("-", "--socket", "99"), ("-", "--client", "nobody"), ("-", "--bogus"), ("-", "--set", "nonsense=1")],
)
def test_a_wrong_command_line_is_status_2(scan: _Scan, arguments: tuple[str, ...]) -> None:
    result = scan(*arguments, octets=build.text())
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_a_faulty_configuration_is_status_2_and_told(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('log_level = "loud"\n')
    result = CliRunner().invoke(amavispy, ["scan", "-c", str(path), "-"])
    assert result.exit_code == 2
    assert f"{path}:1: log_level" in result.stderr


def test_a_missing_configuration_that_was_named_is_a_fault(tmp_path: Path) -> None:
    result = CliRunner().invoke(amavispy, ["scan", "-c", str(tmp_path / "none.toml"), "-"])
    assert result.exit_code == 2
    assert "cannot be read" in result.stderr


def test_a_bug_is_one_line_and_not_a_traceback(
    scan: _Scan, mail: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def decide(*_: object, **__: object) -> Disposition:
        raise RuntimeError("a bug\x1b[31m")

    monkeypatch.setattr(scan_module, "decide", decide)
    result = scan(mail("a.eml", build.text()), mail("b.eml", build.text()))
    assert result.exit_code == 2
    assert [line.partition(": ")[2] for line in result.stderr.splitlines()] == [
        "cannot be inspected: RuntimeError: a bug\\x{1B}[31m"
    ] * 2


def test_time_that_is_over_fails_the_mail(
    scan: _Scan, mail: Callable[[str, bytes], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Deadline, "after", classmethod(lambda cls, _: cls(0.0)))
    (found,) = objects(scan("--json", mail("a.eml", build.exe_zip())))
    assert found["category"] == "FAILED"
    assert found["would"][0]["reply"].startswith("451 4.5.0 Error in processing: no time left")


# -- for people


def test_the_text_is_a_tree_with_findings(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    name = mail("a.eml", build.exe_zip())
    assert scan(name, "--recipient", "ann@example.com").stdout.splitlines() == [
        f"{name}: BANNED",
        "  1 multipart/mixed",
        "    1/1 text/plain,.asc 18 B",
        f'    1/2 application/zip,.zip "x.zip" {len(build.zip_of({"setup.exe": build.exe()}))} B',
        f'      1/2/1 .exe,.exe-ms "setup.exe" {len(build.exe())} B',
        r"  banned: multipart/mixed | application/zip,.zip,x.zip | .exe,.exe-ms,setup.exe by \.exe$",
        "  would: D_REJECT <ann@example.com> BANNED: 554 5.7.0 Reject, id=scan-01 - BANNED: .exe,.exe-ms,setup.exe",
    ]


def test_what_a_mail_holds_cannot_write_on_the_terminal(scan: _Scan, mail: Callable[[str, bytes], str]) -> None:
    names = "a\x1b]0;x\x07\u202efdp.exe"
    octets = build.multipart([build.entity(b"x", extra=[f'Content-Disposition: attachment; filename="{names}"'])])
    result = scan(mail("a.eml", octets))
    assert "\\x{1B}]0;x\\x{07}\\x{202E}fdp.exe" in result.stdout
    assert not {"\x1b", "\x07", "\u202e"} & set(result.stdout)


def test_scores_and_failed_scanners_are_shown() -> None:
    verdict = Verdict(
        unchecked=(Unchecked(2, "too deep"),),
        virus_scans=(VirusScan("clamd", error="timed out", on_failure=OnFailure.TEMPFAIL),),
        spam_scans=(SpamScan("spamd", 7.5, (("A", 7.0), ("B", 0.5))), SpamScan("rspamd")),
    )
    report = Report("a.eml", message(), verdict, Disposition(()), Reply(451, "4.5.0", "Error"))
    assert list(report.findings()) == [
        ("unchecked", "too deep"),
        ("scanner", "clamd: timed out"),
        ("spam", "7.5 A=7, B=0.5"),
        ("would", "D_TEMPFAIL <b@example.net> FAILED: 451 4.5.0 Error"),
    ]
    assert report.as_json()["spam"]["scanners"] == [
        {"scanner": "spamd", "score": 7.5},
        {"scanner": "rspamd", "score": None},
    ]


def test_a_terminal_gets_a_tree() -> None:
    parts = (
        Part(1, "1", None, ("multipart/mixed",), is_leaf=False),
        Part(2, "1/1", 1, ("a/b",), ("[red]x",), ("asc",), "C"),
    )
    report = Report("a.eml", message(), Verdict(parts), Disposition(()), Reply(451, "4.5.0", "Error"))
    out = io.StringIO()
    print_tree(Console(file=out, width=100), report)
    assert [line.rstrip() for line in out.getvalue().splitlines()] == [
        "a.eml: FAILED",
        "├── 1 multipart/mixed",
        '│   └── 1/1 a/b,.asc "[red]x"; encrypted',
        "└── would: D_TEMPFAIL <b@example.net> FAILED: 451 4.5.0 Error",
    ]


def test_a_deep_tree_can_be_printed() -> None:
    parts = tuple(Part(n, "/".join("1" * n), n - 1 or None, ("a/b",)) for n in range(1, 400))
    assert [part.number for part in in_tree_order(parts)] == list(range(1, 400))
    report = Report("a.eml", message(), Verdict(parts), Disposition(()), Reply(451, "4.5.0", "Error"))
    print_tree(Console(file=io.StringIO(), width=100), report)
    assert len(list(report.lines())) == 401


def test_many_files_on_a_terminal_show_progress(mail: Callable[[str, bytes], str]) -> None:
    names = [mail(f"{number}.eml", build.text()) for number in range(6)]
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        command = [sys.executable, "-m", "amavispy", "scan", "--json", *names]
        run = subprocess.run(command, stderr=theirs, stdout=subprocess.PIPE, check=False)  # noqa: S603 - our own command
        os.close(theirs)
        shown = screen.read(65536)
    assert len(run.stdout.splitlines()) == 6
    assert b"scanning" in shown

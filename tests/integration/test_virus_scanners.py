"""Virus scanners of other kinds for real: c-icap, clamd asked as amavis' tables ask it, clamscan, clamdscan."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part, VirusScan
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.settings import ScannerSpec
from tests.integration.daemons import EICAR, Clamd, Daemon
from tests.running import private_directory

MAIL = b"Received: from x by y\r\nSubject: x\r\n\r\nhello\r\n"
TEXT = Part(1, "1", None, ("text/plain",), octets=b"hello")
BAD = Part(2, "2", None, octets=EICAR)
NAME = "Eicar-Signature.UNOFFICIAL"

# The judgement of Debian's entries for clamd and clamscan.
FOUND = Inquiry(clean=r"\bOK$", infected=r"\bFOUND$", names=r"^.*?: (?!Infected Archive)(.*) FOUND$")


class CIcap(Daemon):
    """c-icap with its antivirus service, which asks a clamd."""

    def __init__(self, clamd: Clamd) -> None:
        super().__init__("c-icap")
        (self.directory / "c-icap.conf").write_text(
            f"PidFile {self.directory}/pid\nCommandsSocket {self.directory}/ctl\nPort 127.0.0.1:{self.port}\n"
            f"ServerLog {self.directory}/server.log\nAccessLog {self.directory}/access.log\nTmpDir {self.directory}\n"
            "StartServers 1\nMaxServers 2\nThreadsPerChild 5\nLoadMagicFile /etc/c-icap/c-icap.magic\n"
            "ModulesDir /usr/lib/x86_64-linux-gnu/c_icap\nServicesDir /usr/lib/x86_64-linux-gnu/c_icap\n"
            "TemplateDir /usr/share/c_icap/templates/\nTemplateDefaultLanguage en\n"
            f"Module common clamd_mod.so\nclamd_mod.ClamdSocket {clamd.socket}\n"
            "Service antivirus_module virus_scan.so\n"
            "ServiceAlias avscan virus_scan?allow204=on&sizelimit=off&mode=simple\n"
            "virus_scan.ScanFileTypes TEXT DATA EXECUTABLE ARCHIVE GIF JPEG MSOFFICE\n"
            "virus_scan.SendPercentData 0\nvirus_scan.MaxObjectSize 5M\nvirus_scan.DefaultEngine clamd\n"
        )
        self.run("/usr/bin/c-icap", "-N", "-f", self.directory / "c-icap.conf")


@pytest.fixture(scope="module")
def clamd() -> Iterator[Clamd]:
    with Clamd() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def c_icap(clamd: Clamd) -> Iterator[CIcap]:
    with CIcap(clamd) as daemon:
        yield daemon


@pytest.fixture
def tempbase() -> Iterator[Path]:
    directory = private_directory("tempbase")
    yield directory
    for worker in directory.iterdir():
        assert list(worker.iterdir()) == []
        worker.rmdir()
    directory.rmdir()


class Client:
    """Our side: one Scanning, as one worker has it."""

    def __init__(self, spec: ScannerSpec, tempbase: Path = Path("/nowhere")) -> None:
        self.spec = spec
        self.scanning = Scanning([spec], str(tempbase))

    def scan(self, *parts: Part, mail: bytes = MAIL, seconds: float = 60.0) -> VirusScan:
        given = (Content(mail), parts, Envelope("", ()), (self.spec,), (), Deadline.after(seconds))
        return self.scanning.scan(*given)[0][0]


# --- ICAP


@pytest.mark.parametrize("method", ["RESPMOD", "REQMOD"])
def test_an_icap_server_names_what_it_finds(c_icap: CIcap, method: str) -> None:
    inquiry = Inquiry(service="avscan", method=method)
    client = Client(ScannerSpec("icap", "icap", f"127.0.0.1:{c_icap.port}", inquiry=inquiry))
    for _ in range(2):
        assert client.scan(TEXT) == VirusScan("icap")
        assert client.scan(TEXT, BAD) == VirusScan("icap", (NAME,), is_infected=True, parts=(2,))


@pytest.mark.parametrize("size", [1, 1023, 1024, 1025, 2048, 100_000, 3_000_000])
def test_an_icap_server_sees_the_end_of_a_sample_whatever_its_preview(c_icap: CIcap, size: int) -> None:
    client = Client(ScannerSpec("icap", "icap", f"127.0.0.1:{c_icap.port}", inquiry=Inquiry(service="avscan")))
    filler = b"\0" * size
    assert client.scan(replace(TEXT, octets=filler)) == VirusScan("icap")
    assert client.scan(replace(TEXT, octets=filler + EICAR)).names == (NAME,)


def test_an_icap_service_that_is_not_there_is_a_failure(c_icap: CIcap) -> None:
    client = Client(ScannerSpec("icap", "icap", f"127.0.0.1:{c_icap.port}", inquiry=Inquiry(service="nothing")))
    assert client.scan(TEXT).error.startswith("OPTIONS: 404")


def test_an_icap_server_that_comes_back_is_asked_again(clamd: Clamd) -> None:
    with CIcap(clamd) as server:
        client = Client(ScannerSpec("icap", "icap", f"127.0.0.1:{server.port}", inquiry=Inquiry(service="avscan")))
        assert client.scan(BAD).is_infected
        server.end()
        assert client.scan(BAD).error
        server.run("/usr/bin/c-icap", "-N", "-f", server.directory / "c-icap.conf")
        assert client.scan(BAD).is_infected


# --- clamd as a daemon that is asked by a line


@pytest.mark.parametrize("query", ["CONTSCAN {}\n", "SCAN {}/*\n", "nMULTISCAN {}\n"])
def test_clamd_asked_as_amavis_asks_it(clamd: Clamd, tempbase: Path, query: str) -> None:
    inquiry = replace(FOUND, query=query)
    client = Client(ScannerSpec("clamd", "daemon", str(clamd.socket), inquiry=inquiry), tempbase)
    for _ in range(2):
        assert client.scan(TEXT) == VirusScan("clamd")
        assert client.scan(TEXT, BAD, replace(BAD, number=12)) == (
            VirusScan("clamd", (NAME,), is_infected=True, parts=(2, 12))
        )


def test_a_clamd_that_hangs_makes_room_for_the_next_address(tempbase: Path, clamd: Clamd) -> None:
    with Clamd() as hung:
        hung.process.send_signal(signal.SIGSTOP)
        inquiry = replace(FOUND, query="CONTSCAN {}\n", fallbacks=(str(clamd.socket),))
        spec = ScannerSpec("clamd", "daemon", str(hung.socket), timeout=2.0, inquiry=inquiry)
        assert Client(spec, tempbase).scan(BAD).is_infected
        hung.process.send_signal(signal.SIGCONT)


# --- programs


def test_clamscan_with_the_arguments_of_debians_entry(clamd: Clamd, tempbase: Path) -> None:
    options = ("--stdout", "--no-summary", "-r", f"--tempdir={tempbase}", f"--database={clamd.database}")
    spec = ScannerSpec(
        "clamscan", "command", command=("/usr/bin/clamscan", *options, "{}"), timeout=60.0,
        inquiry=replace(FOUND, clean=(0,), infected=r":.*\sFOUND$"),
    )  # fmt: skip
    client = Client(spec, tempbase)
    assert client.scan(TEXT) == VirusScan("clamscan")
    assert client.scan(TEXT, BAD) == VirusScan("clamscan", (NAME,), is_infected=True, parts=(2,))


def test_clamscan_without_signatures_is_a_failure(clamd: Clamd, tempbase: Path) -> None:
    spec = ScannerSpec(
        "clamscan", "command", command=("/usr/bin/clamscan", "--database=/nowhere", "{}"), timeout=60.0,
        inquiry=Inquiry(clean=(0,), infected=(1,)),
    )  # fmt: skip
    found = Client(spec, tempbase).scan(BAD)
    assert found.error.startswith("unexpected answer, exit 2:")
    assert not found.is_definite


def test_clamdscan_passes_the_files_on(clamd: Clamd, tempbase: Path) -> None:
    config = f"--config-file={clamd.directory}/clamd.conf"
    command = ("/usr/bin/clamdscan", config, "--fdpass", "--no-summary", "{}/*")
    spec = ScannerSpec(
        "clamdscan", "command", command=command, timeout=60.0,
        inquiry=replace(FOUND, clean=(0,), infected=(1,)),
    )  # fmt: skip
    client = Client(spec, tempbase)
    assert client.scan(TEXT) == VirusScan("clamdscan")
    assert client.scan(TEXT, BAD).parts == (2,)


# --- backups


def test_clamscan_stands_in_for_a_clamd_that_is_gone(clamd: Clamd, tempbase: Path) -> None:
    gone = ScannerSpec("clamd", "clamd", "/nowhere/clamd.ctl")
    spare = ScannerSpec(
        "clamscan", "command", command=("/usr/bin/clamscan", f"--database={clamd.database}", "{}"), timeout=60.0,
        inquiry=replace(FOUND, clean=(0,), infected=(1,)),
    )  # fmt: skip
    scanning = Scanning([gone, spare], str(tempbase))
    given = (Content(MAIL), (BAD,), Envelope("", ()), (gone,), (), Deadline.after(60))
    found, _ = scanning.scan(*given, backups=(spare,))
    assert [(scan.scanner, scan.is_infected, scan.is_covered) for scan in found] == [
        ("clamd", False, True),
        ("clamscan", True, False),
    ]

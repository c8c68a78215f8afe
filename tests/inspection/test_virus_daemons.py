"""Virus scanner daemons of every kind: what they find, on how many connections, and who steps in for them."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.part_files import PartFiles
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.wire import Lost
from amavispy.inspection.workload import Mail
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, Part, Unchecked, VirusScan
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.settings import ScannerSpec
from tests.inspection.fake_daemons import Behaviour, ClamdTalk, FakeDaemon, says, silence
from tests.inspection.fake_virus_scanners import IcapTalk, LineTalk, SavapiTalk, SsspTalk

MAIL = b"Received: x\r\nSubject: y\r\n\r\nhello\r\n"
TEXT = Part(1, "1", None, ("text/plain",), octets=b"hello")
BAD = Part(2, "2", None, octets=b"a worm")
LINES = Inquiry(query="SCAN {}/*\n", infected="FOUND$", clean="OK$", names=r"(\S+) FOUND$")
KINDS: dict[str, tuple[Callable[[], Behaviour], Inquiry]] = {
    "sssp": (SsspTalk, Inquiry()),
    "sssp paths": (SsspTalk, Inquiry(sends="paths")),
    "savapi": (SavapiTalk, Inquiry(product="10776")),
    "icap": (IcapTalk, Inquiry(service="avscan")),
    "daemon line": (lambda: LineTalk(stays=True), replace(LINES, ends="line")),
    "daemon close": (LineTalk, LINES),
    "daemon directory": (LineTalk, replace(LINES, query="SCAN {}\n")),
    "clamd": (lambda: ClamdTalk(lambda octets: "Worm.A FOUND" if b"worm" in octets else "OK"), Inquiry()),
}


class Desk:
    """A Scanning with one scanner, or several."""

    def __init__(self, *specs: ScannerSpec, tempbase: Path) -> None:
        self.specs = specs
        self.tempbase = tempbase
        self.scanning = Scanning(specs, str(tempbase))

    def scan(self, *parts: Part, seconds: float = 10.0, **options: object) -> VirusScan:
        return self.scan_all(*parts, virus=self.specs, seconds=seconds, **options)[0]

    def scan_all(
        self, *parts: Part, virus: tuple[ScannerSpec, ...], seconds: float = 10.0, **options: object
    ) -> tuple[VirusScan, ...]:
        given = (Content(MAIL), parts, Envelope("", ()), virus, (), Deadline.after(seconds))
        found, _ = self.scanning.scan(*given, **options)  # type: ignore[arg-type]
        left = [file for path in self.tempbase.glob("parts-*") for file in path.iterdir()]
        assert left == []
        return found


def spec(kind: str, *addresses: str, timeout: float = 10.0, name: str = "av", **more: object) -> ScannerSpec:
    inquiry = replace(KINDS[kind][1], fallbacks=addresses[1:], **more)  # type: ignore[arg-type]
    return ScannerSpec(name, kind.split()[0], addresses[0], timeout=timeout, inquiry=inquiry)


@pytest.fixture(params=sorted(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# --- what they find


def test_a_worm_is_found_by_name_and_in_its_part(kind: str, tmp_path: Path) -> None:
    odd = replace(TEXT, attributes="B")  # so that clamd is given the parts too
    with FakeDaemon(KINDS[kind][0]()) as daemon:
        desk = Desk(spec(kind, daemon.address), tempbase=tmp_path)
        assert desk.scan(odd) == VirusScan("av")
        assert desk.scan(odd, BAD) == VirusScan("av", ("Worm.A",), is_infected=True, parts=(2,))
        assert desk.scan(odd) == VirusScan("av")


def test_a_daemon_on_a_unix_socket_is_asked_the_same(kind: str, tmp_path: Path) -> None:
    with FakeDaemon(KINDS[kind][0](), path=tmp_path / "socket") as daemon:
        odd = replace(BAD, attributes="B")
        assert Desk(spec(kind, daemon.address), tempbase=tmp_path).scan(odd).parts == (2,)


@pytest.mark.parametrize("kind", ["sssp", "sssp paths", "savapi", "icap", "daemon line", "clamd"])
def test_one_connection_serves_many_mails(kind: str, tmp_path: Path) -> None:
    with FakeDaemon(KINDS[kind][0]()) as daemon:
        desk = Desk(spec(kind, daemon.address), tempbase=tmp_path)
        assert [desk.scan(TEXT).error for _ in range(4)] == [""] * 4
        assert daemon.connections == 1


def test_a_daemon_that_closes_after_each_answer_is_asked_on_a_new_connection(tmp_path: Path) -> None:
    talk = LineTalk()
    with FakeDaemon(talk) as daemon:
        assert Desk(spec("daemon close", daemon.address), tempbase=tmp_path).scan(TEXT, BAD).is_infected
        assert daemon.connections == 3
    assert [path.rpartition("/")[2] for path in talk.asked] == ["p000", "p001", "p002"]


def test_an_icap_connection_lives_no_longer_than_the_options_of_its_service(tmp_path: Path) -> None:
    lasting, fleeting = IcapTalk(), IcapTalk(options_ttl=1)
    with FakeDaemon(lasting) as one, FakeDaemon(fleeting) as two:
        for talk, address in ((lasting, one.address), (fleeting, two.address)):
            desk = Desk(spec("icap", address), tempbase=tmp_path)
            desk.scan()
            scanner = desk.scanning._virus[desk.specs[0]]
            scanner._idle.good_until -= 10  # type: ignore[attr-defined]  # ten seconds later
            desk.scan()
            assert talk.said.count(b"OPTIONS") == (1 if talk is lasting else 2)


def test_what_a_scanner_cannot_look_into_is_unchecked_and_no_failure(tmp_path: Path) -> None:
    with FakeDaemon(SsspTalk()) as daemon:
        found = Desk(spec("sssp", daemon.address), tempbase=tmp_path).scan(replace(TEXT, octets=b"encrypted"))
    assert found == VirusScan("av", unchecked=(Unchecked(1, "encrypted"),))
    assert found.is_definite


def test_savapi_is_told_how_long_it_may_take(tmp_path: Path) -> None:
    talk = SavapiTalk()
    with FakeDaemon(talk) as daemon:
        Desk(spec("savapi", daemon.address, timeout=7.5), tempbase=tmp_path).scan()
    assert talk.timeouts == [b"7"]


@pytest.mark.parametrize("answer", [b"", b"220 smtp\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\0\0\0\0", b"421 busy\n"])
def test_another_daemon_at_the_address_is_a_failure_and_never_clean(kind: str, answer: bytes, tmp_path: Path) -> None:
    with FakeDaemon(says(answer)) as daemon:
        found = Desk(spec(kind, daemon.address), tempbase=tmp_path).scan()
    assert found.error
    assert not found.is_definite


# --- fail-over


def test_the_next_address_is_asked_when_nobody_listens(kind: str, tmp_path: Path) -> None:
    with FakeDaemon(KINDS[kind][0]()) as daemon:
        desk = Desk(spec(kind, "127.0.0.1:1", "/nowhere/socket", daemon.address), tempbase=tmp_path)
        assert desk.scan(replace(BAD, attributes="B")).is_infected


def test_the_next_address_is_asked_when_the_first_hangs_up(kind: str, tmp_path: Path) -> None:
    with FakeDaemon(says(b"")) as broken, FakeDaemon(KINDS[kind][0]()) as daemon:
        desk = Desk(spec(kind, broken.address, daemon.address), tempbase=tmp_path)
        assert desk.scan(replace(BAD, attributes="B")).is_infected
        assert (broken.connections, daemon.connections >= 1) == (1, True)


def test_an_address_that_hangs_costs_its_share_of_the_time_only(kind: str, tmp_path: Path) -> None:
    with FakeDaemon(silence) as mute, FakeDaemon(KINDS[kind][0]()) as daemon:
        desk = Desk(spec(kind, mute.address, daemon.address, timeout=0.6), tempbase=tmp_path)
        assert desk.scan(replace(BAD, attributes="B")).is_infected
        assert desk.scan(replace(BAD, attributes="B")).is_infected
        assert mute.connections == 1  # with the second mail the one that answered came first


def test_when_all_addresses_fail_the_last_reason_is_told(tmp_path: Path) -> None:
    desk = Desk(spec("sssp", "/nowhere/one", "127.0.0.1:1"), tempbase=tmp_path)
    assert desk.scan().error == "can't connect to 127.0.0.1:1: Connection refused"


def test_when_all_addresses_hang_the_whole_patience_is_spent_and_no_more(tmp_path: Path) -> None:
    with FakeDaemon(silence) as one, FakeDaemon(silence) as two:
        start = time.monotonic()
        desk = Desk(spec("icap", one.address, two.address, timeout=0.4), tempbase=tmp_path)
        assert desk.scan().error == "no answer in time"
        assert 0.4 <= time.monotonic() - start < 2
        assert (one.connections, two.connections) == (1, 1)


def test_an_error_that_was_answered_is_no_reason_to_ask_elsewhere(tmp_path: Path) -> None:
    def refuses(octets: bytes) -> str:
        return "INSTREAM size limit exceeded. ERROR"

    with FakeDaemon(ClamdTalk(refuses)) as one, FakeDaemon(ClamdTalk(refuses)) as two:
        found = Desk(spec("clamd", one.address, two.address), tempbase=tmp_path).scan()
        assert found.error == "INSTREAM size limit exceeded."
        assert (one.connections, two.connections) == (1, 0)


# --- files


def test_the_files_of_a_mail_are_there_while_it_is_scanned_and_readable_for_the_group(tmp_path: Path) -> None:
    seen: list[tuple[str, bytes, int, int]] = []

    def look(path: Path) -> None:
        seen.append(
            (path.name, path.read_bytes(), stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode))
        )

    before = os.umask(0o077)
    try:
        with FakeDaemon(LineTalk(stays=True, look=look)) as daemon:
            Desk(spec("daemon line", daemon.address), tempbase=tmp_path).scan(TEXT, replace(BAD, octets=b""))
    finally:
        os.umask(before)
    assert seen == [("p000", MAIL, 0o640, 0o750), ("p001", b"hello", 0o640, 0o750)]


def test_one_directory_serves_all_scanners_and_mails_of_a_worker(tmp_path: Path) -> None:
    one, two = LineTalk(stays=True), LineTalk(stays=True)
    with FakeDaemon(one) as first, FakeDaemon(two) as second:
        specs = (spec("daemon line", first.address), spec("daemon line", second.address, name="second"))
        desk = Desk(*specs, tempbase=tmp_path)
        for _ in range(3):
            assert [scan.error for scan in desk.scan_all(TEXT, virus=specs)] == ["", ""]
    assert len({os.path.dirname(path) for path in one.asked + two.asked}) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_nothing_is_written_for_scanners_that_want_no_files(tmp_path: Path) -> None:
    with FakeDaemon(SsspTalk()) as daemon:
        Desk(spec("sssp", daemon.address), tempbase=tmp_path).scan(TEXT)
    assert list(tmp_path.iterdir()) == []


def test_files_that_cannot_be_written_are_a_failure(tmp_path: Path) -> None:
    with FakeDaemon(LineTalk()) as daemon:
        desk = Desk(spec("daemon close", daemon.address), tempbase=tmp_path / "missing")
        assert desk.scan().error == "can't write parts: No such file or directory"


def test_a_directory_whose_worker_is_gone_is_removed_and_that_of_another_is_not(tmp_path: Path) -> None:
    mail = Mail(Content(MAIL), (), Envelope("", ()))
    abandoned = tmp_path / "parts-1-gone"
    (abandoned / "deep").mkdir(parents=True)
    (abandoned / "p001").write_bytes(b"x")
    (tmp_path / "other").mkdir()
    mine = PartFiles(str(tmp_path))
    held = mine.of(mail).directory
    PartFiles(str(tmp_path)).of(mail)
    assert not abandoned.exists()
    assert (tmp_path / "other").exists()
    assert Path(held, "p000").exists()


def test_what_a_scanner_left_in_the_directory_goes_with_the_files(tmp_path: Path) -> None:
    files = PartFiles(str(tmp_path))
    directory = Path(files.of(Mail(Content(MAIL), (), Envelope("", ()))).directory)
    (directory / "unpacked").mkdir()
    (directory / "unpacked" / "x").write_bytes(b"x")
    (directory / "link").symlink_to("/etc")
    files.clear()
    assert list(directory.iterdir()) == []
    assert Path("/etc").exists()


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = PartFiles(str(tmp_path))

    def full(descriptor: int, octets: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Lost, match="No space left"):
        files.of(Mail(Content(MAIL), (), Envelope("", ())))
    files.clear()
    assert [list(path.iterdir()) for path in tmp_path.iterdir()] == [[]]


# --- backups


def named(kind: str, address: str, name: str, on_failure: OnFailure = OnFailure.TEMPFAIL) -> ScannerSpec:
    return replace(spec(kind, address, name=name), on_failure=on_failure)


def test_backups_are_asked_only_when_no_primary_answers(tmp_path: Path) -> None:
    with FakeDaemon(SsspTalk()) as primary, FakeDaemon(SsspTalk()) as backup:
        good, bad = named("sssp", primary.address, "good"), named("sssp", "/nowhere/s", "bad")
        spare = named("sssp", backup.address, "spare")
        desk = Desk(good, bad, spare, tempbase=tmp_path)
        first = desk.scan_all(BAD, virus=(good, bad), backups=(spare,))
        assert [(s.scanner, s.is_infected, bool(s.error), s.is_covered) for s in first] == [
            ("good", True, False, False),
            ("bad", False, True, False),
        ]
        assert backup.connections == 0
        second = desk.scan_all(BAD, virus=(bad,), backups=(spare,))
        assert [(s.scanner, s.is_infected, s.is_covered) for s in second] == [
            ("bad", False, True),
            ("spare", True, False),
        ]


def test_a_backup_that_fails_too_covers_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bad, worse = named("sssp", "/nowhere/a", "bad"), named("icap", "/nowhere/b", "worse")
    found = Desk(bad, worse, tempbase=tmp_path).scan_all(virus=(bad,), backups=(worse,))
    assert [(s.scanner, s.is_covered) for s in found] == [("bad", False), ("worse", False)]
    assert "WARN: all primary virus scanners failed, considering backups" in caplog.text
    assert "worse av-scanner FAILED: can't connect to /nowhere/b: No such file or directory" in caplog.text


def test_backups_alone_are_asked_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FakeDaemon(SsspTalk()) as daemon:
        spare = named("sssp", daemon.address, "spare")
        found = Desk(spare, tempbase=tmp_path).scan_all(BAD, virus=(), backups=(spare,))
    assert [s.scanner for s in found] == ["spare"]
    assert "WARN" not in caplog.text


def test_silence_that_does_not_mean_clean_is_a_failure_unless_another_answers(tmp_path: Path) -> None:
    with FakeDaemon(LineTalk()) as one, FakeDaemon(SsspTalk()) as two:
        vague = named("daemon close", one.address, "vague")
        vague = replace(vague, inquiry=replace(vague.inquiry, clean=None))
        sure = named("sssp", two.address, "sure")
        desk = Desk(vague, sure, tempbase=tmp_path)
        alone = desk.scan_all(TEXT, virus=(vague,))
        assert "inconclusive" in alone[0].error
        together = desk.scan_all(TEXT, virus=(vague, sure))
        assert [s.error for s in together] == ["", ""]
        with_backup = desk.scan_all(TEXT, virus=(vague,), backups=(sure,))
        assert [s.error for s in with_backup] == ["", ""]
        assert desk.scan_all(BAD, virus=(vague,))[0].is_infected


# --- the first finding


def test_the_first_finding_may_end_the_work_of_the_others(tmp_path: Path) -> None:
    with FakeDaemon(silence) as mute, FakeDaemon(SsspTalk()) as quick:
        slow, fast = named("icap", mute.address, "slow"), named("sssp", quick.address, "fast")
        desk = Desk(slow, fast, tempbase=tmp_path)
        found = desk.scan_all(BAD, virus=(slow, fast), first_infected_stops=True)
        assert [(s.scanner, s.names) for s in found] == [("fast", ("Worm.A",))]


def test_rules_that_find_something_here_end_the_daemons_work(tmp_path: Path) -> None:
    (tmp_path / "own.yar").write_text('rule worm { strings: $ = "worm" condition: any of them }')
    with FakeDaemon(silence) as mute:
        rules = ScannerSpec("rules", "yara", rules=(str(tmp_path / "own.yar"),))
        slow = named("icap", mute.address, "slow")
        desk = Desk(slow, rules, tempbase=tmp_path)
        found = desk.scan_all(BAD, virus=(slow, rules), first_infected_stops=True)
        assert [s.scanner for s in found] == ["rules"]


def test_a_clean_answer_ends_nobodys_work(tmp_path: Path) -> None:
    with FakeDaemon(SsspTalk()) as one, FakeDaemon(IcapTalk()) as two:
        specs = (named("sssp", one.address, "one"), named("icap", two.address, "two"))
        found = Desk(*specs, tempbase=tmp_path).scan_all(TEXT, virus=specs, first_infected_stops=True)
    assert [s.scanner for s in found] == ["one", "two"]

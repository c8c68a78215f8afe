"""Scanning - all scanners of one mail at work side by side, in one thread.

First every daemon and program gets its work, then the YARA rules run here while the others work there, then the
answers are polled for until all are in or the time is over. Each scanner has its own patience, within the mail's
deadline. When no virus scanner says infected or clean, the backups are asked, in the same way. With
`first_infected_stops` the first virus scanner that finds something ends the others' work.

In: the content, its decoded parts, the envelope and which scanners this mail is for. Out: one VirusScan or SpamScan
for each that answered or failed, in order: primaries, then backups; those whose work was ended are left out. What a
failure means for the mail is the policy's business; it is told here what failed, and whether a backup covers it.

**Failures:** none from scanners, not even at the deadline; ValueError at the start when one cannot be prepared. An
exception from elsewhere (the alarm) passes through; connections that are in the middle of something are closed then.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, TypeVar

from amavispy.deadline import Deadline
from amavispy.inspection.command_scanner import CommandScanner
from amavispy.inspection.part_files import PartFiles
from amavispy.inspection.spam import SpamdScanner
from amavispy.inspection.spam_program import ProgramScanner
from amavispy.inspection.spam_rspamd import RspamdScanner
from amavispy.inspection.virus import clamd_scanner, icap_scanner, line_daemon_scanner, savapi_scanner, sssp_scanner
from amavispy.inspection.workload import ANY_SPAM_TASK, Mail, SpamTask
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part, SpamScan, VirusScan
from amavispy.policy.settings import ScannerSpec

if TYPE_CHECKING:
    from amavispy.inspection.yara import YaraScanner

_log = logging.getLogger("amavispy.scanning")
_INCONCLUSIVE = "nothing found, but that is inconclusive and no other scanner answered"

Result_co = TypeVar("Result_co", covariant=True)
SpamScans = tuple[SpamScan, ...]


class Work(Protocol[Result_co]):
    """One scanner's work on one mail. None of its methods raises for anything a scanner does.

    `interest` is the poll mask to wait for on `fileno`, 0 when there is nothing to wait for (any more); `ends_at` the
    moment (monotonic) when patience ends. `work_here` computes what is to be computed in this process, `advance` goes
    on when the descriptor is ready, `expire` is called at `ends_at`: it gives up, or goes elsewhere with a new
    `ends_at`. `close` frees what is left, at the end or in the middle of it.
    """

    @property
    def interest(self) -> int: ...
    @property
    def ends_at(self) -> float: ...
    def fileno(self) -> int: ...
    def work_here(self) -> None: ...
    def advance(self) -> None: ...
    def expire(self) -> None: ...
    def close(self) -> None: ...
    def result(self) -> Result_co: ...


class Scanner(Protocol[Result_co]):
    """A scanner, prepared before the workers are forked."""

    def start(self, mail: Mail, ends_at: float) -> Work[Result_co]: ...


class Scanning:
    """The scanners of all policy banks. `tempbase` is where files are written for those that want files."""

    def __init__(self, specs: Iterable[ScannerSpec], tempbase: str = "/tmp") -> None:  # noqa: S108 - wiring gives ours
        self._files = PartFiles(tempbase)
        self._virus: dict[ScannerSpec, Scanner[VirusScan]] = {}
        self._spam: dict[ScannerSpec, Scanner[SpamScans]] = {}
        for spec in dict.fromkeys(specs):
            try:
                self._prepare(spec)
            except ValueError as error:
                raise ValueError(f"scanner {spec.name}: {error}") from error

    def _prepare(self, spec: ScannerSpec) -> None:
        if virus := _VIRUS.get(spec.type):
            self._virus[spec] = virus(spec, self._files)
        elif spam := _SPAM.get(spec.type):
            self._spam[spec] = spam(spec)
        else:
            raise ValueError(f"unknown type {spec.type!r}; known are {', '.join((*_VIRUS, *_SPAM))}")

    def scan(
        self,
        content: Content,
        parts: tuple[Part, ...],
        envelope: Envelope,
        virus: tuple[ScannerSpec, ...],
        spam: tuple[ScannerSpec, ...],
        deadline: Deadline,
        *,
        backups: tuple[ScannerSpec, ...] = (),
        first_infected_stops: bool = False,
        spam_task: SpamTask = ANY_SPAM_TASK,
    ) -> tuple[tuple[VirusScan, ...], SpamScans]:
        """Ask these scanners, all of them among those the constructor got. Takes no longer than the deadline.

        `backups` are virus scanners for the case that none of `virus` says infected or clean. `spam_task` is what spam
        scanners are told besides; one may answer several times, for several recipients' users.
        """
        mail = Mail(content, parts, envelope, spam_task)
        try:
            with _Round(mail, deadline, first_infected_stops=first_infected_stops) as first:
                self._start(first, virus, spam)
                viruses, spams = first.results()
            if backups and not any(scan.is_definite for scan in viruses):
                if virus:
                    _log.warning("WARN: all primary virus scanners failed, considering backups")
                with _Round(mail, deadline, first_infected_stops=first_infected_stops) as second:
                    self._start(second, backups, ())
                    viruses = _joined(viruses, second.results()[0])
        finally:
            self._files.clear()
        return _decided(viruses), spams

    def _start(self, scanners: _Round, virus: Sequence[ScannerSpec], spam: Sequence[ScannerSpec]) -> None:
        for spec in virus:
            scanners.start_virus(self._virus[spec], spec.timeout)
        for spec in spam:
            scanners.start_spam(self._spam[spec], spec.timeout)


class _Round:
    """Scanners side by side, until each has answered or failed."""

    def __init__(self, mail: Mail, deadline: Deadline, *, first_infected_stops: bool) -> None:
        self._mail = mail
        self._deadline = deadline
        self._first_infected_stops = first_infected_stops
        self._virus: list[Work[VirusScan]] = []
        self._spam: list[Work[SpamScans]] = []
        self._waiting: dict[int, Work[object]] = {}
        self._poll = select.poll()

    def __enter__(self) -> _Round:
        return self

    def __exit__(self, *_: object) -> None:
        for work in (*self._virus, *self._spam):
            work.close()

    def start_virus(self, scanner: Scanner[VirusScan], seconds: float) -> None:
        self._virus.append(scanner.start(self._mail, self._patience(seconds)))

    def start_spam(self, scanner: Scanner[SpamScans], seconds: float) -> None:
        self._spam.append(scanner.start(self._mail, self._patience(seconds)))

    def _patience(self, seconds: float) -> float:
        return min(time.monotonic() + seconds, self._deadline.ends_at)

    def results(self) -> tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]:
        """Compute, then poll until everything is over or has expired."""
        for work in (*self._virus, *self._spam):
            work.work_here()
            self._stop_others(work)
        for work in (*self._virus, *self._spam):
            self._watch(work)
        while self._waiting:
            patience = min([work.ends_at for work in self._waiting.values()]) - time.monotonic()
            for descriptor, _ in self._poll.poll(max(0, math.ceil(patience * 1000))):
                self._advance(descriptor)
            self._expire_late()
        spams = [scan for work in self._spam for scan in work.result()]
        return tuple([_told(work.result()) for work in self._virus]), tuple([_told(scan) for scan in spams])

    def _advance(self, descriptor: int) -> None:
        work = self._waiting.pop(descriptor, None)
        if work:  # else its work was ended by another's finding
            self._poll.unregister(descriptor)  # another connection may get this number
            work.advance()
            self._watch(work)
            self._stop_others(work)

    def _watch(self, work: Work[object]) -> None:
        if interest := work.interest:
            descriptor = work.fileno()
            self._waiting[descriptor] = work
            self._poll.register(descriptor, interest)

    def _expire_late(self) -> None:
        now = time.monotonic()
        for descriptor, work in list(self._waiting.items()):
            if now >= work.ends_at:
                self._poll.unregister(descriptor)
                del self._waiting[descriptor]
                work.expire()
                self._watch(work)

    def _stop_others(self, work: Work[object]) -> None:
        """When this virus scanner is through and found something, the others' findings are not wanted any more."""
        if not self._first_infected_stops or work.interest:
            return
        if any(mine is work and mine.result().is_infected for mine in self._virus):
            for other in [other for other in self._virus if other.interest]:
                self._forget(other)

    def _forget(self, work: Work[VirusScan]) -> None:
        if self._waiting.pop(work.fileno(), None):
            self._poll.unregister(work.fileno())
        work.close()
        self._virus.remove(work)


def _yara_scanner(spec: ScannerSpec, _: PartFiles) -> YaraScanner:
    """yara-x is an extra, and 30 MB that only those who use it shall load."""
    try:
        from amavispy.inspection.yara import YaraScanner
    except ImportError as error:
        raise ValueError(f"YARA rules need yara-x (the extra amavispy[yara]): {error}") from error
    return YaraScanner(spec)


_VIRUS: Mapping[str, Callable[[ScannerSpec, PartFiles], Scanner[VirusScan]]] = MappingProxyType(
    {
        "clamd": lambda spec, _: clamd_scanner(spec),
        "yara": _yara_scanner,
        "sssp": sssp_scanner,
        "savapi": savapi_scanner,
        "icap": lambda spec, _: icap_scanner(spec),
        "daemon": line_daemon_scanner,
        "command": CommandScanner,
    }
)
_SPAM: Mapping[str, Callable[[ScannerSpec], Scanner[SpamScans]]] = MappingProxyType(
    {"spamd": SpamdScanner, "rspamd": RspamdScanner, "program": ProgramScanner}
)


def _joined(primaries: tuple[VirusScan, ...], backups: tuple[VirusScan, ...]) -> tuple[VirusScan, ...]:
    """Both; a primary that failed is covered when some backup says infected or clean."""
    if any(scan.is_definite for scan in backups):
        primaries = tuple([replace(scan, is_covered=True) for scan in primaries])
    return primaries + backups


def _decided(scans: tuple[VirusScan, ...]) -> tuple[VirusScan, ...]:
    """Without anybody who says infected or clean, those who found nothing inconclusively have failed."""
    if any(scan.is_definite for scan in scans):
        return scans
    return tuple([_told(replace(s, error=_INCONCLUSIVE)) if s.is_inconclusive and not s.error else s for s in scans])


Scan = TypeVar("Scan", VirusScan, SpamScan)


def _told(scan: Scan) -> Scan:
    if scan.error:
        kind = "av-scanner" if isinstance(scan, VirusScan) else "spam scanner"
        _log.warning("%s %s FAILED: %s", scan.scanner, kind, scan.error)
    return scan

"""Scanning - all scanners of one mail at work side by side, in one thread.

First every daemon gets its work, then the YARA rules run here while the daemons run there, then the answers are
polled for until all are in or the time is over. Each scanner has its own patience, within the mail's deadline.

In: the content, its decoded parts, the envelope and which scanners this mail is for. Out: one VirusScan or SpamScan
for each of them, in order. What a failure means for the mail is the policy's business; it is told here what failed.

**Failures:** none from scanners, not even at the deadline; ValueError at the start when one cannot be prepared. An
exception from elsewhere (the alarm) passes through; connections that are in the middle of something are closed then.
"""

from __future__ import annotations

import logging
import math
import select
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from amavispy.deadline import Deadline
from amavispy.inspection.spam import SpamdScanner
from amavispy.inspection.virus import ClamdScanner
from amavispy.inspection.workload import Mail
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part, SpamScan, VirusScan
from amavispy.policy.settings import ScannerSpec

if TYPE_CHECKING:
    from amavispy.inspection.yara import YaraScanner

_log = logging.getLogger("amavispy.scanning")

Result_co = TypeVar("Result_co", covariant=True)


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
    """The scanners of all policy banks."""

    def __init__(self, specs: Iterable[ScannerSpec]) -> None:
        self._virus: dict[ScannerSpec, Scanner[VirusScan]] = {}
        self._spam: dict[ScannerSpec, Scanner[SpamScan]] = {}
        for spec in dict.fromkeys(specs):
            try:
                self._prepare(spec)
            except ValueError as error:
                raise ValueError(f"scanner {spec.name}: {error}") from error

    def _prepare(self, spec: ScannerSpec) -> None:
        if spec.type == "clamd":
            self._virus[spec] = ClamdScanner(spec)
        elif spec.type == "yara":
            self._virus[spec] = _yara_scanner(spec)
        elif spec.type == "spamd":
            self._spam[spec] = SpamdScanner(spec)
        else:
            raise ValueError(f"unknown type {spec.type!r}; known are clamd, yara, spamd")

    def scan(
        self,
        content: Content,
        parts: tuple[Part, ...],
        envelope: Envelope,
        virus: tuple[ScannerSpec, ...],
        spam: tuple[ScannerSpec, ...],
        deadline: Deadline,
    ) -> tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]:
        """Ask these scanners, all of them among those the constructor got. Takes no longer than the deadline."""
        mail = Mail(content, parts, envelope)
        by_virus: list[Work[VirusScan]] = []
        by_spam: list[Work[SpamScan]] = []
        try:
            for spec in virus:
                by_virus.append(self._virus[spec].start(mail, _patience(spec, deadline)))
            for spec in spam:
                by_spam.append(self._spam[spec].start(mail, _patience(spec, deadline)))
            _finish([*by_virus, *by_spam])
        finally:
            for work in (*by_virus, *by_spam):
                work.close()
        return tuple([_told(work.result()) for work in by_virus]), tuple([_told(work.result()) for work in by_spam])


def _yara_scanner(spec: ScannerSpec) -> YaraScanner:
    """yara-x is an extra, and 30 MB that only those who use it shall load."""
    try:
        from amavispy.inspection.yara import YaraScanner
    except ImportError as error:
        raise ValueError(f"YARA rules need yara-x (the extra amavispy[yara]): {error}") from error
    return YaraScanner(spec)


def _patience(spec: ScannerSpec, deadline: Deadline) -> float:
    return min(time.monotonic() + spec.timeout, deadline.ends_at)


def _finish(works: Sequence[Work[object]]) -> None:
    """Compute, then poll until everything is over or has expired."""
    for work in works:
        work.work_here()
    poll = select.poll()
    waiting: dict[int, Work[object]] = {}
    for work in works:
        _watch(work, waiting, poll)
    while waiting:
        patience = min([work.ends_at for work in waiting.values()]) - time.monotonic()
        for descriptor, _ in poll.poll(max(0, math.ceil(patience * 1000))):
            work = waiting.pop(descriptor)
            poll.unregister(descriptor)  # another connection may get this number
            work.advance()
            _watch(work, waiting, poll)
        _expire_late(waiting, poll)


def _watch(work: Work[object], waiting: dict[int, Work[object]], poll: select.poll) -> None:
    if interest := work.interest:
        descriptor = work.fileno()
        waiting[descriptor] = work
        poll.register(descriptor, interest)


def _expire_late(waiting: dict[int, Work[object]], poll: select.poll) -> None:
    if not waiting:
        return
    now = time.monotonic()
    for descriptor, work in list(waiting.items()):
        if now >= work.ends_at:
            poll.unregister(descriptor)
            del waiting[descriptor]
            work.expire()
            _watch(work, waiting, poll)


Scan = TypeVar("Scan", VirusScan, SpamScan)


def _told(scan: Scan) -> Scan:
    if scan.error:
        kind = "av-scanner" if isinstance(scan, VirusScan) else "spam scanner"
        _log.warning("%s %s FAILED: %s", scan.scanner, kind, scan.error)
    return scan

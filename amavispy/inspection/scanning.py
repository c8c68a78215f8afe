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
from typing import TYPE_CHECKING

from amavispy.deadline import Deadline
from amavispy.inspection.spam import SpamdDialogue, SpamdScanner
from amavispy.inspection.virus import ClamdDialogue, ClamdScanner, everything, what_clamd_needs
from amavispy.inspection.wire import Dialogue
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part, SpamScan, VirusScan
from amavispy.policy.settings import ScannerSpec

if TYPE_CHECKING:
    from amavispy.inspection.yara import YaraScanner

_log = logging.getLogger("amavispy.scanning")

Scans = tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]


class Scanning:
    """The scanners of all policy banks, prepared before the workers are forked."""

    def __init__(self, specs: Iterable[ScannerSpec]) -> None:
        self._clamd: dict[ScannerSpec, ClamdScanner] = {}
        self._yara: dict[ScannerSpec, YaraScanner] = {}
        self._spamd: dict[ScannerSpec, SpamdScanner] = {}
        for spec in dict.fromkeys(specs):
            try:
                self._prepare(spec)
            except ValueError as error:
                raise ValueError(f"scanner {spec.name}: {error}") from error

    def _prepare(self, spec: ScannerSpec) -> None:
        if spec.type == "clamd":
            self._clamd[spec] = ClamdScanner(spec)
        elif spec.type == "yara":
            self._yara[spec] = _yara_scanner(spec)
        elif spec.type == "spamd":
            self._spamd[spec] = SpamdScanner(spec)
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
    ) -> Scans:
        """Ask these scanners, all of them among those the constructor got. Takes no longer than the deadline."""
        clamd: dict[ScannerSpec, ClamdDialogue] = {}
        spamd: dict[ScannerSpec, SpamdDialogue] = {}
        yara: dict[ScannerSpec, VirusScan] = {}
        try:
            for spec in spam:
                spamd[spec] = self._spamd[spec].start(content, envelope, _patience(spec, deadline))
            for spec in virus:
                if spec in self._clamd:
                    work = what_clamd_needs(content, parts)
                    clamd[spec] = self._clamd[spec].start(work, _patience(spec, deadline))
            for spec in virus:
                if spec in self._yara:
                    yara[spec] = self._yara[spec].scan(everything(content, parts), _patience(spec, deadline))
            converse([*clamd.values(), *spamd.values()])
        finally:
            _end([*clamd.values(), *spamd.values()])
        viruses = tuple(yara[spec] if spec in yara else clamd[spec].result() for spec in virus)
        return _told(viruses, tuple(spamd[spec].result() for spec in spam))


def _yara_scanner(spec: ScannerSpec) -> YaraScanner:
    """yara-x is an extra, and 30 MB that only those who use it shall load."""
    try:
        from amavispy.inspection.yara import YaraScanner
    except ImportError as error:
        raise ValueError(f"YARA rules need yara-x (the extra amavispy[yara]): {error}") from error
    return YaraScanner(spec)


def converse(dialogues: Sequence[Dialogue]) -> None:
    """Poll until every dialogue is over or has expired."""
    poll = select.poll()
    under_way: dict[int, Dialogue] = {}

    def watch(dialogue: Dialogue) -> None:
        if interest := dialogue.interest:
            under_way[dialogue.fileno()] = dialogue
            poll.register(dialogue.fileno(), interest)

    for dialogue in dialogues:
        watch(dialogue)
    while under_way:
        patience = min(dialogue.ends_at for dialogue in under_way.values()) - time.monotonic()
        for descriptor, _ in poll.poll(max(0, math.ceil(patience * 1000))):
            poll.unregister(descriptor)  # first: another connection may get this number
            dialogue = under_way.pop(descriptor)
            dialogue.advance()
            watch(dialogue)
        _expire_late(under_way, poll)


def _end(dialogues: Sequence[Dialogue]) -> None:
    """Those that are not over by themselves (an exception came between) close their connections."""
    for dialogue in dialogues:
        dialogue.expire()


def _expire_late(under_way: dict[int, Dialogue], poll: select.poll) -> None:
    now = time.monotonic()
    for descriptor, dialogue in list(under_way.items()):
        if now >= dialogue.ends_at:
            poll.unregister(descriptor)
            del under_way[descriptor]
            dialogue.expire()


def _patience(spec: ScannerSpec, deadline: Deadline) -> float:
    return min(time.monotonic() + spec.timeout, deadline.ends_at)


def _told(virus: tuple[VirusScan, ...], spam: tuple[SpamScan, ...]) -> Scans:
    for scan in virus:
        if scan.error:
            _log.warning("%s av-scanner FAILED: %s", scan.scanner, scan.error)
    for checked in spam:
        if checked.error:
            _log.warning("%s spam scanner FAILED: %s", checked.scanner, checked.error)
    return virus, spam

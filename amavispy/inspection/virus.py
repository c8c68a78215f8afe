"""Virus - scanning a mail with clamd.

Over a Unix socket clamd gets descriptors: the spool file's, or memory files; over TCP the octets. A few are under way
at a time, however many there are. The connection is kept for the next mail (IDSESSION); when it breaks before all
answers are there, for clamd was restarted perhaps, it is made anew once.

**Failures:** none after the start: what goes wrong is the VirusScan's `error`, and never means clean. A finding
outweighs an error. At the start ValueError for an improper address.
"""

from __future__ import annotations

import os
import time
from collections import deque

from amavispy.inspection.wire import Buffer, DaemonAddress, Lost, Wire, lost
from amavispy.inspection.workload import Mail, Scannable, what_clamd_needs
from amavispy.mail.message import Octets
from amavispy.mail.verdict import VirusScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.clamd import Answer, ClamdError, ClamdSession

_WINDOW = 8  # requests under way at a time; their answers fit into any socket buffer

_IDLE_LIMIT = 30.0  # seconds; behind a firewall an older connection may be gone without a word


class _Link:
    """A connection to clamd, where its session stands, and until when it may be used again."""

    __slots__ = ("good_until", "session", "wire")

    def __init__(self, address: DaemonAddress) -> None:
        self.wire = Wire(address)
        self.session = ClamdSession()
        self.good_until = 0.0


class ClamdScanner:
    """One clamd, with the connection that is idle now. Made before the fork, it connects in the worker."""

    def __init__(self, spec: ScannerSpec) -> None:
        self.spec = spec
        self._address = DaemonAddress.parse(spec.address)
        self._idle: _Link | None = None

    def start(self, mail: Mail, ends_at: float) -> ClamdDialogue:
        """Begin scanning: as much as possible is sent at once."""
        dialogue = ClamdDialogue(self, what_clamd_needs(mail), ends_at)
        dialogue.begin(self._recent_link())
        return dialogue

    def connect(self) -> _Link:
        return _Link(self._address)

    def keep(self, link: _Link) -> None:
        """Keep the connection of a finished dialogue for the next one."""
        if self._idle:
            self._idle.wire.close()
        link.good_until = time.monotonic() + _IDLE_LIMIT
        self._idle = link

    def _recent_link(self) -> _Link | None:
        link, self._idle = self._idle, None
        if link and time.monotonic() > link.good_until:
            link.wire.close()
            return None
        return link


class ClamdDialogue:
    """The scan of one mail by one clamd."""

    __slots__ = ("_error", "_is_reused", "_link", "_names", "_objects", "_pending", "_scanner", "ends_at")

    def __init__(self, scanner: ClamdScanner, objects: list[Scannable], ends_at: float) -> None:
        self.ends_at = ends_at
        self._scanner = scanner
        self._objects = objects
        self._pending: deque[Scannable] = deque()
        self._names: list[str] = []
        self._error = ""
        self._link: _Link | None = None
        self._is_reused = False

    @property
    def interest(self) -> int:
        return self._link.wire.interest if self._link else 0

    def fileno(self) -> int:
        assert self._link
        return self._link.wire.fileno()

    def begin(self, link: _Link | None) -> None:
        """Ask for everything, on this idle connection or on a new one."""
        self._pending = deque(self._objects)
        self._is_reused = link is not None
        try:
            self._link = link = link or self._scanner.connect()
        except Lost as error:
            self._error = str(error)
            return
        try:
            self._ask(link)
            link.wire.send()  # the error it may return comes again when the answer is awaited
        except Lost as error:
            self._lost(link, error)

    def work_here(self) -> None:
        """Nothing: clamd works there."""

    def advance(self) -> None:
        link = self._link
        if link is None:
            return
        try:
            self._exchange(link)
        except (Lost, ClamdError) as error:
            self._lost(link, error)

    def expire(self) -> None:
        if self._link:
            self._link.wire.close()
            self._link, self._error = None, "no answer in time"

    def close(self) -> None:
        if self._link:
            self._link.wire.close()

    def result(self) -> VirusScan:
        spec = self._scanner.spec
        names = tuple(dict.fromkeys(self._names))
        return VirusScan(spec.name, names, bool(names), "" if names else self._error, spec.on_failure)

    def _exchange(self, link: _Link) -> None:
        octets = link.wire.pump()
        if octets is None:
            return
        if not octets:
            raise ClamdError("clamd closed the connection")
        for answer in link.session.receive(octets):
            self._note(answer)
        if self._pending:
            self._ask(link)
        elif not link.session.outstanding:
            self._finish(link)

    def _ask(self, link: _Link) -> None:
        while self._pending and link.session.outstanding < _WINDOW:
            scannable = self._pending.popleft()
            if not link.wire.address.path:
                before, behind = link.session.ask_stream(scannable.size)
                link.wire.queue(before, scannable.top, _buffer(scannable.octets), behind)
            elif scannable.descriptor is not None:
                link.wire.send_descriptor(link.session.ask_descriptor(), scannable.descriptor)
            else:
                _send_in_memory_file(link, scannable)

    def _note(self, answer: Answer) -> None:
        if answer.name:
            self._names.append(answer.name)
        self._error = self._error or answer.error

    def _finish(self, link: _Link) -> None:
        self._link = None
        if self._error:
            link.wire.close()
        else:
            self._scanner.keep(link)

    def _lost(self, link: _Link, error: Exception) -> None:
        link.wire.close()
        self._link = None
        if self._is_reused and not self._error:  # not clamd's word on this mail, but the end of an old connection
            self.begin(None)
        else:
            self._error = self._error or str(error)


def _send_in_memory_file(link: _Link, scannable: Scannable) -> None:
    try:
        descriptor = os.memfd_create("mail", os.MFD_CLOEXEC)
    except OSError as error:
        raise lost(error) from error
    try:
        for octets in (scannable.top, scannable.octets):
            _write(descriptor, octets)
        link.wire.send_descriptor(link.session.ask_descriptor(), descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, octets: Octets | memoryview) -> None:
    if not octets:
        return
    try:
        written = os.write(descriptor, octets)
        while written < len(octets):
            written += os.write(descriptor, memoryview(octets)[written:])
    except OSError as error:
        raise lost(error) from error


def _buffer(octets: Octets | memoryview) -> Buffer:
    return octets if isinstance(octets, bytes) else memoryview(octets)

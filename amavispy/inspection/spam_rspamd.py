"""Spam rspamd - what rspamd thinks of a mail, and what it would do with it.

One request a mail, with everything the envelope says of client and recipients. The mail is sent as it came in, in full
unless the scanner has a limit of its own (rspamd has one: max_message). A connection that rspamd leaves open is used
for the next mail; when it breaks before an answer came, the request is made anew, once.

**Failures:** none after the start: a SpamScan without score and with `error`, which is not the same as score 0. At the
start ValueError for an improper address.
"""

from __future__ import annotations

import select
import time

from amavispy.inspection.spam_input import beginning, length_for, weighed
from amavispy.inspection.wire import DaemonAddress, Lost, Wire
from amavispy.inspection.workload import Mail
from amavispy.mail.verdict import SpamScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.rspamd import ResponseReader, RspamdError, request_head

_IDLE_LIMIT = 30.0  # seconds; behind a firewall an older connection may be gone without a word


class RspamdScanner:
    """One rspamd, with the connection that is idle now. Made before the fork, it connects in the worker."""

    def __init__(self, spec: ScannerSpec) -> None:
        self.spec = spec
        self.address = DaemonAddress.parse(spec.address)
        self._host = "localhost" if self.address.path else spec.address
        self._idle: tuple[Wire, float] | None = None

    def start(self, mail: Mail, ends_at: float) -> RspamdWork:
        """Connect, and send as much as possible at once."""
        spec = self.spec
        length = length_for(mail.content, spec.mail_body_size_limit or 0)
        head = request_head(length, mail.envelope, self._host, mta_name=spec.mta_name, password=spec.password)
        work = RspamdWork(self, [head, beginning(mail.content, length)], ends_at)
        work.begin(self._recent())
        return work

    def keep(self, wire: Wire) -> None:
        """Keep the connection of a finished dialogue for the next one."""
        if self._idle:
            self._idle[0].close()
        self._idle = wire, time.monotonic() + _IDLE_LIMIT

    def _recent(self) -> Wire | None:
        idle, self._idle = self._idle, None
        if idle and time.monotonic() > idle[1]:
            idle[0].close()
            return None
        return idle[0] if idle else None


class RspamdWork:
    """The request for one mail."""

    __slots__ = ("_error", "_has_answer", "_is_reused", "_pieces", "_reader", "_scanner", "_wire", "ends_at")

    def __init__(self, scanner: RspamdScanner, pieces: list[bytes], ends_at: float) -> None:
        self.ends_at = ends_at
        self._scanner = scanner
        self._pieces = pieces
        self._reader = ResponseReader()
        self._wire: Wire | None = None
        self._is_reused = False
        self._has_answer = False
        self._error = ""

    @property
    def interest(self) -> int:
        return self._wire.interest if self._wire else 0

    def fileno(self) -> int:
        assert self._wire
        return self._wire.fileno()

    def begin(self, wire: Wire | None) -> None:
        """Ask on this idle connection, or on a new one."""
        self._is_reused = wire is not None
        try:
            self._wire = wire or Wire(self._scanner.address)
            self._wire.queue(*self._pieces)
            self._wire.send()  # the error it may return comes again when the answer is awaited
        except Lost as error:
            self._end(str(error))

    def work_here(self) -> None:
        """Nothing: rspamd works there."""

    def advance(self) -> None:
        wire = self._wire
        if wire is None:
            return
        try:
            octets = wire.pump()
            if octets is not None and not self._is_stale(octets):
                self._reader.receive(octets)
        except Lost as error:
            if not self._is_stale(b""):
                self._end(str(error))
        except RspamdError as error:
            self._end(str(error))
        if response := self._reader.response:
            self._finish(wire, is_reusable=response.is_reusable)

    def expire(self) -> None:
        if self._wire:
            self._end("no answer in time")

    def close(self) -> None:
        if self._wire:
            self._wire.close()
            self._wire = None

    def result(self) -> tuple[SpamScan, ...]:
        spec, response = self._scanner.spec, self._reader.response
        if self._error or response is None:
            return (SpamScan(spec.name, error=self._error or "no response", on_failure=spec.on_failure),)
        score, tests = weighed(response.score, response.tests, spec)
        return (SpamScan(spec.name, score, tests, on_failure=spec.on_failure, advice=response.advice),)

    def _is_stale(self, octets: bytes) -> bool:
        """Whether a kept connection turns out to be closed; then a new one is tried."""
        if octets or not self._is_reused or self._has_answer:
            self._has_answer = self._has_answer or bool(octets)
            return False
        self.close()
        self.begin(None)
        return True

    def _finish(self, wire: Wire, *, is_reusable: bool) -> None:
        self._wire = None
        if is_reusable and not wire.interest & select.POLLOUT:  # it has taken the whole request
            self._scanner.keep(wire)
        else:
            wire.close()

    def _end(self, error: str) -> None:
        self._error = error
        self.close()

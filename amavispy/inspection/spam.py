"""Spam - what spamd thinks of a mail.

One request for each user whose preferences count (sa_username_maps), a connection each, a few at a time side by side;
usually that is one request without a User, and every recipient shares the daemon's own preferences. All requests carry
the same mail, compressed once when the scanner says so.

**Failures:** none after the start: a SpamScan without score and with `error`, which is not the same as score 0. At the
start ValueError for an improper address.
"""

from __future__ import annotations

import select
import zlib
from collections import deque
from collections.abc import Sequence

from amavispy.inspection.spam_input import weighed, with_pseudo_header
from amavispy.inspection.wire import DaemonAddress, Lost, Wire
from amavispy.inspection.workload import Mail
from amavispy.mail.verdict import SpamScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.spamd import ResponseReader, SpamdError, request_head

_AT_ONCE = 8  # requests under way; spamd has five children by default, more only wait there
_COMPRESSION = 1

Group = tuple[str, tuple[int, ...] | None]  # a user, and the positions of his recipients; None: everybody


class SpamdScanner:
    """One spamd."""

    def __init__(self, spec: ScannerSpec) -> None:
        self.spec = spec
        self.address = DaemonAddress.parse(spec.address)

    def start(self, mail: Mail, ends_at: float) -> SpamdWork:
        """Connect, and send as much as possible at once."""
        pieces = with_pseudo_header(mail, self.spec)
        if self.spec.compress:
            pieces = [zlib.compress(b"".join(pieces), _COMPRESSION)]
        work = SpamdWork(self, pieces, ends_at)
        work.begin(groups(mail.spam.users, self.spec.user))
        return work


def groups(users: Sequence[str | None], otherwise: str) -> list[Group]:
    """The recipients by user, in the order of their first ones; None wants no check, "" is `otherwise`."""
    by_user: dict[str, list[int]] = {}
    for number, user in enumerate(users):
        if user is not None:
            by_user.setdefault(user or otherwise, []).append(number)
    if len(by_user) < 2:
        return [(next(iter(by_user), otherwise), None)]
    return [(user, tuple(numbers)) for user, numbers in by_user.items()]


class SpamdWork:
    """The requests for one mail. `fileno` is the only dialogue's, or that of an epoll over several."""

    __slots__ = ("_active", "_all", "_only", "_pieces", "_poll", "_scanner", "_waiting", "ends_at")

    def __init__(self, scanner: SpamdScanner, pieces: list[bytes], ends_at: float) -> None:
        self.ends_at = ends_at
        self._scanner = scanner
        self._pieces = pieces
        self._all: list[SpamdDialogue] = []
        self._only: SpamdDialogue | None = None
        self._waiting: deque[SpamdDialogue] = deque()
        self._active: dict[int, SpamdDialogue] = {}
        self._poll: select.epoll | None = None

    def begin(self, wanted: Sequence[Group]) -> None:
        self._all = [SpamdDialogue(self._scanner.spec, *group) for group in wanted]
        if len(self._all) == 1:
            self._only = self._all[0]
            self._only.begin(self._scanner.address, self._pieces)
            return
        self._poll = select.epoll()
        self._waiting.extend(self._all)
        self._start_more()

    @property
    def interest(self) -> int:
        if self._only:
            return self._only.interest
        return select.POLLIN if self._active else 0

    def fileno(self) -> int:
        if self._only:
            return self._only.fileno()
        assert self._poll
        return self._poll.fileno()

    def work_here(self) -> None:
        """Nothing: spamd works there."""

    def advance(self) -> None:
        if self._only:
            self._only.advance()
        elif self._poll:
            for descriptor, _ in self._poll.poll(0):
                self._poll.unregister(descriptor)
                dialogue = self._active.pop(descriptor)
                dialogue.advance()
                self._watch(dialogue)
            self._start_more()

    def expire(self) -> None:
        for dialogue in self._all:
            dialogue.expire()
        self._waiting.clear()
        self._active.clear()

    def close(self) -> None:
        for dialogue in self._all:
            dialogue.close()
        self._waiting.clear()
        self._active.clear()
        if self._poll:
            self._poll.close()

    def result(self) -> tuple[SpamScan, ...]:
        """One answer for each group of recipients."""
        return tuple([dialogue.result() for dialogue in self._all])

    def _start_more(self) -> None:
        while self._waiting and len(self._active) < _AT_ONCE:
            dialogue = self._waiting.popleft()
            dialogue.begin(self._scanner.address, self._pieces)
            self._watch(dialogue)

    def _watch(self, dialogue: SpamdDialogue) -> None:
        if self._poll and (interest := dialogue.interest):
            self._active[dialogue.fileno()] = dialogue
            self._poll.register(dialogue.fileno(), interest)


class SpamdDialogue:
    """One request to spamd, for these recipients."""

    __slots__ = ("_error", "_is_over", "_reader", "_recipients", "_spec", "_user", "_wire")

    def __init__(self, spec: ScannerSpec, user: str, recipients: tuple[int, ...] | None) -> None:
        self._spec = spec
        self._user = user
        self._recipients = recipients
        self._reader = ResponseReader()
        self._wire: Wire | None = None
        self._error = ""
        self._is_over = False

    @property
    def interest(self) -> int:
        return self._wire.interest if self._wire else 0

    def fileno(self) -> int:
        assert self._wire
        return self._wire.fileno()

    def begin(self, address: DaemonAddress, pieces: list[bytes]) -> None:
        head = request_head(sum(map(len, pieces)), user=self._user, is_compressed=self._spec.compress)
        try:
            self._wire = Wire(address)
            self._wire.queue(head, *pieces, is_last=self._spec.compress)  # spamd inflates at the end of the stream
            self._wire.send()  # the error it may return comes again when the answer is awaited
        except Lost as error:
            self._end(str(error))

    def advance(self) -> None:
        if self._wire is None:
            return
        try:
            octets = self._wire.pump()
            if octets is not None:
                self._reader.receive(octets)
        except (Lost, SpamdError) as error:
            self._end(str(error))
        if self._reader.response:
            self._end("")

    def expire(self) -> None:
        """Give up, also when it has not begun: others had to be waited for."""
        if not self._is_over:
            self._end("no answer in time")

    def close(self) -> None:
        if self._wire:
            self._wire.close()

    def result(self) -> SpamScan:
        spec, response = self._spec, self._reader.response
        if self._error or response is None:
            error = self._error or "no response"
            return SpamScan(spec.name, error=error, on_failure=spec.on_failure, recipients=self._recipients)
        score, tests = weighed(response.score, response.tests, spec)
        return SpamScan(
            spec.name, score, tests, "", response.report, on_failure=spec.on_failure, recipients=self._recipients
        )

    def _end(self, error: str) -> None:
        self._error = error
        self._is_over = True
        if self._wire:
            self._wire.close()
            self._wire = None

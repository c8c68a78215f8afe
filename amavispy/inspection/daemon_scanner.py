"""Daemon scanner - one virus scanner daemon at one or more addresses, and what it says of a mail.

How it is asked and what its answers mean is a `ScannerSession` (`protocols.scanner_talk`); here are connections, time
and fail-over. A connection is kept for the next mail while the session allows. When it breaks before all answers are
there, the mail is asked for again: on a new connection when this one was an old one, then at the next address. With
several addresses the time is shared out among those that are left, so that a daemon that hangs costs its share only;
the address that answered last comes first with the next mail.

**Failures:** none after the start: what goes wrong is the VirusScan's `error`, and never means clean. A finding
outweighs an error. At the start ValueError for an improper address.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from amavispy.inspection.findings import Findings
from amavispy.inspection.wire import DaemonAddress, Lost, Wire
from amavispy.inspection.workload import Mail
from amavispy.mail.verdict import VirusScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.scanner_talk import ScannerError, ScannerSession

_IDLE_LIMIT = 30.0  # seconds; behind a firewall an older connection may be gone without a word

SessionT = TypeVar("SessionT", bound=ScannerSession)
ItemT = TypeVar("ItemT")
ItemT_contra = TypeVar("ItemT_contra", contravariant=True)
SessionT_contra = TypeVar("SessionT_contra", bound=ScannerSession, contravariant=True)


class Asks(Protocol[SessionT_contra, ItemT_contra]):
    """How one thing is asked for: the session is told, and what it cannot send by itself is sent."""

    def __call__(self, wire: Wire, session: SessionT_contra, item: ItemT_contra, /) -> None: ...


class Link(Generic[SessionT]):
    """A connection, where its session stands, when it was made, and until when it may be used again."""

    __slots__ = ("good_until", "made_at", "session", "wire")

    def __init__(self, address: DaemonAddress, session: SessionT) -> None:
        self.wire = Wire(address)
        self.session = session
        self.made_at = time.monotonic()
        self.good_until = 0.0


class DaemonScanner(Generic[SessionT, ItemT]):
    """A scanner daemon, with the connection that is idle now. Made before the fork, it connects in the worker.

    `items` says what of a mail is to be asked for; it may raise Lost. `new_session` begins to talk to an address.
    """

    def __init__(
        self,
        spec: ScannerSpec,
        items: Callable[[Mail], Sequence[ItemT]],
        new_session: Callable[[DaemonAddress], SessionT],
        ask: Asks[SessionT, ItemT],
    ) -> None:
        self.spec = spec
        self.addresses = [DaemonAddress.parse(text) for text in (spec.address, *spec.inquiry.fallbacks)]
        self.ask = ask
        self._items = items
        self._new_session = new_session
        self._idle: Link[SessionT] | None = None

    def start(self, mail: Mail, ends_at: float) -> DaemonDialogue[SessionT, ItemT]:
        """Begin scanning: as much as possible is sent at once."""
        dialogue = DaemonDialogue(self, ends_at)
        try:
            dialogue.begin(self._items(mail), self._recent_link())
        except Lost as error:
            dialogue.fail(f"can't write parts: {error}")
        return dialogue

    def connect(self, address: DaemonAddress) -> Link[SessionT]:
        return Link(address, self._new_session(address))

    def keep(self, link: Link[SessionT]) -> None:
        """Keep the connection of a finished dialogue for the next one; its address is the first to be asked."""
        address = link.wire.address
        if self.addresses[0] is not address:
            self.addresses.remove(address)
            self.addresses.insert(0, address)
        if link.session.is_spent:
            link.wire.close()
            return
        if self._idle:
            self._idle.wire.close()
        lifetime = getattr(link.session, "lifetime", 0)
        link.good_until = time.monotonic() + _IDLE_LIMIT
        if lifetime:
            link.good_until = min(link.good_until, link.made_at + lifetime)
        self._idle = link

    def _recent_link(self) -> Link[SessionT] | None:
        link, self._idle = self._idle, None
        if link and time.monotonic() > link.good_until:
            link.wire.close()
            return None
        return link


class DaemonDialogue(Generic[SessionT, ItemT]):
    """The scan of one mail by one daemon. `ends_at` is when the patience with the present address ends."""

    __slots__ = ("_addresses", "_findings", "_is_reused", "_items", "_last", "_link", "_pending", "_scanner", "ends_at")

    def __init__(self, scanner: DaemonScanner[SessionT, ItemT], ends_at: float) -> None:
        self.ends_at = ends_at
        self._last = ends_at
        self._scanner = scanner
        self._items: Sequence[ItemT] = ()
        self._addresses = deque(scanner.addresses)
        self._pending: deque[ItemT] = deque()
        self._findings = Findings()
        self._link: Link[SessionT] | None = None
        self._is_reused = False

    @property
    def interest(self) -> int:
        return self._link.wire.interest if self._link else 0

    def fileno(self) -> int:
        assert self._link
        return self._link.wire.fileno()

    def begin(self, items: Sequence[ItemT], link: Link[SessionT] | None) -> None:
        """Ask for all of this, on this idle connection or on a new one."""
        self._items = items
        self._ask_for_all(link)

    def fail(self, error: str) -> None:
        self._findings.failed(error)

    def work_here(self) -> None:
        """Nothing: the daemon works there."""

    def advance(self) -> None:
        link = self._link
        if link is None:
            return
        try:
            self._exchange(link)
        except (Lost, ScannerError) as error:
            self._lost(link, error)

    def expire(self) -> None:
        """The patience with this address is over: the next one, if there is one and time."""
        link = self._link
        if link is None:
            return
        self.close()
        if self._addresses and not self._findings.error and time.monotonic() < self._last:
            self._ask_for_all(None)
        else:
            self._findings.failed("no answer in time")

    def close(self) -> None:
        if self._link:
            self._link.wire.close()
            self._link = None

    def result(self) -> VirusScan:
        return self._findings.scan(self._scanner.spec)

    def _ask_for_all(self, link: Link[SessionT] | None) -> None:
        self._pending = deque(self._items)
        self._is_reused = link is not None
        try:
            self._link = link = link or self._connected()
        except Lost as error:
            self._findings.failed(str(error))
            return
        now = time.monotonic()
        self.ends_at = now + (self._last - now) / (len(self._addresses) + 1)
        try:
            self._ask(link)
        except Lost as error:
            self._lost(link, error)

    def _connected(self) -> Link[SessionT]:
        """A connection to the next address that takes one."""
        while True:
            address = self._addresses.popleft()
            try:
                return self._scanner.connect(address)
            except Lost:
                if not self._addresses:
                    raise

    def _ask(self, link: Link[SessionT]) -> None:
        while self._pending and link.session.takes_more:
            self._scanner.ask(link.wire, link.session, self._pending.popleft())
        link.wire.queue(*link.session.take_output())
        link.wire.send()  # the error it may return comes again when the answer is awaited

    def _exchange(self, link: Link[SessionT]) -> None:
        octets = link.wire.pump()
        if octets is None:
            return
        for answer in link.session.receive(octets):
            self._findings.note(answer)
        if link.session.is_waiting or (self._pending and not link.session.is_spent):
            self._ask(link)
        elif self._pending:  # this daemon takes one question a connection
            link.wire.close()
            self._link = link = self._scanner.connect(link.wire.address)
            self._ask(link)
        else:
            self._finish(link)

    def _finish(self, link: Link[SessionT]) -> None:
        self._link = None
        if self._findings.error:
            link.wire.close()
        else:
            self._scanner.keep(link)

    def _lost(self, link: Link[SessionT], error: Exception) -> None:
        link.wire.close()
        self.close()
        # An error that was answered is the daemon's word on this mail, another address would say the same. Otherwise it
        # may have been the end of an old connection only: then the same address is asked again.
        if not self._findings.error and (self._is_reused or self._addresses):
            self._ask_for_all(None)
        else:
            self._findings.failed(str(error))

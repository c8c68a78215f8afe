"""waiting line - the one fair queue: sessions that want a worker, first come first served.

A loan is put into the kernel only while more workers are idle than loans wait there already; so every other client
stays here, where it can still be seen leaving, be told 421, or go to another gateway at a reload.

**Failures:** none; a kernel queue that is full, or no descriptors to send with, only means to wait longer.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Callable, Iterator

from amavispy.server import inner
from amavispy.server.guest import Guest
from amavispy.server.scoreboard import Scoreboard


class WaitingLine:
    """`lend_out` is called with each guest just before it is sent: it must leave the epoll set by then."""

    def __init__(
        self,
        gateway_end: socket.socket,
        workers_end: socket.socket,
        board: Scoreboard,
        lend_out: Callable[[Guest], None],
    ) -> None:
        self._end = gateway_end
        self._board = board
        self._lend_out = lend_out
        self._in_flight = inner.InFlight(workers_end)
        self._guests: deque[Guest] = deque()
        self._length = 0
        self._for_good = 0
        self._was_stuck = False

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Guest]:
        """The waiting guests in order; they leave the line as they come out."""
        while guest := self._next():
            self._taken(guest)
            yield guest

    @property
    def in_kernel(self) -> int:
        """Loans that no worker has taken yet."""
        return self._in_flight.count()

    @property
    def for_good(self) -> int:
        """Sessions that will never come back: with workers, in the kernel, or waiting here."""
        self._in_flight.count()
        return self._board.pinned_workers() + self._in_flight.for_good() + self._for_good

    def enter(self, guest: Guest, now: float) -> None:
        """Queue up. A guest that came from another gateway keeps the time it began to wait."""
        guest.since = guest.since or now
        guest.is_waiting = True
        self._guests.append(guest)
        self._length += 1
        self._for_good += guest.is_for_good

    def leave(self, guest: Guest) -> None:
        """The guest does not wait any more; its place is passed over when it comes up."""
        guest.is_waiting = False
        self._length -= 1
        self._for_good -= guest.is_for_good

    def pump(self) -> None:
        """Lend while a worker is free for the next guest."""
        while (guest := self._next()) and self._board.idle_workers() > self._in_flight.count():
            if not self._lend(guest):
                return

    def nudge(self) -> None:
        """Wake another worker when a loan lies in the kernel although workers are idle.

        EPOLLEXCLUSIVE wakes one waiter a packet; if that one dies or retires at this moment, nobody else hears of it.
        """
        is_stuck = bool(self._in_flight.count() and self._board.idle_workers())
        if is_stuck and self._was_stuck and (size := inner.say(self._end, inner.NUDGE)):
            self._in_flight.sent(size)
        self._was_stuck = is_stuck

    def overdue(self, before: float) -> Iterator[Guest]:
        """Guests that began to wait before this moment; they leave the line."""
        while (guest := self._next()) and guest.since < before:
            self._taken(guest)
            yield guest

    def _next(self) -> Guest | None:
        while self._guests:
            if self._guests[0].is_waiting:
                return self._guests[0]
            self._guests.popleft()
        return None

    def _taken(self, guest: Guest) -> None:
        self._guests.popleft()
        self.leave(guest)

    def _lend(self, guest: Guest) -> bool:
        loan = guest.loan()
        self._lend_out(guest)
        try:
            size = inner.lend(self._end, loan, guest.sock.fileno())
        except OSError:  # ETOOMANYREFS, EMFILE: too many descriptors on their way
            size = 0
        if size:
            self._in_flight.sent(size, is_for_good=loan.is_for_good)
            self._taken(guest)
            guest.sock.close()
        return bool(size)

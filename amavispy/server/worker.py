"""worker - the process that serves lent connections, one at a time, each until it is idle again.

Waits for the inner socket, its signals and the lifeline; takes a loan, lets the sessions run it, and gives it back.
What a session does is not its business: it sees a loan go in and a loan or nothing come out.

**Failures:** whatever leaves a session is a bug or the alarm: it is logged, the connection closed, and the worker
retires, so that nothing half done stays behind. The master starts another.
"""

from __future__ import annotations

import logging
import select
import signal
import socket

import setproctitle

from amavispy.mail.reply import Reply
from amavispy.server import inner
from amavispy.server.duty import WorkerDuty
from amavispy.server.loan import Loan
from amavispy.server.plan import Shutdown
from amavispy.server.scoreboard import IDLE, LEAVING
from amavispy.server.signals import SignalQueue
from amavispy.server.station import Station

_LOG = logging.getLogger("amavispy.server")
_LEVEL_2 = 15
_REST_AFTER = 20.0  # seconds without work
_GOODBYE = Reply(421, "4.3.2", "Service shutting down, closing channel").octets()


class Worker:
    """One worker process; `run` returns when it retires."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._end = station.workers_end
        self._slot = station.slot
        self._limit = station.plan.server.max_requests
        self._signals = SignalQueue((signal.SIGUSR1,))
        self._duty = WorkerDuty(station.slot)
        self._duty.take_signals()

    def run(self) -> None:
        """Serve until a signal, max_requests, a bug or the end of the lifeline."""
        epoll = select.epoll()
        # EPOLLEXCLUSIVE: a packet wakes one worker, not all of them (measured: 31 against 122 us a connection).
        epoll.register(self._end.fileno(), select.EPOLLIN | select.EPOLLEXCLUSIVE)
        epoll.register(self._signals.fileno(), select.EPOLLIN)
        epoll.register(self._station.lifeline, select.EPOLLIN)
        setproctitle.setproctitle("amavispy (ch0-avail)")
        self._slot.mark(IDLE)
        inner.say(self._end, inner.FREE)
        patience = -1.0
        while not self._duty.is_retiring:
            events = epoll.poll(patience, 1)  # one event a call: a second one would be stuck behind the first
            for descriptor, _ in events:
                self._on_event(descriptor)
            if not events:
                self._station.plan.rest()
            patience = _REST_AFTER if events else -1.0
        self._slot.mark(LEAVING)

    def _on_event(self, descriptor: int) -> None:
        if descriptor == self._end.fileno():
            self._take()
        elif descriptor == self._station.lifeline:
            self._duty.retire()
        elif signal.SIGUSR1 in self._signals.take():
            self._station.plan.reopen_logs()

    def _take(self) -> None:
        """Take a loan out of the kernel, if another worker was not quicker. From here on it must not get lost."""
        try:
            received = inner.receive(self._end)
        except BlockingIOError:
            return
        except EOFError:
            self._duty.retire()
            return
        if received:
            self._serve(*received)

    def _serve(self, loan: Loan, sock: socket.socket) -> None:
        self._duty.begin_session(loan)
        returned = self._run(loan, sock)
        if self._limit and self._slot.tasks >= self._limit:
            tasks, sessions = self._slot.tasks, self._slot.sessions
            _LOG.log(_LEVEL_2, "Requesting process rundown after %d tasks (and %d sessions)", tasks, sessions)
            self._duty.retire()
        # The gateway counts idle workers when the packet comes, so the state must be there first.
        self._duty.end_session(LEAVING if self._duty.is_retiring else IDLE)
        if returned:
            self._give_back(returned, sock)
        elif not self._duty.is_retiring:
            inner.say(self._end, inner.FREE)

    def _run(self, loan: Loan, sock: socket.socket) -> Loan | None:
        """The process's one broad except: whatever a session lets out ends this worker, never the daemon."""
        try:
            return self._station.plan.sessions.run(loan, sock, self._duty)
        except TimeoutError as error:
            _LOG.error("Requesting process rundown, %s", error)
        except Shutdown:
            _goodbye(loan, sock)
        except Exception:
            _LOG.exception("TROUBLE in process_request; requesting process rundown after fatal error")
        self._duty.end_message()
        self._duty.retire()
        sock.close()
        return None

    def _give_back(self, loan: Loan, sock: socket.socket) -> None:
        """To the gateway; when it is gone, or we stop, the client is told to come again."""
        try:
            if self._duty.is_stopping:
                _goodbye(loan, sock)
            else:
                inner.give_back(self._end, loan, sock.fileno())
        except OSError as error:
            _LOG.error("a session could not be given back: %s", error)
            _goodbye(loan, sock)
        sock.close()


def _goodbye(loan: Loan, sock: socket.socket) -> None:
    """A last word between two transactions, if the peer takes it."""
    if loan.protocol != "SMTP":
        return
    try:
        sock.send(_GOODBYE, socket.MSG_DONTWAIT)
    except OSError:
        return

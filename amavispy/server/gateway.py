"""gateway - the process that owns the listen sockets: accepts, greets, parks idle clients and lends the busy ones.

One epoll loop. A client costs a worker only from the moment a transaction begins until it is answered; the worker then
gives the session back. What a client is told before that is the front's business, who may come in the reception's, who
comes next the waiting line's; here are the sockets, the limits and the clock.

Signals: TERM and INT stop now (everybody hears 421), QUIT lets those who wait be served first, HUP hands every session
to the next gateway, USR1 reopens the logs. When the lifeline ends the master is gone: as TERM.

**Failures:** a client's are its own. A bug ends the process with a traceback and the master starts another; only
sessions between transactions are lost then, never a mail.
"""

from __future__ import annotations

import errno
import logging
import select
import signal
import socket
import time
from collections.abc import Callable

from amavispy.mail.reply import Reply
from amavispy.server import inner, interfaces
from amavispy.server.front import ProxyFront, Step
from amavispy.server.guest import Guest
from amavispy.server.listener import Listener
from amavispy.server.loan import Loan
from amavispy.server.reception import Reception
from amavispy.server.signals import SignalQueue
from amavispy.server.station import Station
from amavispy.server.waiting_line import WaitingLine

_LOG = logging.getLogger("amavispy.server")
_READ_SIZE = 4096  # a pipelined burst makes us hold little; the rest stays in the kernel for the worker
_ACCEPTS_A_TURN = 64
_PACKETS_A_TURN = 64
_EVENTS_A_TURN = 256
_HEARTBEAT = 0.25
_TICK = 0.05  # while somebody waits for a worker
_CLOSING_SECONDS = 10.0
_PAUSE_SECONDS = 0.5
_OUT_OF_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1)

SHUTTING_DOWN = Reply(421, "4.3.2", "Service shutting down, closing channel")
IDLE_TOO_LONG = Reply(421, "4.4.2", "Error: timeout exceeded, closing channel")
TOO_MANY_SESSIONS = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_WAITING = Reply(421, "4.3.2", "Too many clients wait for a worker, try again later")
WAITED_TOO_LONG = Reply(421, "4.3.2", "All workers are busy, try again later")


class Gateway:
    """One gateway process; `run` returns when it has nothing left to do."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._server = station.plan.server
        self._slot = station.slot
        self._epoll = select.epoll()
        self._signals = SignalQueue(_SIGNALS)
        self._reception = Reception(station.plan, interfaces.by_address(interfaces.addresses()))
        self._line = WaitingLine(station.gateway_end, station.workers_end, station.board, self._unwatch)
        self._guests: dict[int, Guest] = {}
        self._acts: dict[int, Callable[[], None]] = {}
        self._next_expiry = float("inf")
        self._paused_until = 0.0
        self._mode = "serve"

    # --- the loop

    def run(self) -> None:
        """Serve until a signal or the end of the lifeline, then until nobody is left."""
        self._watch(self._station.gateway_end.fileno(), self._on_inner)
        self._watch(self._signals.fileno(), self._on_signals)
        self._watch(self._station.lifeline, self._on_orphaned)
        self._open_doors()
        self._slot.mark(b"g")
        while self._mode != "stop":
            self._turn()
        self._signals.close()
        self._epoll.close()

    def _turn(self) -> None:
        for descriptor, events in self._epoll.poll(self._wait(), _EVENTS_A_TURN):
            if self._mode == "stop":
                return  # handed over or dismissed: what is left of this turn's events concerns closed connections
            if act := self._acts.get(descriptor):
                act()
            elif guest := self._guests.get(descriptor):
                self._on_guest(guest, events)
        self._on_clock(time.monotonic())
        self._slot.beat()
        self._slot.show_sessions(len(self._guests) - len(self._line), len(self._line))

    def _wait(self) -> float:
        return _TICK if len(self._line) or self._line.in_kernel else _HEARTBEAT

    def _watch(self, descriptor: int, act: Callable[[], None]) -> None:
        self._acts[descriptor] = act
        self._epoll.register(descriptor, select.EPOLLIN)

    def _on_clock(self, now: float) -> None:
        if now >= self._next_expiry:
            self._dismiss_idle(now)
        self._line.pump()
        self._line.nudge()
        for guest in self._line.overdue(now - self._server.max_wait):
            self._turn_away(guest, WAITED_TOO_LONG)
        if self._paused_until and now >= self._paused_until and self._mode == "serve":
            self._paused_until = 0.0
            self._open_doors()
        if self._mode == "drain" and self._is_drained():
            self._mode = "stop"

    # --- the doors

    def _open_doors(self) -> None:
        for listener in self._station.listeners:
            self._watch(listener.sock.fileno(), lambda listener=listener: self._on_listener(listener))  # type: ignore[misc]

    def _shut_doors(self) -> None:
        for listener in self._station.listeners:
            if self._acts.pop(listener.sock.fileno(), None):
                self._epoll.unregister(listener.sock.fileno())

    def _leave_doors(self) -> None:
        """The kernel refuses new clients when the last copy of a listen socket is closed; the master closes its own."""
        for listener in self._station.listeners:
            listener.sock.close()

    def _on_listener(self, listener: Listener) -> None:
        for _ in range(_ACCEPTS_A_TURN):
            if not self._accept(listener):
                return

    def _accept(self, listener: Listener) -> bool:
        """Take one connection. False when there is none, or no room for it."""
        try:
            sock, address = listener.sock.accept()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _OUT_OF_ROOM:
                self._pause(error)
            return error.errno not in _OUT_OF_ROOM
        self._slot.count_session()
        try:
            guest, step = self._reception.welcome(listener, sock, address)
        except OSError:
            sock.close()
            return True
        if len(self._guests) >= self._server.max_sessions:
            guest.front.take_output()  # no greeting: a 421 comes in its place
            self._turn_away(guest, TOO_MANY_SESSIONS)
        else:
            self._step(guest, step)
        return True

    def _pause(self, error: OSError) -> None:
        """Out of descriptors: clients wait in the backlog while some others leave."""
        _LOG.error("cannot accept connections for the moment: %s", error.strerror)
        self._shut_doors()
        self._paused_until = time.monotonic() + _PAUSE_SECONDS

    # --- guests

    def _on_guest(self, guest: Guest, events: int) -> None:
        if guest.is_waiting:
            self._on_waiting_guest(guest, events)
        elif guest.output:
            self._step(guest, Step.CLOSE if guest.is_closing else guest.front.advance())
        else:
            self._read(guest)

    def _on_waiting_guest(self, guest: Guest, events: int) -> None:
        """It closed its side. When it sent a whole mail before it still gets its answer; then only an error counts."""
        if events & (select.EPOLLHUP | select.EPOLLERR) or guest.has_left():
            self._line.leave(guest)
            self._drop(guest)
        else:
            self._set_events(guest, 0)

    def _read(self, guest: Guest) -> None:
        try:
            octets = guest.sock.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self._drop(guest)
            return
        self._step(guest, guest.front.receive(octets))

    def _step(self, guest: Guest, step: Step) -> None:
        """Say what there is to say, then do what the front wants next."""
        if step is Step.ADMIT and isinstance(guest.front, ProxyFront):
            step = self._reception.admit_proxied(guest, guest.front)
        if step is Step.LEND_FOR_GOOD and self._line.for_good >= self._server.max_tls_sessions:
            step = guest.front.refuse_tls()
        try:
            is_said = guest.send()
        except OSError:
            self._drop(guest)
            return
        if not is_said:
            guest.is_closing = step is Step.CLOSE
            self._park(
                guest, select.EPOLLOUT, _CLOSING_SECONDS if guest.is_closing else self._reception.patience(guest)
            )
        elif step is Step.WAIT and self._mode == "serve":
            self._park(guest, select.EPOLLIN, self._reception.patience(guest))
        elif step is Step.WAIT:
            self._turn_away(guest, SHUTTING_DOWN)
        elif step is Step.CLOSE:
            self._drop(guest)
        else:
            self._queue(guest, step)

    def _park(self, guest: Guest, events: int, patience: float) -> None:
        guest.since = 0.0
        guest.expires = time.monotonic() + patience
        self._next_expiry = min(self._next_expiry, guest.expires)
        self._set_events(guest, events)

    def _queue(self, guest: Guest, step: Step) -> None:
        guest.is_for_good = step is Step.LEND_FOR_GOOD
        if len(self._line) >= self._server.max_queue:
            self._turn_away(guest, TOO_MANY_WAITING)
            return
        self._line.enter(guest, time.monotonic())
        self._line.pump()
        if guest.is_waiting:
            self._set_events(guest, select.EPOLLRDHUP)

    def _set_events(self, guest: Guest, events: int) -> None:
        descriptor = guest.sock.fileno()
        if guest.events is None:
            self._guests[descriptor] = guest
            self._epoll.register(descriptor, events)
        elif guest.events != events:
            self._epoll.modify(descriptor, events)
        guest.events = events

    def _unwatch(self, guest: Guest) -> None:
        """Leave the epoll set: a close alone would not do while another process holds a copy (epoll(7))."""
        if guest.events is not None:
            self._epoll.unregister(guest.sock.fileno())
            del self._guests[guest.sock.fileno()]
            guest.events = None

    def _drop(self, guest: Guest) -> None:
        self._unwatch(guest)
        guest.close()

    def _turn_away(self, guest: Guest, reply: Reply) -> None:
        """Close with a last word, if the peer takes it at once."""
        self._slot.count_turned_away()
        guest.front.dismiss(reply)
        try:
            guest.send()
        except OSError:
            pass
        self._drop(guest)

    def _dismiss_idle(self, now: float) -> None:
        for guest in [guest for guest in self._guests.values() if not guest.is_waiting and guest.expires <= now]:
            self._turn_away(guest, IDLE_TOO_LONG)
        idle = (guest.expires for guest in self._guests.values() if not guest.is_waiting)
        self._next_expiry = min(idle, default=float("inf"))

    # --- the inner socket, and the end

    def _on_inner(self) -> None:
        for _ in range(_PACKETS_A_TURN):
            try:
                received = inner.receive(self._station.gateway_end)
            except BlockingIOError:
                return
            if received:
                self._readmit(*received)
            self._line.pump()

    def _readmit(self, loan: Loan, sock: socket.socket) -> None:
        guest, step = self._reception.readmit(loan, sock)
        self._step(guest, step)

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number == signal.SIGUSR1:
                self._station.plan.reopen_logs()
            elif number == signal.SIGHUP:
                self._hand_over()
            elif number == signal.SIGQUIT:
                self._drain()
            else:
                self._stop()

    def _on_orphaned(self) -> None:
        _LOG.error("the master is gone, stopping")
        self._stop()

    def _drain(self) -> None:
        """No new clients, no idle ones; those who wait for a worker are still served."""
        self._shut_doors()
        self._leave_doors()
        self._mode = "drain"
        for guest in [guest for guest in self._guests.values() if not guest.is_waiting]:
            self._turn_away(guest, SHUTTING_DOWN)

    def _is_drained(self) -> bool:
        return not (len(self._line) or self._line.in_kernel or self._station.board.busy_workers())

    def _stop(self) -> None:
        """Everybody hears it, also those whose loan nobody has taken and those just given back."""
        self._mode = "stop"
        self._shut_doors()
        self._leave_doors()
        for end in (self._station.workers_end, self._station.gateway_end):
            for loan, sock in inner.drain(end):
                self._turn_away(self._reception.readmit(loan, sock)[0], SHUTTING_DOWN)
        for guest in list(self._guests.values()):
            self._turn_away(guest, SHUTTING_DOWN)

    def _hand_over(self) -> None:
        """Send every session to the next gateway, the waiting ones first and in order; it reads what we read until now.

        Whoever knocked before the doors are shut comes along: a listen socket that the reload removed closes after us.
        """
        self._slot.mark(b"h")
        self._mode = "stop"
        for listener in self._station.listeners:
            self._on_listener(listener)
        self._shut_doors()
        self._epoll.unregister(self._station.gateway_end.fileno())
        waiting = list(self._line)
        for guest in [*waiting, *self._guests.values()]:
            self._send_on(guest)

    def _send_on(self, guest: Guest) -> None:
        try:
            inner.give_back(self._station.workers_end, guest.loan(), guest.sock.fileno())
        except OSError as error:
            _LOG.error("a session could not be handed over: %s", error)
            self._turn_away(guest, SHUTTING_DOWN)
        else:
            guest.sock.close()
        self._slot.beat()

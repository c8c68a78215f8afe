"""master - the parent of all: makes the plan, binds, drops root, forks, and keeps the right processes alive.

It touches no mail. Signals are only queued; the loop acts on them by name and then looks after its children:

    TERM, INT   stop now: clients hear 421, a message in work is finished or tempfailed within seconds
    QUIT        stop gracefully: clients that wait are served, messages in work are finished
    HUP         reload; with a configuration that has faults nothing changes
    TTIN, TTOU  one worker more, one less
    USR1        reopen the logs

A reload binds new sockets first, then replaces the gateway (which hands its sessions over) and the workers, and closes
removed sockets last; so nobody is refused and no session is dropped.

**Failures:** StartError before anything runs. Later nothing stops the daemon but a signal, or processes that end before
they were ever ready: BOOT_FAILURE, instead of a fork loop.
"""

from __future__ import annotations

import gc
import logging
import select
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from socket import AF_UNIX, socket

import setproctitle

from amavispy import __version__
from amavispy.config.faults import ConfigError
from amavispy.config.model import ServerSettings
from amavispy.server import privileges
from amavispy.server.closing import Closing
from amavispy.server.crew import GATEWAY, Crew, Lines
from amavispy.server.listener import Listener, ListenError, open_listeners
from amavispy.server.pid_file import AlreadyRunning, PidFile, holder
from amavispy.server.plan import Plan
from amavispy.server.scoreboard import Scoreboard
from amavispy.server.sd_notify import Supervisor
from amavispy.server.signals import SignalQueue
from amavispy.server.staffing import Staffing

BOOT_FAILURE = 3
_LOG = logging.getLogger("amavispy.server")
_NOTICE = 25
_TICK = 0.1  # seconds; a gateway without a heartbeat has to be replaced within one
_WORKER_SLOTS = 512
_SIGNALS = ("TERM", "INT", "QUIT", "HUP", "TTIN", "TTOU", "USR1", "CHLD")

MakePlan = Callable[[], Plan]


class StartError(Exception):
    """The daemon cannot start; the text says why, one line a fault."""


def run(
    make_plan: MakePlan,
    *,
    environment: Mapping[str, str],
    inherited: Sequence[socket] = (),
    ready: Callable[[], None] = lambda: None,
) -> int:
    """Be the master until the daemon ends; `ready` is called once when it serves. Answers the exit status."""
    try:
        plan = make_plan()
        if pid := holder(plan.server.pid_file):  # said before the ports are found in use, which says less
            raise AlreadyRunning(plan.server.pid_file, pid)
        listeners = _listen_and_drop(plan.server, inherited)
        pid_file = PidFile(plan.server.pid_file)
        pid_file.take()
        board = Scoreboard.create(f"{plan.server.myhome}/scoreboard", max(_WORKER_SLOTS, 3 * plan.server.max_servers))
    except (ConfigError, ListenError, privileges.PrivilegeError, AlreadyRunning, OSError) as error:
        raise StartError(str(error)) from error
    try:
        return Master(make_plan, plan, listeners, board, Supervisor(environment), ready).serve()
    finally:
        pid_file.release()


def _listen_and_drop(server: ServerSettings, inherited: Sequence[socket]) -> tuple[Listener, ...]:
    """Ports may need root; Unix sockets are made by the daemon's user, so that root follows nobody's links."""
    inet = tuple(entry for entry in server.listen_sockets if entry.kind == "inet")
    given = [sock for sock in inherited if sock.family != AF_UNIX]
    listeners = open_listeners(replace(server, listen_sockets=inet), inherited=given) if inet else ()
    privileges.drop(server.daemon_user, server.daemon_group, own=_own_files(server))
    given = [sock for sock in inherited if sock.family == AF_UNIX]
    return open_listeners(server, kept=listeners, inherited=given)


def _own_files(server: ServerSettings) -> tuple[str, ...]:
    """What root may have made, and a reload must be able to open again."""
    return tuple(path for path in (server.logfile, server.json_log_file, server.release_key_file) if path)


class Master:
    """A running daemon, seen from its parent."""

    def __init__(
        self,
        make_plan: MakePlan,
        plan: Plan,
        listeners: tuple[Listener, ...],
        board: Scoreboard,
        supervisor: Supervisor,
        ready: Callable[[], None],
    ) -> None:
        self._make_plan = make_plan
        self._plan = plan
        self._listeners = listeners
        self._board = board
        self._supervisor = supervisor
        self._ready = ready
        self._lines = Lines.make(SignalQueue(signal.Signals[f"SIG{name}"] for name in _SIGNALS))
        self._crew = Crew(board, self._lines)
        self._staffing = Staffing(self._crew, board, plan.server)
        self._closing: Closing | None = None
        self._status: int | None = None
        self._exit_status = 0
        self._is_announced = False
        self._wants_reload = False

    def serve(self) -> int:
        """Fork, and look after everybody until the end. Answers the exit status."""
        setproctitle.setproctitle("amavispy (master)")
        _LOG.log(_NOTICE, "starting. amavispy-%s at %s", __version__, self._plan.banks.base.settings.myhostname)
        for listener in self._listeners:
            _LOG.info("listening on %s", listener.place)
        _freeze()
        poller = select.poll()
        poller.register(self._lines.signals.fileno(), select.POLLIN)
        while self._status is None:
            self._tick(time.monotonic())
            poller.poll(_TICK * 1000)
            for number in self._lines.signals.take():
                self._act(number.name)
        self._close_listeners()
        self._lines.close()
        _LOG.log(_NOTICE, "stopped")
        return self._status

    # --- the loop

    def _tick(self, now: float) -> None:
        for child, status in self._crew.reap():
            self._staffing.ended(child, status, now)
        if self._closing:
            self._closing.go_on(now)
            if not len(self._crew):
                self._status = self._exit_status
        else:
            self._look_after(now)
        self._supervisor.still_alive(now)

    def _look_after(self, now: float) -> None:
        """Everybody who should be there is, nobody hangs, and whoever waits for us to be ready is told."""
        self._crew.end_hanging(now)
        self._staffing.adjust(self._plan, self._listeners, now)
        if self._staffing.boot_failed:
            _LOG.critical("processes end before they are ready, giving up")
            self._exit_status = BOOT_FAILURE
            self._stop(now)
        if len(self._crew.of(GATEWAY)) == 1:
            self._close_removed()
        if self._wants_reload and not self._crew.removed and len(self._crew.of(GATEWAY)) == 1:
            self._wants_reload = False
            self._reload()
            self._staffing.adjust(self._plan, self._listeners, now)
        if not self._is_announced and self._staffing.is_complete:
            self._announce()

    def _announce(self) -> None:
        self._is_announced = True
        self._supervisor.ready(f"Serving with up to {self._plan.server.max_servers} workers")
        self._ready()
        self._ready = lambda: None

    # --- signals

    def _act(self, name: str) -> None:
        """Signals by name; CHLD has done its work by waking us."""
        acts = {
            "SIGTERM": self._on_term,
            "SIGINT": self._on_term,
            "SIGQUIT": self._on_quit,
            "SIGHUP": self._on_hup,
            "SIGTTIN": lambda: self._staffing.change(+1),
            "SIGTTOU": lambda: self._staffing.change(-1),
            "SIGUSR1": self._on_usr1,
        }
        acts.get(name, lambda: None)()

    def _on_term(self) -> None:
        self._stop(time.monotonic())

    def _on_quit(self) -> None:
        if not self._closing:
            self._begin_closing(time.monotonic())

    def _on_hup(self) -> None:
        """A reload waits until the last one is through: there is room for two gateways only."""
        if not self._closing:
            self._supervisor.reloading()
            self._is_announced = False
            self._wants_reload = True

    def _on_usr1(self) -> None:
        self._plan.reopen_logs()
        self._crew.tell_all(signal.SIGUSR1)

    # --- the end

    def _stop(self, now: float) -> None:
        self._begin_closing(now).stop_now(now)

    def _begin_closing(self, now: float) -> Closing:
        """Clients are refused from now on, also by the kernel."""
        if self._closing is None:
            _LOG.log(_NOTICE, "stopping")
            self._supervisor.stopping()
            self._close_listeners()
            self._closing = Closing(self._crew, now)
        return self._closing

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners = ()
        self._close_removed()

    def _close_removed(self) -> None:
        """The old gateway has taken everybody in who knocked there."""
        for listener in self._crew.removed:
            listener.close()
            _LOG.info("no longer listening on %s", listener.place)
        self._crew.removed = []

    # --- reload

    def _reload(self) -> None:
        """Take the new configuration, or nothing of it."""
        try:
            plan = self._make_plan()
            listeners = open_listeners(plan.server, kept=self._listeners)
        except (ConfigError, ListenError, OSError) as error:
            self._reject(f"some config files unreadable or erroneous:\n{error}")
            return
        except Exception:
            _LOG.exception("a bug in taking the configuration")
            self._reject("the configuration could not be taken")
            return
        kept = {listener.sock for listener in listeners}
        self._crew.removed = [listener for listener in self._listeners if listener.sock not in kept]
        self._plan, self._listeners = plan, listeners
        _freeze()
        self._staffing.renew(plan.server)
        self._board.count_reload(is_taken=True)
        _LOG.log(_NOTICE, "reloading the configuration")

    def _reject(self, reason: str) -> None:
        for line in f"Rejecting reload, {reason}".splitlines():
            _LOG.error("%s", line)
        self._board.count_reload(is_taken=False)


def _freeze() -> None:
    """Move everything made so far out of the collector's sight: children then share its pages (117 against 598 MB)."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()

"""daemon - the commands that run the daemon and those that talk to it.

Exit statuses: 0 done, 1 it failed, 3 it ended before it was ever ready (foreground) or it is not running (status).
A command finds the running daemon by MAINPID or by who holds the pid file; never by a number in a file alone.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import NoReturn

import click

from amavispy.cli.check import faults_text
from amavispy.cli.options import config_options
from amavispy.config.faults import ConfigError
from amavispy.config.loader import load_config
from amavispy.config.model import ServerSettings
from amavispy.config.sources import Sources
from amavispy.server import pid_file
from amavispy.server.listener import inherited_sockets
from amavispy.server.plan import Plan
from amavispy.server.scoreboard import Scoreboard

_NOT_RUNNING = 3
_RELOAD_SECONDS = 30.0


@click.command()
@config_options
def foreground(sources: Sources) -> None:
    """Run the daemon without detaching, for systemd, supervisors and containers."""
    _run_here(sources, debug=False)


@click.command()
@config_options
def debug(sources: Sources) -> None:
    """Run in the foreground and log to the terminal."""
    _run_here(sources, debug=True)


@click.command()
@config_options
def start(sources: Sources) -> None:
    """Start the daemon in the background and wait until it is ready."""
    _start(sources)


@click.command()
@config_options
def stop(sources: Sources) -> None:
    """Stop the running daemon and wait until it is gone."""
    if not _stop(_server_settings(sources)):
        _fail("The daemon is not running, cannot stop it")


@click.command()
@config_options
def restart(sources: Sources) -> None:
    """Stop the daemon if it runs, then start it."""
    _stop(_server_settings(sources))
    _start(sources)


@click.command()
@config_options
def reload(sources: Sources) -> None:
    """Let the running daemon take the changed configuration."""
    server = _server_settings(sources)
    pid = pid_file.find_master(server.pid_file, os.environ)
    if pid is None:
        _fail("The daemon is not running, cannot reload it")
    board = _board(server)
    before = (board.reloads, board.rejections) if board else (0, 0)
    _signal(pid, signal.SIGHUP)
    if board is None:
        click.echo(f"Daemon [{pid}] was told to reload")
        return
    _wait_until(lambda: (board.reloads, board.rejections) != before or not pid_file.is_alive(pid))
    if board.reloads == before[0]:
        _fail(f"Daemon [{pid}] has not taken the configuration, its log says why; it runs on with the old one")
    click.echo(f"Daemon [{pid}] has reloaded its configuration")


@click.command()
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(sources: Sources, as_json: bool) -> None:
    """Show what every process is doing."""
    server = _server_settings(sources)
    pid = pid_file.find_master(server.pid_file, os.environ)
    board = _board(server)
    if pid is None or board is None or board.master != pid:
        click.echo(json.dumps({"running": pid is not None, "pid": pid}) if as_json else _without_board(pid))
        sys.exit(_NOT_RUNNING if pid is None else 0)
    if as_json:
        click.echo(_json(board, pid))
    else:
        _print_table(board, pid)


# --- running


def _run_here(sources: Sources, *, debug: bool) -> None:
    from amavispy.server.background import UMASK
    from amavispy.server.master import StartError

    os.umask(UMASK)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold mail
    try:
        sys.exit(_run(sources, inherited_sockets(os.environ), lambda: None, debug=debug))
    except StartError as error:
        _fail(str(error))


def _start(sources: Sources) -> None:
    """In the background; the errors of the daemon's start are this command's."""
    from amavispy.server import background

    inherited = inherited_sockets(os.environ)
    # The daemon leaves this directory, and its reloads read the same files.
    absolute = replace(sources, files=tuple(os.path.abspath(file) for file in sources.files))

    def run(ready: Callable[[], None]) -> int:
        return _run(absolute, inherited, ready, debug=False)

    if trouble := background.start(run, [sock.fileno() for sock in inherited]):
        _fail(trouble)


def _run(sources: Sources, inherited: list[socket.socket], ready: Callable[[], None], *, debug: bool) -> int:
    from amavispy import wiring
    from amavispy.server import master

    def make_plan() -> Plan:
        return wiring.make_plan(sources, debug=debug)

    return master.run(make_plan, environment=os.environ, inherited=inherited, ready=ready)


# --- asking


def _server_settings(sources: Sources) -> ServerSettings:
    """To find a running daemon even when its configuration is broken now: defaults and options then."""
    try:
        return load_config(sources).server
    except ConfigError as error:
        click.echo(faults_text(error), err=True)
    given = {option.key: option.value for option in sources.options if option.key in ("pid_file", "myhome")}
    return replace(ServerSettings(), **given)


def _board(server: ServerSettings) -> Scoreboard | None:
    try:
        return Scoreboard.open(f"{server.myhome}/scoreboard")
    except OSError:
        return None


def _stop(server: ServerSettings) -> bool:
    """TERM and wait, KILL in the end. False when no daemon runs."""
    pid = pid_file.find_master(server.pid_file, os.environ)
    if pid is None:
        return False
    try:
        number = pid_file.end(pid)
    except PermissionError:
        _fail(f"Daemon [{pid}] belongs to another user, cannot stop it")
    click.echo(f"Daemon [{pid}] terminated by {(number or signal.SIGTERM).name}")
    return True


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except OSError as error:
        _fail(f"Daemon [{pid}]: {error.strerror}")


def _wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _RELOAD_SECONDS
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(1)


# --- status


def _json(board: Scoreboard, pid: int) -> str:
    rows = [asdict(row) for row in board.rows()]
    answer = {"running": True, "pid": pid, "started": board.started, "reloads": board.reloads, "processes": rows}
    return json.dumps(answer, indent=2)


def _without_board(pid: int | None) -> str:
    return "not running" if pid is None else f"running with process id {pid}; its scoreboard cannot be read"


def _print_table(board: Scoreboard, pid: int) -> None:
    from rich.console import Console
    from rich.table import Table

    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(board.started))
    table = Table(title=f"amavispy [{pid}], started {started}, {board.reloads} reloads", title_justify="left")
    for heading in ("process", "pid", "state", "for", "mails", "sessions", "idle", "waiting", "refused"):
        table.add_column(heading, justify="left" if heading in ("process", "state") else "right")
    for row in board.rows():
        is_gateway = row.role == "gateway"
        clients = [str(number) if is_gateway else "" for number in (row.parked, row.waiting, row.turned_away)]
        state = f"{row.state} (TLS)" if row.is_pinned else row.state
        tasks = "" if is_gateway else str(row.tasks)
        table.add_row(row.role, str(row.pid), state, f"{row.seconds:.1f} s", tasks, str(row.sessions), *clients)
    console = Console()
    console.print(table, width=None if console.is_terminal else 110)

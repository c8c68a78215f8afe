"""demo - try the filter without touching the system: four mails, and a table of what became of each and why.

Starts the daemon on etc/demo/ with free loopback ports and a private directory, plays the MTA on both sides, and
removes everything at the end. On a terminal it goes on serving until Ctrl-C, so that one can send mails of one's own.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

import amavispy
from amavispy.cli.demo_mail import MAILS, DemoMail, NextHopStub, deliver
from amavispy.cli.log_line import LogLine, parse

CONFIG = Path(amavispy.__file__).parent.parent / "etc" / "demo" / "amavispy.toml"
_PATIENCE = 20.0  # seconds for the daemon to be ready, and for each log line to appear


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of one mail: the reply its sender heard, and the daemon's log lines about it."""

    mail: DemoMail
    reply: str
    lines: tuple[LogLine, ...]

    @property
    def went_well(self) -> bool:
        return (
            bool(self.lines)
            and self.lines[0].verb == self.mail.expected_verb
            and (self.lines[0].kind.startswith(self.mail.expected_kind))
        )


class DemoDaemon:
    """`amavispy foreground` in a private directory that goes away with it."""

    def __init__(self, next_hop_port: int) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="amavispy-demo-"))
        self.directory.chmod(0o755)
        self.home = self.directory / "home"
        self.port, self.release_port = _free_port(), _free_port()
        self._prepare(next_hop_port)
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self.directory / "notify"))
        (self.directory / "notify").chmod(0o777)
        self.process = subprocess.Popen(  # noqa: S603 - our own command, no shell
            [sys.executable, "-m", "amavispy", "foreground", *self._options()],
            env={**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify")},
            stdin=subprocess.DEVNULL,
        )

    def _prepare(self, next_hop_port: int) -> None:
        text = CONFIG.read_text()
        for given, free in ((9998, self.release_port), (10026, self.port), (10025, next_hop_port)):
            text = text.replace(str(given), str(free))
        (self.directory / "amavispy.toml").write_text(text)
        for path in (self.home, self.home / "tmp", self.home / "quarantine"):
            path.mkdir(mode=0o750)
            if os.geteuid() == 0:
                shutil.chown(path, "nobody", "nogroup")

    def _options(self) -> list[str]:
        options = ["-c", str(self.directory / "amavispy.toml"), "-H", str(self.home), "-P", str(self.home / "pid")]
        as_root = os.geteuid() == 0
        return options + (["-u", "nobody", "-g", "nogroup"] if as_root else ["-X", "no_conf_file_writable_check"])

    def wait_until_ready(self) -> bool:
        self._notify.settimeout(0.1)
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if b"READY=1" in self._notify.recv(4096):
                    return True
            except TimeoutError:
                continue
        return False

    def lines_about(self, mail: DemoMail) -> tuple[LogLine, ...]:
        """The main log lines that carry the mail's Message-ID; waits for the first."""
        end = time.monotonic() + _PATIENCE
        while time.monotonic() < end:
            found = tuple(
                line for line in map(parse, self.log().splitlines()) if line and line.message_id == mail.message_id
            )
            if found:
                return found
            time.sleep(0.02)
        return ()

    def log(self) -> str:
        return (self.home / "amavispy.log").read_text(errors="replace")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait()
        self._notify.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@click.command()
def demo() -> None:
    """Try the filter on four mails, without touching the system."""
    if not CONFIG.exists():
        raise click.ClickException(f"{CONFIG} is missing: the demo runs from a checkout of the project")
    with NextHopStub() as next_hop:
        daemon = DemoDaemon(next_hop.port)
        try:
            sys.exit(_run(daemon))
        except KeyboardInterrupt:
            sys.exit(0)
        finally:
            daemon.stop()


def _run(daemon: DemoDaemon) -> int:
    if not daemon.wait_until_ready():
        click.echo("the daemon did not become ready; its messages are above", err=True)
        return 1
    seen = [_try(daemon, mail) for mail in MAILS]
    _print_table(seen, daemon)
    failed = [s.mail.title for s in seen if not s.went_well]
    for title in failed:
        click.echo(f"not as expected: {title}", err=True)
    if failed:
        click.echo(daemon.log(), err=True)
    if sys.stdout.isatty() and not failed:
        _serve_on(daemon)
    return 1 if failed else 0


def _try(daemon: DemoDaemon, mail: DemoMail) -> Seen:
    reply = deliver(mail, daemon.port)
    return Seen(mail, reply, daemon.lines_about(mail))


def _print_table(seen: list[Seen], daemon: DemoDaemon) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="What became of four mails sent to the post-queue socket", title_justify="left")
    for heading in ("mail", "client", "bank", "category", "action", "the sender heard", "where it is now"):
        table.add_column(heading, overflow="fold")
    for one in seen:
        line = one.lines[0] if one.lines else None
        where = _where(line, daemon) if line else "unknown: no log line"
        fate = (line.banks, line.kind, f"{line.verb} {{{line.actions}}}") if line else ("", "", "")
        table.add_row(one.mail.title, one.mail.client or "[::1] itself", *fate, one.reply, where)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


def _where(line: LogLine, daemon: DemoDaemon) -> str:
    if line.quarantine:
        path = daemon.home / "quarantine" / line.quarantine
        return f"quarantine: {line.quarantine}" if path.exists() else f"MISSING: {path}"
    return f"next hop, queued as {line.queued_as}" if line.queued_as else "nowhere"


def _serve_on(daemon: DemoDaemon) -> None:
    click.echo(f"\nServing on [::1]:{daemon.port} (SMTP, LMTP), [::1]:{daemon.release_port} (release) and")
    click.echo(f"{daemon.home}/amavisd.sock (AM.PDP); the log is {daemon.home}/amavispy.log. Ctrl-C ends it.")
    daemon.process.wait()


def _free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return int(probe.getsockname()[1])

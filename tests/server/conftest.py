"""A daemon of the real processes and fake sessions, and clients that talk to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from amavispy.server.pid_file import is_alive
from amavispy.server.scoreboard import Row, Scoreboard
from tests.running import GROUP, ROOT, USER, free_port, private_directory, wait_until

__all__ = ["Client", "Daemon", "wait_until"]


class Client:
    """A plain SMTP client: what it says, and what it hears, as text."""

    def __init__(self, address, timeout: float = 10.0) -> None:
        family = (
            socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        )
        self.sock = socket.socket(family)
        self.sock.settimeout(timeout)
        self.sock.connect(address)
        self.received = b""

    def hear(self) -> str:
        """One whole reply, "" at the end of the connection."""
        lines = []
        while True:
            while b"\n" not in self.received:
                try:
                    octets = self.sock.recv(65536)
                except ConnectionResetError:
                    octets = b""
                if not octets:
                    return "\n".join(lines)
                self.received += octets
            line, _, self.received = self.received.partition(b"\n")
            lines.append(line.decode().rstrip())
            if line[3:4] != b"-":
                return "\n".join(lines)

    def send(self, text: str) -> None:
        self.sock.sendall(text.replace("\n", "\r\n").encode())

    def say(self, text: str) -> str:
        self.send(text + "\n")
        return self.hear()

    def greet(self) -> Client:
        assert self.hear().startswith("220 ")
        assert self.say("EHLO client.example").startswith("250")
        return self

    def begin(self, sender: str = "ok") -> None:
        """A mail up to its body, without its end."""
        assert self.say(f"MAIL FROM:<{sender}@example.org>").startswith("250")
        assert self.say("RCPT TO:<b@example.net>").startswith("250")
        assert self.say("DATA").startswith("354")
        self.send("Subject: t\n\nbody\n")

    def end(self) -> str:
        return self.say(".")

    def mail(self, sender: str = "ok") -> str:
        self.begin(sender)
        return self.end()

    def close(self) -> None:
        self.sock.close()


class Daemon:
    """The fake daemon in its own process and directory."""

    def __init__(self, directory: Path, plan: dict) -> None:
        self.directory = directory
        self.port = free_port()
        self.plan = plan
        self.clients: list[Client] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.prefix: list[str] = []
        self.pass_fds: tuple[int, ...] = ()

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def write_plan(self) -> None:
        self.plan.setdefault("server", {}).setdefault("listen_sockets", [f"127.0.0.1:{self.port}"])
        draft = self.directory / "plan.new"
        draft.write_text(json.dumps(self.plan))
        draft.rename(self.directory / "plan.json")

    def start(self, *, waits: bool = True) -> Daemon:
        self.write_plan()
        command = [*self.prefix, sys.executable, "-m", "tests.server.fake_daemon", str(self.directory)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, env={**os.environ, **self.environment}, pass_fds=self.pass_fds
        )
        if waits:
            wait_until(lambda: (self.directory / "ready").exists() or self.process.poll() is not None, "ready")
            assert self.process.poll() is None, self.process.stderr.read().decode() + self.log()
        return self

    @property
    def board(self) -> Scoreboard:
        return Scoreboard.open(str(self.directory / "scoreboard"))

    def rows(self, role: str) -> list[Row]:
        return [row for row in self.board.rows() if row.role == role]

    @property
    def gateway(self) -> int:
        return self.rows("gateway")[0].pid

    def workers(self) -> list[int]:
        return [row.pid for row in self.rows("worker")]

    def worker_in(self, state: str) -> int:
        """The process id of a worker that does this, as soon as there is one."""
        found: list[Row] = []

        def look() -> bool:
            found[:] = [row for row in self.rows("worker") if row.state == state]
            return bool(found)

        wait_until(look, f"a worker {state}")
        return found[0].pid

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def reload(self, **changes) -> None:
        before = self.board.reloads
        self.plan.update(changes)
        self.write_plan()
        self.signal(signal.SIGHUP)
        wait_until(lambda: self.board.reloads > before, "the reload")

    def settled(self, workers: int) -> None:
        """Until there is one gateway, and so many workers, all idle and of the current configuration."""

        def is_settled() -> bool:
            board = self.board
            states = [row.state for row in board.rows() if row.generation == board.reloads]
            return len(states) == len(list(board.rows())) and sorted(states) == sorted(["serving"] + ["idle"] * workers)

        wait_until(is_settled, f"one gateway and {workers} idle workers")

    def client(self, address=None, **options) -> Client:
        client = Client(address or self.address, **options)
        self.clients.append(client)
        return client

    def release(self) -> None:
        (self.directory / "release").touch()

    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def wait_for_log(self, text: str) -> None:
        wait_until(lambda: text in self.log(), f"{text!r} in the log")

    def stop(self) -> None:
        children = children_of(self.process.pid) if self.process and self.process.poll() is None else []
        for client in self.clients:
            client.close()
        self.release()
        if self.process:
            if self.process.poll() is None:
                self.process.terminate()
                try:
                    self.process.wait(15)
                except subprocess.TimeoutExpired:
                    self.process.kill()
                    self.process.wait()
            self.process.stderr.close()
        for pid in children:
            if is_alive(pid):
                os.kill(pid, signal.SIGKILL)


def children_of(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def elapsed(act: Callable[[], object]) -> float:
    start = time.monotonic()
    act()
    return time.monotonic() - start


@pytest.fixture
def make_daemon():
    """Daemon(server settings..., bank={...}); started by the test, stopped at its end."""
    daemons: list[Daemon] = []

    def make(*, bank=None, banks=None, interface_policy=None, **server) -> Daemon:
        plan = {
            "server": {"max_servers": 2, **server},
            "bank": bank or {},
            "banks": banks or {},
            "interface_policy": interface_policy or {},
        }
        directory = private_directory("server")
        if GROUP:
            shutil.chown(directory, USER, GROUP)
        daemon = Daemon(directory, plan)
        daemons.append(daemon)
        return daemon

    yield make
    for daemon in daemons:
        daemon.stop()
        shutil.rmtree(daemon.directory)


@pytest.fixture
def daemon(make_daemon) -> Daemon:
    """Two workers on one TCP port, ready."""
    return make_daemon().start()

"""An installation in a directory of its own: configuration, home, free port, and the options that name them."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from amavispy.server.pid_file import holder, is_alive
from amavispy.server.scoreboard import Scoreboard
from tests.running import AMAVISPY, GROUP, ROOT, USER, free_port, private_directory, wait_until

PACKAGING = ROOT / "packaging"


class Installation:
    """`run` runs one of the scripts with an environment that points here."""

    def __init__(self) -> None:
        self.directory = private_directory("packaging")
        self.home = self.directory / "home"
        self.pid_path = self.home / "amavispy.pid"
        self.port = free_port()
        self.config = self.directory / "amavispy.toml"
        self.config.write_text(self._config())
        for path in (self.home, self.home / "tmp", self.home / "quarantine"):
            path.mkdir()
            if GROUP:
                shutil.chown(path, USER, GROUP)

    def _config(self) -> str:
        return f"""
myhostname = "mail.example.com"
mydomain = "example.com"
myhome = "{self.home}"
tempbase = "{self.home}/tmp"
quarantinedir = "{self.home}/quarantine"
release_key_file = "{self.home}/release.key"
pid_file = "{self.pid_path}"
listen_sockets = ["127.0.0.1:{self.port}"]
max_servers = 1
do_syslog = false
logfile = "{self.home}/log"
daemon_user = "{USER}"
daemon_group = "{GROUP or ""}"
"""

    @property
    def options(self) -> list[str]:
        return ["-c", str(self.config), "-X", "no_conf_file_writable_check"]

    @property
    def master(self) -> int | None:
        return holder(str(self.pid_path))

    @property
    def reloads(self) -> int:
        return Scoreboard.open(f"{self.home}/scoreboard").reloads

    def serves(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), 10) as client:
            return client.recv(100).startswith(b"220 ")

    def environment(self, **variables: str) -> dict[str, str]:
        return {**os.environ, "AMAVISPY": str(AMAVISPY), "AMAVISPY_OPTIONS": " ".join(self.options), **variables}

    def run(self, *command: object, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(word) for word in command],
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def end(self) -> None:
        if pid := self.master:
            os.kill(pid, signal.SIGTERM)
            wait_until(lambda: not is_alive(pid), "the end of the daemon")
        shutil.rmtree(self.directory)


@pytest.fixture
def installation():
    """Ends the daemon, whoever started it."""
    installed = Installation()
    yield installed
    installed.end()


def unit(name: str) -> dict[str, dict[str, list[str]]]:
    """A unit file: section -> key -> every value given."""
    sections: dict[str, dict[str, list[str]]] = {}
    section = ""
    for line in (PACKAGING / "systemd" / name).read_text().splitlines():
        if line.startswith("["):
            section = line.strip("[]")
            sections[section] = {}
        elif "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            sections[section].setdefault(key, []).append(value)
    return sections


def at_home(path: Path, directory: Path) -> Path:
    """A copy of a unit in which the program is the one under test, so that systemd finds it."""
    copy = directory / path.name
    copy.write_text(path.read_text().replace("/usr/bin/amavispy", str(AMAVISPY)))
    return copy


def children_of_master(installation: Installation) -> list[int]:
    pid = installation.master
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] if pid else []

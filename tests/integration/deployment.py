"""deployment - the reference deployment, running: Postfix, amavisd-milter, clamd, spamd, amavispy, and a sink behind.

The configuration is etc/reference/amavispy.toml, word for word but for the ports, the scanners' addresses, and rules
for banned names, which the reference leaves to the site.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
from pathlib import Path

from tests.integration.daemons import Clamd, Spamd
from tests.integration.postfix import Postfix, Routes
from tests.running import GROUP, ROOT, USER, RunningDaemon, free_port, wait_until
from tests.sink import Sink

REFERENCE = ROOT / "etc/reference/amavispy.toml"
BANNED = r"""banned_filename_re=['.\.(?:exe|vbs|pif|scr|bat|cmd|com|cpl)$', '^\.exe-ms$']"""


class AmavisdMilter:
    """The real amavisd-milter between Postfix and our AM.PDP socket, with the flags of the reference deployment."""

    def __init__(self, directory: Path, ampdp_socket: Path, work: Path) -> None:
        self.socket = directory / "amavisd-milter.sock"
        command = ["amavisd-milter", "-f", "-s", str(self.socket), "-p", str(directory / "amavisd-milter.pid")]
        command += ["-S", str(ampdp_socket), "-w", str(work), "-m", "20", "-B"]
        self._process = subprocess.Popen(
            command,
            user=USER if GROUP else None,
            group=GROUP,
            extra_groups=[] if GROUP else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.socket.exists, "amavisd-milter's socket")
        os.chmod(self.socket, 0o777)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)


class Deployment:
    """A context manager; everything that runs is an attribute, `ports` are amavispy's by the reference's numbers."""

    def __init__(self, *, filters: int = 4, extra: tuple[str, ...] = ()) -> None:
        self._stack = contextlib.ExitStack()
        self._filters = filters
        self._extra = extra
        self.ports = {9998: free_port(socket.AF_INET6), 10026: free_port(socket.AF_INET6), 10025: free_port()}

    def __enter__(self) -> Deployment:
        with contextlib.ExitStack() as stack:
            self.sink = stack.enter_context(Sink())
            self.clamd = stack.enter_context(Clamd())
            self.spamd = stack.enter_context(Spamd())
            self.amavispy = stack.enter_context(RunningDaemon(self.config(), extra=("--set", BANNED, *self._extra)))
            stack.enter_context(contextlib.closing(_Stopping(self._start_milter())))
            routes = Routes(
                f"[::1]:{self.ports[10026]}", f"[::1]:{self.ports[10026]}", f"unix:{self.milter.socket}", self._filters
            )
            self.postfix = stack.enter_context(Postfix(self.sink.port, self.ports[10025], routes))
            self._stack = stack.pop_all()
        return self

    def _start_milter(self) -> AmavisdMilter:
        directory = self.amavispy.home / "milter"
        directory.mkdir()
        if GROUP:
            os.chown(directory, self.amavispy.home.stat().st_uid, self.amavispy.home.stat().st_gid)
        for path in (self.amavispy.home, directory):
            path.chmod(0o755)
        (self.amavispy.home / "tmp").chmod(0o750)  # amavisd-milter refuses a work directory that others may read
        self.milter = AmavisdMilter(directory, self.amavispy.home / "amavisd.sock", self.amavispy.home / "tmp")
        return self.milter

    def config(self) -> str:
        text = REFERENCE.read_text()
        for number, port in self.ports.items():
            text = re.sub(rf"\b{number}\b", str(port), text)
        text = text.replace("/run/clamav/clamd.ctl", str(self.clamd.socket))
        return text.replace("127.0.0.1:783", f"127.0.0.1:{self.spamd.port}")

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class _Stopping:
    def __init__(self, milter: AmavisdMilter) -> None:
        self.close = milter.stop

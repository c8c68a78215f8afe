"""running - an amavispy daemon started for a test: private directory, free ports, ready when it is constructed."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
AMAVISPY = Path(sys.executable).parent / "amavispy"
USER = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
GROUP = "nogroup" if os.geteuid() == 0 else None


def free_port(family: socket.AddressFamily = socket.AF_INET) -> int:
    """A port nobody listens on now."""
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("::1" if family is socket.AF_INET6 else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], what: str, seconds: float = 20.0) -> None:
    """Poll until the condition holds; a test that waits in vain says for what."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds:.0f} s in vain: {what}")
        time.sleep(0.02)


def private_directory(prefix: str) -> Path:
    """A directory that the daemon's user can traverse (pytest's own are closed to others)."""
    path = Path(tempfile.mkdtemp(prefix=f"amavispy-{prefix}-", dir="/tmp"))
    path.chmod(0o755)
    return path


class RunningDaemon:
    """`amavispy foreground` on the given configuration. `home` is $MYHOME; the log is `home/amavispy.log`."""

    def __init__(
        self,
        config: str,
        *,
        home: Path | None = None,
        command: str = "foreground",
        extra: tuple[str, ...] = (),
        full_tempbase: bool = False,
    ) -> None:
        self.extra = extra
        self.directory = private_directory("test")
        self.home = home or self.directory / "home"
        self.log_path = self.home / "amavispy.log"
        self.config_path = self.directory / "amavispy.toml"
        self.config_path.write_text(config)
        self._make_home()
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self.directory / "notify"))
        (self.directory / "notify").chmod(0o777)
        self.stderr = open(self.directory / "stderr", "w+b")  # noqa: SIM115 - lives as long as the daemon
        self.process = subprocess.Popen(
            [*(self._with_full_tempbase() if full_tempbase else []), AMAVISPY, command, *self.options],
            env={**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify")},
            stdin=subprocess.DEVNULL,
            stdout=self.stderr,
            stderr=self.stderr,
        )
        try:
            self.wait_ready()
        except AssertionError:
            self.stop()
            raise

    @property
    def options(self) -> list[str]:
        options = ["-c", str(self.config_path), "-H", str(self.home), "-u", USER]
        options += ["-g", GROUP] if GROUP else ["-X", "no_conf_file_writable_check"]
        return [
            *options,
            "-P",
            str(self.home / "amavispy.pid"),
            "--set",
            f'logfile="{self.log_path}"',
            "--set",
            "do_syslog=false",
            *self.extra,
        ]

    def _with_full_tempbase(self) -> list[str]:
        """Run with a file system of 1 MiB below $MYHOME/tmp, which nobody else sees."""
        mount = f"mount -t tmpfs -o size=1m,mode=0777 none {self.home}/tmp"
        return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$0" "$@"']

    def _make_home(self) -> None:
        for path in (self.home, self.home / "tmp", self.home / "quarantine"):
            path.mkdir(parents=True, exist_ok=True)
            if GROUP:
                shutil.chown(path, USER, GROUP)

    def wait_ready(self, seconds: float = 20.0) -> None:
        """Until the daemon says READY=1 (at start and after each reload)."""
        end = time.monotonic() + seconds
        self._notify.settimeout(0.1)
        while time.monotonic() < end:
            try:
                if b"READY=1" in self._notify.recv(4096):
                    return
            except TimeoutError:
                if self.process.poll() is not None:
                    break
        raise AssertionError(f"the daemon did not become ready:\n{self.output()}\n{self.log()}")

    def reload(self) -> None:
        self.process.send_signal(signal.SIGHUP)
        self.wait_ready()

    def workers(self) -> list[int]:
        """The process ids of all children of the master, the gateway included."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]

    def status(self) -> list[dict[str, Any]]:
        """Every process, as `amavispy status --json` shows it."""
        command = [AMAVISPY, "status", "--json", *self.options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        return list(json.loads(done.stdout)["processes"])

    def states(self) -> list[str]:
        """What all processes are doing, in words."""
        return [process["state"] for process in self.status()]

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def output(self) -> str:
        self.stderr.flush()
        return (self.directory / "stderr").read_text(errors="replace")

    def wait_for_log(self, text: str, count: int = 1) -> str:
        wait_until(
            lambda: self.log().count(text) >= count, f"{count} x {text!r} in the log:\n{self.log()}\n{self.output()}"
        )
        return self.log()

    def stop(self) -> None:
        """End it by its process id; whatever it left behind is removed."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._notify.close()
        self.stderr.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> RunningDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

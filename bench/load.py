"""load - sends messages with Postfix's smtp-source and reads the CPU time of a process tree."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench import corpus


@dataclass(frozen=True)
class Load:
    """How much is sent: messages a round, rounds, sessions at the same time, and which mail of the corpus."""

    messages: int
    rounds: int
    sessions: int = 4
    mail: str = "4KB"

    @property
    def count(self) -> int:
        """Fewer of the larger mails, so that a round takes about as long."""
        return max(4, self.messages // {"4KB": 1, "30KB": 2, "300KB": 8, "1MBzip": 20, "10MB": 100}[self.mail])


@dataclass(frozen=True)
class Sample:
    """CPU milliseconds a message of the filter's tree, and messages a second."""

    cpu_ms: float
    rate: float

    def __str__(self) -> str:
        return f"{self.cpu_ms:8.3f} ms/msg {self.rate:8.1f} msg/s"


class Running(Protocol):
    """A filter under load."""

    port: int
    pid: int


def run_load(running: Running, load: Load) -> Sample:
    """Send; every message must be accepted (smtp-source fails otherwise)."""
    with tempfile.NamedTemporaryFile(prefix="amavispy-bench-") as file:
        file.write(corpus.mail(load.mail).replace(b"\r\n", b"\n"))
        file.flush()
        command = ["smtp-source", "-s", str(load.sessions), "-m", str(load.count), "-F", file.name, "-d"]
        command += ["-f", "a@example.org", "-t", "b@example.com", f"inet:127.0.0.1:{running.port}"]
        before, started = cpu_of_tree(running.pid), time.monotonic()
        subprocess.run(command, check=True, timeout=600)
        seconds = time.monotonic() - started
    return Sample((cpu_of_tree(running.pid) - before) * 1000 / load.count, load.count / seconds)


def cpu_of_tree(pid: int) -> float:
    """Seconds of user and system time of a process, its living descendants and those it has waited for."""
    total, waiting = 0.0, [pid]
    while waiting:
        one = waiting.pop()
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            own = int(Path(f"/proc/{one}/schedstat").read_text().split()[0]) / 1e9
            waiting += [int(c) for c in Path(f"/proc/{one}/task/{one}/children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
        total += own + (int(fields[13]) + int(fields[14])) / 100  # cutime, cstime: children that have ended
    return total

"""sd_notify - telling a supervisor how the daemon is (sd_notify(3)), and that it is still alive.

**Failures:** none leave; without NOTIFY_SOCKET, or when nobody listens there, nothing is said.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping


class Supervisor:
    """`watchdog` is how often, in seconds, the supervisor wants to hear from us; 0.0 never."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        wanted = environment.get("WATCHDOG_USEC", "0") if self._address else "0"
        is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog = int(wanted) / 1e6 if wanted.isdigit() and is_ours else 0.0
        self._last_sign = 0.0

    def tell(self, *assignments: str) -> None:
        """Send assignments such as "READY=1" as one message."""
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)
            try:
                sock.sendto("\n".join(assignments).encode(), self._address)
            except OSError:
                return

    def ready(self, status: str) -> None:
        self.tell("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reloading(self) -> None:
        """Type=notify-reload wants the moment on the monotonic clock with it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self.tell("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading")

    def still_alive(self, now: float) -> None:
        """Feed the watchdog, twice as often as it wants."""
        if self.watchdog and now - self._last_sign >= self.watchdog / 2:
            self._last_sign = now
            self.tell("WATCHDOG=1")

    def stopping(self) -> None:
        self.tell("STOPPING=1", "STATUS=Stopping")

"""Wire - a non-blocking connection to a scanner daemon, driven by whoever polls.

A `Wire` connects when it is made, sends what is queued as far as the peer takes it, and gives what came back. It waits
for nothing: `interest` says what to poll for, `pump` does what can be done now. A daemon is named by a socket's path,
"host:port" or "[IPv6]:port"; a host's addresses are tried in turn until one accepts.

Must not know what is talked about. Names are looked up at each connect, without time limit: write addresses.

**Failures:** ValueError for an address that is none (at start). Lost, worded for the log, for everything the daemon or
the network does. The worker's alarm, a TimeoutError too, passes through.
"""

from __future__ import annotations

import errno
import os
import re
import select
import socket
from array import array
from collections import deque
from dataclasses import dataclass
from typing import Any

_HOST_PORT = re.compile(r"(?:\[(?P<literal>[^]\s]+)\]|(?P<host>[^:\s/\[\]]+)):(?P<port>\d{1,5})")
_READ_SIZE = 65_536
_PATH_LIMIT = 107  # sun_path, less its NUL
_BUFFERS_AT_ONCE = 64

Buffer = bytes | memoryview
Target = tuple[socket.AddressFamily, Any]


class Lost(Exception):
    """The connection cannot be used (any more)."""


def lost(error: OSError) -> Lost:
    """An error of the system as Lost. The worker's alarm, which alone has no errno, is raised again."""
    if error.errno is None:
        raise error
    return Lost(error.strerror or str(error))


@dataclass(frozen=True, slots=True)
class DaemonAddress:
    """Where a daemon listens: `path`, or `host` and `port`. `text` is as configured, for messages."""

    text: str
    path: str = ""
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> DaemonAddress:
        if text.startswith("/"):
            if len(os.fsencode(text)) > _PATH_LIMIT:
                raise ValueError(f"{text!r}: a socket's path has at most {_PATH_LIMIT} octets")
            return cls(text, path=text)
        match = _HOST_PORT.fullmatch(text)
        if not match or not 0 < int(match["port"]) < 65536:
            raise ValueError(f"{text!r}: expected a socket's path, HOST:PORT or [IPv6]:PORT")
        return cls(text, host=match["literal"] or match["host"], port=int(match["port"]))

    def targets(self) -> list[Target]:
        if self.path:
            return [(socket.AF_UNIX, self.path)]
        try:
            found = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise lost(error) from error
        return [(family, address) for family, _, _, _, address in found]


class Wire:
    """One connection. Every method may raise Lost."""

    __slots__ = ("_is_connecting", "_is_last", "_queue", "_socket", "_targets", "address")

    def __init__(self, address: DaemonAddress) -> None:
        self.address = address
        self._queue: deque[Buffer] = deque()
        self._is_last = False
        self._targets = address.targets()
        self._socket = self._connected()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def interest(self) -> int:
        return select.POLLIN | (select.POLLOUT if self._is_connecting or self._queue else 0)

    def queue(self, *buffers: Buffer, is_last: bool = False) -> None:
        """Octets for the next `pump`; empty ones are left out. `is_last`: the peer is told that none follow."""
        self._queue.extend(buffer for buffer in buffers if len(buffer))
        self._is_last = is_last

    def send_descriptor(self, octets: bytes, descriptor: int) -> None:
        """Send these few octets at once, with a descriptor beside them (Unix sockets).

        Lost also when the peer takes nothing now: that many unread commands have nobody to read them.
        """
        try:
            self._socket.sendmsg((octets,), [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", (descriptor,)))])
        except OSError as error:
            raise lost(error) from error

    def pump(self) -> bytes | None:
        """Send what can be sent; then what came in, b"" at the end of the stream, None when nothing came yet."""
        broken = self.send()
        if self._is_connecting:
            return None
        try:
            octets = self._socket.recv(_READ_SIZE)
        except BlockingIOError:
            octets = None
        except OSError as error:
            raise lost(error) from error
        if broken and not octets:  # else: the peer closed because of something, and says here what it was
            raise broken
        return octets

    def close(self) -> None:
        self._queue.clear()
        self._socket.close()

    def send(self) -> Lost | None:
        """Send what can be sent; the error that hinders it, for the peer may have said why."""
        if self._is_connecting and not self._finish_connecting():
            return None
        try:
            while self._queue:
                sent = self._socket.sendmsg([self._queue[i] for i in range(min(len(self._queue), _BUFFERS_AT_ONCE))])
                self._take(sent)
            if self._is_last:
                self._is_last = False
                self._socket.shutdown(socket.SHUT_WR)
        except BlockingIOError:
            pass
        except OSError as error:
            self._queue.clear()
            return lost(error)
        return None

    def _take(self, sent: int) -> None:
        while sent:
            first = self._queue.popleft()
            if sent < len(first):
                self._queue.appendleft(memoryview(first)[sent:])
                return
            sent -= len(first)

    def _connected(self) -> socket.socket:
        """A socket that is connected, or connecting, to the next target."""
        last: Lost | None = None
        while self._targets:
            family, target = self._targets.pop(0)
            connection = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = connection.connect_ex(target)
            self._is_connecting = code == errno.EINPROGRESS
            if not code or self._is_connecting:
                if family != socket.AF_UNIX:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                return connection
            connection.close()
            last = self._refused(code)
        raise last or self._refused(errno.EADDRNOTAVAIL)

    def _finish_connecting(self) -> bool:
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if not code:
            try:
                self._socket.getpeername()
            except OSError as error:
                lost(error)
                return False  # neither failed nor connected
            self._is_connecting = False
            return True
        if not self._targets:
            raise self._refused(code)
        self._socket.close()
        self._socket = self._connected()
        return not self._is_connecting

    def _refused(self, code: int) -> Lost:
        return Lost(f"can't connect to {self.address.text}: {os.strerror(code)}")

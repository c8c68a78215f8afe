"""Transports - where log lines go: the syslog socket, a file, or standard error.

In: a text without control characters, its priority (syslog's 0..7), identity and facility. Each transport adds the
prefix of its own form. They know nothing of mails or levels.

Failures: none reach the caller; a log that cannot be written must not stop mail. A syslog socket that went away is
opened anew; one that is stuck is left alone for a while.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from struct import pack
from typing import Protocol

EMERG, ALERT, CRIT, ERR, WARNING, NOTICE, INFO, DEBUG = range(8)

_NAMES = ("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp")
_FACILITIES = {name: number for number, name in enumerate(_NAMES)} | {f"local{n}": 16 + n for n in range(8)}
_MAIL = 2
_SEND_TIMEOUT = pack("ll", 2, 0)  # struct timeval: a stuck syslogd may cost two seconds, then is left alone
_PAUSE = 10.0


class Transport(Protocol):
    """Somewhere to write lines. `head` is repeated when a line has to be split: "(08803-01) "."""

    def write(self, head: str, text: str, priority: int, ident: str, facility: str) -> None: ...

    def reopen(self) -> None:
        """Start anew, after a log rotation or in a new process."""


class SyslogTransport:
    """Datagrams to the local syslog, `<pri>ident[pid]: text` (RFC 3164); longer lines are split as amavis does."""

    def __init__(self, address: str = "/dev/log", line_limit: int = 980) -> None:
        self._address = address
        self._limit = line_limit
        self._socket: socket.socket | None = None
        self._muted_until = 0.0

    def write(self, head: str, text: str, priority: int, ident: str, facility: str) -> None:
        prefix = f"<{_FACILITIES.get(facility, _MAIL) * 8 + priority}>{ident}[{os.getpid()}]: ".encode()
        for piece in split_line(head, text, self._limit):
            self._send(prefix + piece)

    def reopen(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._muted_until = 0.0

    def _send(self, datagram: bytes) -> None:
        if self._muted_until and time.monotonic() < self._muted_until:
            return
        for _ in range(2):  # the second time with a new socket: syslogd may have been restarted
            try:
                if self._socket is None:
                    self._socket = self._connected()
                self._socket.send(datagram)
            except OSError:
                self.reopen()
            else:
                self._muted_until = 0.0
                return
        self._muted_until = time.monotonic() + _PAUSE

    def _connected(self) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _SEND_TIMEOUT)
            sock.connect(self._address)
        except OSError:
            sock.close()
            raise
        return sock


class FileTransport:
    """A file, lines as syslogd would write them: `Nov 22 10:07:33 host ident[pid]: text`. One write a line."""

    def __init__(self, path: str, hostname: str) -> None:
        self._path = path
        self._hostname = hostname
        self._second = 0
        self._stamp = ""
        self._descriptor = self._opened()

    def write(self, head: str, text: str, priority: int, ident: str, facility: str) -> None:
        del priority, facility
        now = int(time.time())
        if now != self._second:
            self._second, self._stamp = now, time.strftime("%b %e %H:%M:%S", time.localtime(now))
        line = f"{self._stamp} {self._hostname} {ident}[{os.getpid()}]: {head}{text}\n"
        try:
            os.write(self._descriptor, line.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # a full disk must not stop mail

    def reopen(self) -> None:
        """Go on in a new file of this name; the old one stays in use when that fails."""
        try:
            descriptor = self._opened()
        except OSError:
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


class StderrTransport:
    """Standard error with `<priority>` in front, which systemd's journal understands, or a time for people."""

    def __init__(self, *, is_for_people: bool = False) -> None:
        self._is_for_people = is_for_people

    def write(self, head: str, text: str, priority: int, ident: str, facility: str) -> None:
        del facility
        front = f"{time.strftime('%H:%M:%S')} {ident}[{os.getpid()}]: " if self._is_for_people else f"<{priority}>"
        try:
            os.write(sys.stderr.fileno(), f"{front}{head}{text}\n".encode("utf-8", "backslashreplace"))
        except (OSError, ValueError):
            pass  # nobody listens

    def reopen(self) -> None:
        """Nothing to do: whoever started us owns it."""


def split_line(head: str, text: str, limit: int) -> list[bytes]:
    """`head` + `text` in pieces of at most `limit` octets: each but the last ends in "...", each but the first goes on
    with "..." behind the repeated head."""
    start, octets = head.encode("utf-8", "backslashreplace"), text.encode("utf-8", "backslashreplace")
    if len(start) + len(octets) <= limit:
        return [start + octets]
    pieces = []
    at, mark = 0, b""
    while len(start) + len(mark) + len(octets) - at > limit:
        end = at + max(1, limit - len(start) - len(mark) - 3)
        while end > at + 1 and octets[end] & 0xC0 == 0x80:  # not inside a UTF-8 character
            end -= 1
        pieces.append(start + mark + octets[at:end] + b"...")
        at, mark = end, b"..."
    return [*pieces, start + mark + octets[at:]]

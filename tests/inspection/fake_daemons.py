"""fake_daemons - a scanner daemon of the test's making: a socket, and what it does with each connection."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

Behaviour = Callable[[socket.socket], None]


class FakeDaemon:
    """Serves one connection after the other with the next behaviour, the last one again and again, in a thread."""

    def __init__(self, *behaviours: Behaviour, path: Path | None = None) -> None:
        self._behaviours = list(behaviours)
        self.connections = 0
        self._is_over = False
        self._current: socket.socket | None = None
        self._listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self._listener.bind(str(path) if path else ("127.0.0.1", 0))
        self._listener.listen()
        self.address = str(path) if path else f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._is_over:
                connection.close()
                return
            self.connections += 1
            self._current = connection
            with connection:
                connection.settimeout(10)
                try:
                    (self._behaviours.pop(0) if len(self._behaviours) > 1 else self._behaviours[0])(connection)
                except OSError:
                    pass  # the client has gone; that is what some tests are about

    def __enter__(self) -> FakeDaemon:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        try:
            if self._current:
                self._current.shutdown(socket.SHUT_RDWR)  # a client may have kept it
        except OSError:
            pass
        with socket.socket(self._listener.family) as last:
            last.connect(self._listener.getsockname())
            self._thread.join(20)
        self._listener.close()
        assert not self._thread.is_alive()


def until_closed(connection: socket.socket) -> bytes:
    """Everything the client sends until it closes."""
    octets = b""
    while more := connection.recv(65_536):
        octets += more
    return octets


def silence(connection: socket.socket) -> None:
    """Take everything and say nothing."""
    until_closed(connection)


def says(answer: bytes) -> Behaviour:
    """Answer this to the first octets that come, and close."""

    def behaviour(connection: socket.socket) -> None:
        connection.recv(1_000_000)
        connection.sendall(answer)

    return behaviour


class ClamdTalk:
    """A clamd that answers each request by what `judge` says of the octets; ends a session after `requests`."""

    def __init__(self, judge: Callable[[bytes], str], requests: int = 1_000_000) -> None:
        self._judge = judge
        self._requests = requests
        self.scanned: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        received, descriptors = b"", []
        number = 0
        while number < self._requests:
            if connection.family == socket.AF_UNIX:
                octets, new, _, _ = socket.recv_fds(connection, 65_536, 8)
                descriptors += new
            else:
                octets = connection.recv(65_536)
            if not octets:
                return
            received = (received + octets).removeprefix(b"zIDSESSION\0")
            while request := self._next(received, descriptors):
                mail, received = request
                number += 1
                self.scanned.append(mail)
                connection.sendall(f"{number}: stream: {self._judge(mail)}\0".encode())

    @staticmethod
    def _next(received: bytes, descriptors: list[int]) -> tuple[bytes, bytes] | None:
        if received.startswith(b"zFILDES\0\0") and descriptors:
            with os.fdopen(descriptors.pop(0), "rb") as file:
                file.seek(0)
                return file.read(), received[9:]
        if received.startswith(b"zINSTREAM\0") and len(received) >= 14:
            end = 14 + struct.unpack(">I", received[10:14])[0]
            if len(received) >= end + 4:
                return received[14:end], received[end + 4 :]
        return None


def spamd_response(score: float, report: str = "") -> bytes:
    head = f"SPAMD/1.1 0 EX_OK\r\nContent-length: {len(report)}\r\nSpam: {score > 5} ; {score} / 5.0\r\n\r\n"
    return (head + report).encode()

"""talk - a client that speaks line by line, for dialogues no library would lead."""

from __future__ import annotations

import socket
from types import TracebackType

MAIL = (
    b"From: a@example.org\r\nTo: b@example.com\r\nSubject: t\r\n"
    b"Date: Mon, 01 Jun 2026 12:00:00 +0000\r\nMessage-ID: <x@example.org>\r\n\r\nHi\r\n"
)


class Talk:
    """A connection to a loopback port or Unix socket. `say` sends, `hear` gives the next whole reply as text."""

    def __init__(self, address: int | str, *, host: str = "127.0.0.1", timeout: float = 20.0) -> None:
        self.sock = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
        self.sock.settimeout(timeout)
        self.sock.connect(address if isinstance(address, str) else (host, address))
        self._file = self.sock.makefile("rb")

    def say(self, octets: bytes | str) -> None:
        self.sock.sendall(octets.encode() + b"\r\n" if isinstance(octets, str) else octets)

    def hear(self) -> str:
        """One reply, its lines joined with newlines; "" when the connection is closed."""
        lines = []
        while line := self._file.readline().decode(errors="replace").rstrip("\r\n"):
            lines.append(line)
            if line[3:4] != "-":
                break
        return "\n".join(lines)

    def block(self) -> str:
        """An AM.PDP answer: every line up to the empty one."""
        lines = []
        while line := self._file.readline().decode().rstrip("\r\n"):
            lines.append(line)
        return "\n".join(lines)

    def ask(self, command: str) -> str:
        self.say(command)
        return self.hear()

    def greet(self, hello: str = "EHLO client.example") -> str:
        assert self.hear().startswith("220 ")
        return self.ask(hello)

    def deliver(self, octets: bytes = MAIL, *recipients: str) -> str:
        """MAIL to final dot; the reply to the first step that failed, or to the mail."""
        steps = ["MAIL FROM:<a@example.org>", *(f"RCPT TO:<{r}>" for r in recipients or ("b@example.com",)), "DATA"]
        for step in steps:
            reply = self.ask(step)
            if reply[0] not in "23":
                return reply
        self.say(octets.replace(b"\r\n.", b"\r\n..") + b".\r\n")
        return self.hear()

    def __enter__(self) -> Talk:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        self.sock.close()

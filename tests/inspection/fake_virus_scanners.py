"""fake_virus_scanners - daemons that speak SSSP, SAVAPI, ICAP and plain lines, and find a worm where there is one."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

WORM = b"worm"


def judge_file(path: str) -> bool:
    return WORM in Path(path).read_bytes()


class SsspTalk:
    """A SAVDI that scans data and files; `greeting` may be another daemon's."""

    def __init__(self, greeting: bytes = b"OK SSSP/1.0\r\n") -> None:
        self._greeting = greeting
        self.scanned: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(self._greeting)
        stream = connection.makefile("rb")
        while line := stream.readline():
            _, command, argument = line.split()
            octets = stream.read(int(argument)) if command == b"SCANDATA" else Path(argument.decode()).read_bytes()
            self.scanned.append(octets)
            if octets.startswith(b"encrypted"):
                connection.sendall(b"ACC 1\r\nDONE FAIL 0212 File was encrypted\r\n\r\n")
            elif WORM in octets:
                connection.sendall(b"ACC 1\r\nVIRUS Worm.A x\r\nDONE OK 0203 Virus found\r\n\r\n")
            else:
                connection.sendall(b"ACC 1\r\nDONE OK 0000 The function call succeeded\r\n\r\n")


class SavapiTalk:
    """A SAVAPI with a licence for product 10776; `timeouts` are those it was told."""

    def __init__(self) -> None:
        self.timeouts: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        connection.sendall(b"100 SAVAPI:4.0\n")
        for line in connection.makefile("rb"):
            command, argument = line.strip().split(b" ", 1)
            if line == b"SET PRODUCT 10776\n" or command == b"SET" and argument.startswith(b"SCAN_TIMEOUT"):
                self.timeouts += re.findall(rb"SCAN_TIMEOUT (\d+)", line)
                connection.sendall(b"100 " + argument.replace(b" ", b":") + b"\n")
            elif command == b"SCAN" and judge_file(argument.decode()):
                connection.sendall(b"310 %b <<< Worm.A ; virus ; x\n319 1\n" % argument)
            elif command == b"SCAN":
                connection.sendall(b"200 %b\n" % argument)
            else:
                connection.sendall(b"401 refused\n")


class IcapTalk:
    """An ICAP server with RESPMOD, previews of 4 octets and 204; `said` are the methods it was asked."""

    def __init__(self, *, options_ttl: int = 3600) -> None:
        self._ttl = options_ttl
        self.said: list[bytes] = []
        self.bodies: list[bytes] = []

    def __call__(self, connection: socket.socket) -> None:
        stream = connection.makefile("rb")
        while first := stream.readline():
            self.said.append(first.split()[0])
            head = b"".join(iter(stream.readline, b"\r\n"))
            if first.startswith(b"OPTIONS"):
                connection.sendall(
                    b'ICAP/1.0 200 OK\r\nMethods: RESPMOD\r\nAllow: 204\r\nPreview: 4\r\nISTag: "1"\r\n'
                    b"Options-TTL: %d\r\nEncapsulated: null-body=0\r\n\r\n" % self._ttl
                )
                continue
            sections = re.search(rb"res-body=(\d+)", head)
            assert sections
            stream.read(int(sections[1]))
            body, is_all = self._chunks(stream)
            if not is_all:
                connection.sendall(b"ICAP/1.0 100 Continue\r\n\r\n")
                body += self._chunks(stream)[0]
            self.bodies.append(body)
            connection.sendall(self._answer(body))

    @staticmethod
    def _chunks(stream: socket.SocketIO) -> tuple[bytes, bool]:
        body = b""
        while True:
            line = stream.readline()
            size = int(line.split(b";")[0], 16)
            if not size:
                stream.readline()
                return body, b"ieof" in line
            body += stream.read(size)
            stream.readline()

    @staticmethod
    def _answer(body: bytes) -> bytes:
        if WORM not in body:
            return b'ICAP/1.0 204 No Content\r\nISTag: "1"\r\n\r\n'
        page = b"HTTP/1.1 403 Forbidden\r\n\r\n"
        return (
            b'ICAP/1.0 200 OK\r\nISTag: "1"\r\nX-Infection-Found: Type=0; Resolution=2; Threat=Worm.A;\r\n'
            b"Encapsulated: res-hdr=0, res-body=%d\r\n\r\n%b2\r\nno\r\n0\r\n\r\n" % (len(page), page)
        )


class LineTalk:
    """A daemon that is asked `SCAN path` for a file or a directory; it closes after an answer unless told to stay."""

    def __init__(self, *, stays: bool = False, look: Callable[[Path], None] = lambda _: None) -> None:
        self._stays = stays
        self._look = look
        self.asked: list[str] = []

    def __call__(self, connection: socket.socket) -> None:
        for line in connection.makefile("rb"):
            path = Path(line.decode().strip().removeprefix("SCAN "))
            self.asked.append(str(path))
            self._look(path)
            files = sorted(path.iterdir()) if path.is_dir() else [path]
            found = [file for file in files if judge_file(str(file))]
            connection.sendall(
                "".join(f"{file}: Worm.A FOUND\n" for file in found).encode() or f"{path}: OK\n".encode()
            )
            if not self._stays:
                return

"""sink - an SMTP/LMTP server for tests that answers as it is told and remembers what it was told.

    with Sink(replies={"rcpt": "451 4.3.0 try later"}) as sink:
        ... NextHop.parse(str(sink.next_hop)) ...
        assert sink.mails[0].octets == b"..."

A reply is looked up at every stage: connect, ehlo (LHLO too), helo, starttls, xforward, mail, rcpt, data, content (when
the first octets of the body are there: None goes on, anything else ends the connection), eod, rset, noop, quit. It is
text ("250-a\\n250 b" is sent with CRLF), DROP (close without a word), CLOSE_AFTER + text (answer, then close), bytes
(sent as they are), a list (one after another, the last one stays), a mapping from address to any of these (rcpt, and
eod in LMTP), or a function from the command line to any of these. `hold("eod")` gives an event the stage waits for
before it answers; `reached("eod")` waits until a client got there. Nothing sleeps.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amavispy.mail.next_hop import NextHop

DROP = object()
CLOSE_AFTER = "\0close:"
_PATIENCE = 20.0  # seconds until a test that waits in vain fails

DEFAULTS: Mapping[str, Any] = {
    "connect": "220 sink ESMTP",
    "ehlo": None,  # the keywords
    "helo": "250 sink",
    "starttls": "220 2.0.0 Ready to start TLS",
    "xforward": "250 2.0.0 Ok",
    "mail": "250 2.1.0 Ok",
    "rcpt": "250 2.1.5 Ok",
    "data": "354 End data with <CR><LF>.<CR><LF>",
    "content": None,
    "eod": "250 2.0.0 Ok: queued",
    "rset": "250 2.0.0 Ok",
    "noop": "250 2.0.0 Ok",
    "quit": "221 2.0.0 Bye",
    "other": "500 5.5.2 Error: bad syntax",
}
KEYWORDS = ("PIPELINING", "SIZE 0", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN")


@dataclass
class SinkMail:
    """A mail the sink has answered with 2xx (in LMTP: for at least one recipient). `octets`: dots undoubled."""

    sender: str
    recipients: list[str]
    octets: bytes
    commands: list[str]


@dataclass
class _Transaction:
    sender: str = ""
    recipients: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)


class Sink:
    """Listens while the `with` block runs. `path`: a Unix socket instead of TCP on `host`.

    `mails`: what was accepted; `commands`: all command lines; `wires`: the data phases as received, dots doubled;
    `reads`: what each recv gave; `connections`: how many came.
    """

    def __init__(
        self,
        *,
        replies: Mapping[str, Any] | None = None,
        keywords: tuple[str, ...] = KEYWORDS,
        lmtp: bool = False,
        host: str = "127.0.0.1",
        path: Path | str | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.replies: dict[str, Any] = {**DEFAULTS, **(replies or {})}
        self.keywords = keywords
        self.lmtp = lmtp
        self.host = host
        self.path = None if path is None else str(path)
        self.tls = tls
        self.port = 0
        self.mails: list[SinkMail] = []
        self.commands: list[str] = []
        self.wires: list[bytes] = []
        self.reads: list[bytes] = []
        self.connections = 0
        self._holds: dict[str, threading.Event] = {}
        self._reached: dict[str, threading.Event] = {}
        self._changed = threading.Condition()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None

    # --- for the test

    @property
    def next_hop(self) -> NextHop:
        protocol = "lmtp" if self.lmtp else "smtp"
        return NextHop(protocol, path=self.path) if self.path else NextHop(protocol, self.host, self.port)

    def start(self) -> None:
        """Listen; after a stop(), on the same port again."""
        if self.path:
            Path(self.path).unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(self.path)
        else:
            self._listener = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind((self.host, self.port))
            self.port = self._listener.getsockname()[1]
        self._listener.listen(128)
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Close the listen socket and every connection, as a server that is killed."""
        for event in self._holds.values():
            event.set()
        if self._listener:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop_connections()
        for thread in self._threads:
            thread.join(_PATIENCE)
        self._threads.clear()

    def drop_connections(self) -> None:
        """Close every connection; the listen socket stays."""
        with self._changed:
            sockets, self._sockets = self._sockets, []
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def hold(self, stage: str) -> threading.Event:
        """From now on the stage is answered only after the event is set; `reached` counts from now on."""
        with self._changed:
            self._reached.pop(stage, None)
        return self._holds.setdefault(stage, threading.Event())

    def reached(self, stage: str) -> None:
        """Wait until a client has come to this stage."""
        with self._changed:
            event = self._reached.setdefault(stage, threading.Event())
        assert event.wait(_PATIENCE), f"no client came to {stage}"

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until something the sink records makes the condition true."""
        with self._changed:
            assert self._changed.wait_for(condition, _PATIENCE), "waited in vain for the sink"

    def __enter__(self) -> Sink:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def peers(self) -> list[str]:
        """The addresses that connected and are still served."""
        return [sock.getpeername()[0] for sock in self._sockets if sock.fileno() >= 0]

    # --- for the connections

    def _spawn(self, target: Callable[[socket.socket], None], sock: socket.socket) -> None:
        thread = threading.Thread(target=target, args=(sock,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            self.serves(sock)
            self._spawn(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, _Closed):
            _Session(self, sock).run()
        with contextlib.suppress(OSError):
            sock.close()

    def serves(self, sock: socket.socket) -> None:
        with self._changed:
            self._sockets.append(sock)
            self._changed.notify_all()

    def note(self, **lists: Any) -> None:
        with self._changed:
            for name, value in lists.items():
                getattr(self, name).append(value)
            self._changed.notify_all()

    def choose(self, stage: str, key: str) -> Any:
        """The reply for this stage, when its event (if any) is set."""
        with self._changed:
            event = self._reached.setdefault(stage, threading.Event())
        event.set()
        if hold := self._holds.get(stage):
            hold.wait(_PATIENCE)
        return self._resolve(self.replies[stage], stage, key)

    def _resolve(self, reply: Any, stage: str, key: str) -> Any:
        if isinstance(reply, list):
            return self._resolve(reply.pop(0) if len(reply) > 1 else reply[0], stage, key)
        if isinstance(reply, Mapping):
            return self._resolve(reply.get(key, DEFAULTS[stage]), stage, key)
        return self._resolve(reply(key), stage, key) if callable(reply) else reply


class _Closed(Exception):
    """The session is over."""


class _Session:
    def __init__(self, sink: Sink, sock: socket.socket) -> None:
        self._sink = sink
        self._sock = sock
        self._buffer = bytearray()
        self._output = b""
        self._transaction = _Transaction()
        self._is_lmtp = False

    def run(self) -> None:
        self._answer("connect", "")
        while True:
            line = self._until(b"\r\n").decode("utf-8", "surrogateescape")
            self._sink.note(commands=line)
            verb, _, rest = line.partition(" ")
            handler = getattr(self, f"_on_{verb.lower()}", None)
            handler(rest, line) if handler else self._answer("other", line)

    # --- octets

    def _until(self, end: bytes) -> bytes:
        seen = 0
        while (at := self._buffer.find(end, seen)) < 0:
            seen = max(0, len(self._buffer) - len(end))
            self._flush()
            octets = self._sock.recv(262_144)
            if not octets:
                raise _Closed
            self._sink.note(reads=octets)
            self._buffer += octets
        found = bytes(self._buffer[:at])
        del self._buffer[: at + len(end)]
        return found

    def _flush(self) -> None:
        if self._output:
            self._sock.sendall(self._output)
            self._output = b""

    def _answer(self, stage: str, key: str) -> bool:
        """Send the reply; true when it was a positive one."""
        reply = self._sink.choose(stage, key)
        return self._send(self._keywords() if reply is None else reply)

    def _send(self, reply: Any) -> bool:
        if reply is DROP:
            self._flush()
            self._close()
        if isinstance(reply, bytes):
            self._output += reply
            return False
        closes: bool = reply.startswith(CLOSE_AFTER)
        self._output += reply.removeprefix(CLOSE_AFTER).replace("\n", "\r\n").encode() + b"\r\n"
        if closes:
            self._flush()
            self._close()
        return bool(reply[:1] in "23")

    def _close(self) -> None:
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        raise _Closed

    # --- commands

    def _on_ehlo(self, rest: str, line: str) -> None:
        self._answer("ehlo", line)

    def _keywords(self) -> str:
        offers_tls = self._sink.tls and not isinstance(self._sock, ssl.SSLSocket)
        lines = ["sink", *self._sink.keywords, *(["STARTTLS"] if offers_tls else [])]
        return "\n".join(f"250{' ' if i == len(lines) else '-'}{text}" for i, text in enumerate(lines, 1))

    def _on_lhlo(self, rest: str, line: str) -> None:
        self._is_lmtp = True
        self._on_ehlo(rest, line)

    def _on_helo(self, rest: str, line: str) -> None:
        self._answer("helo", line)

    def _on_starttls(self, rest: str, line: str) -> None:
        if self._answer("starttls", line):
            self._flush()
            assert self._sink.tls
            self._sock = self._sink.tls.wrap_socket(self._sock, server_side=True)
            self._sink.serves(self._sock)
            self._buffer.clear()

    def _on_xforward(self, rest: str, line: str) -> None:
        self._answer("xforward", line)

    def _on_mail(self, rest: str, line: str) -> None:
        self._transaction = _Transaction(_path(rest), [], [line])
        self._answer("mail", self._transaction.sender)

    def _on_rcpt(self, rest: str, line: str) -> None:
        self._transaction.commands.append(line)
        if self._answer("rcpt", _path(rest)):
            self._transaction.recipients.append(_path(rest))

    def _on_data(self, rest: str, line: str) -> None:
        if not self._transaction.recipients and self._sink.replies["data"] == DEFAULTS["data"]:
            self._output += b"503 5.5.1 Error: need RCPT command\r\n"
        elif self._answer("data", line):
            self._receive_content()

    def _receive_content(self) -> None:
        if self._sink.replies["content"] is not None:
            self._maybe_interrupt()
        self._buffer[:0] = b"\r\n"
        wire = self._until(b"\r\n.\r\n")[2:] + b"\r\n"
        self._sink.note(wires=wire)
        transaction, self._transaction = self._transaction, _Transaction()
        keys = transaction.recipients if self._is_lmtp else [""]
        verdicts = [self._answer("eod", key) for key in keys]
        if any(verdicts):
            octets = (b"\r\n" + wire).replace(b"\r\n.", b"\r\n")[2:]
            reached = [r for r, taken in zip(transaction.recipients, verdicts, strict=False) if taken]
            recipients = reached if self._is_lmtp else transaction.recipients
            self._sink.note(mails=SinkMail(transaction.sender, recipients, octets, transaction.commands))

    def _maybe_interrupt(self) -> None:
        self._flush()
        self._buffer += self._sock.recv(1)
        reply = self._sink.choose("content", "")
        if reply is not None:
            self._send(reply)
            self._flush()
            self._close()

    def _on_rset(self, rest: str, line: str) -> None:
        self._transaction = _Transaction()
        self._answer("rset", line)

    def _on_noop(self, rest: str, line: str) -> None:
        self._answer("noop", line)

    def _on_quit(self, rest: str, line: str) -> None:
        self._answer("quit", line)
        self._flush()
        self._close()


def _path(rest: str) -> str:
    return rest.partition("<")[2].rpartition(">")[0]

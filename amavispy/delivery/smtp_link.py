"""SmtpLink - one connection to a next hop: a socket, the client session on it, and how long each step may take.

In: a NextHop to connect to, then errands with their content. Out: answers. The protocol is `smtp_client`'s; which next
hop, when to try again and what the client hears is the transport's.

Sockets never block: waiting is done by poll, up to the stage's limit and never past the deadline. So every TimeoutError
without an errno comes from outside (a worker's alarm) and is not mistaken for one of ours.

**Failures:** LinkFailure during open and deliver; the link is of no use then. `is_dot_sent` tells whether the next hop
may have the mail nevertheless. An alarm's TimeoutError passes through before the final dot and is a LinkFailure after.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Iterable
from enum import Enum, auto

from amavispy.deadline import Deadline
from amavispy.mail.next_hop import NextHop
from amavispy.protocols.smtp_client import SmtpClient
from amavispy.protocols.smtp_client_content import BLOCK_SIZE, Chunk, end_of_data
from amavispy.protocols.smtp_client_errand import STAGES, Answer, Errand, Step, Want

CONNECT_SECONDS = 35.0
_READ_SIZE = 8192
_BUFFERS_LIMIT = 500  # in one sendmsg; Linux takes 1024
_FULL_BACKLOG_PAUSE = 0.05  # seconds; a Unix socket with a full backlog cannot be polled
_TRY_LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Cause(Enum):
    """Why a link failed: nobody there, no handshake, broken by the peer, given up by us, too slow, or an alarm."""

    UNREACHABLE = auto()
    NO_TLS = auto()
    BROKEN = auto()
    GAVE_UP = auto()
    LATE = auto()
    ALARM = auto()


class LinkFailure(Exception):
    """`stage` as replies name it, `text` what went wrong."""

    def __init__(self, stage: str, text: str, cause: Cause = Cause.BROKEN) -> None:
        super().__init__(f"{stage}: {text}")
        self.stage = stage
        self.text = text
        self.cause = cause


class SmtpLink:
    """A connected session. `name` is the next hop's. The owner keeps its notes here: `opened_at` and `used_at` on its
    clock, and `is_reused`: it has carried a mail."""

    def __init__(self, sock: socket.socket, client: SmtpClient, name: str) -> None:
        self.client = client
        self.name = name
        self.opened_at = self.used_at = 0.0
        self.is_reused = False
        self.is_dot_sent = False
        self._sock = sock
        self._is_tls = False
        self._readable = _poll(sock, select.POLLIN)

    @classmethod
    def open(
        cls,
        next_hop: NextHop,
        client: SmtpClient,
        *,
        bind_address: str,
        context: ssl.SSLContext | None,
        deadline: Deadline,
    ) -> SmtpLink:
        """Connect and say hello; the session is READY then."""
        link = cls(_connect(next_hop, bind_address, deadline), client, str(next_hop))
        try:
            link._greet(context, next_hop.host, deadline)
        except BaseException:
            link.close()
            raise
        return link

    @property
    def is_quiet(self) -> bool:
        """Nothing came in since the last mail; an idle server speaks only to say that it closes (421)."""
        return not self._readable.poll(0)

    def deliver(self, errand: Errand, chunks: Iterable[Chunk], deadline: Deadline) -> list[Answer | None]:
        """Send one mail; an answer for each recipient."""
        client = self.client
        self.is_dot_sent = False
        client.begin(errand)
        self._converse(deadline)
        try:
            if client.want is Want.CONTENT:
                self._send_content(chunks, deadline)
            self._converse(deadline)
        except TimeoutError:
            if not self.is_dot_sent:
                raise
            raise LinkFailure(STAGES[Step.DOT].name, "interrupted", Cause.ALARM)
        self._check()
        return client.answers

    def quit(self) -> None:
        """Say goodbye and close; the server's reply is of no interest."""
        try:
            self._send([b"QUIT\r\n"])
        except OSError as error:
            _pass_on_alarm(error)
        self.close()

    def close(self) -> None:
        """Close without a word: the only way out of a mail that has been begun."""
        self._sock.close()

    # --- the steps

    def _greet(self, context: ssl.SSLContext | None, name: str, deadline: Deadline) -> None:
        self._converse(deadline)
        if self.client.want is Want.HANDSHAKE and context is not None:
            self._start_tls(context, name, deadline)
            self.client.tls_started()
            self._converse(deadline)
        self._check()

    def _check(self) -> None:
        if self.client.want is Want.FAILED:
            failure = self.client.failure
            raise LinkFailure(failure.stage, failure.text, Cause.BROKEN if failure.is_broken else Cause.GAVE_UP)

    def _converse(self, deadline: Deadline) -> None:
        client = self.client
        while client.want is Want.READ:
            if output := client.take_output():
                self._say(output, deadline)
            client.receive(self._read(deadline))

    def _say(self, octets: bytes, deadline: Deadline) -> None:
        """Commands; if the server no longer listens, what it said before it closed tells more than the error."""
        try:
            self._write([octets], deadline)
        except OSError as error:
            _pass_on_alarm(error)

    def _send_content(self, chunks: Iterable[Chunk], deadline: Deadline) -> None:
        try:
            self._write_content(chunks, deadline)
        except OSError as error:
            _pass_on_alarm(error)
            self.is_dot_sent = False
            self._hear_objection(error)
        except LinkFailure:
            self.is_dot_sent = False
            raise
        else:
            self.client.content_sent()

    def _write_content(self, chunks: Iterable[Chunk], deadline: Deadline) -> None:
        """A small mail and its final dot in one write, a large one in large writes."""
        batch: list[bytes | memoryview] = []
        size = 0
        for block in end_of_data(chunks):
            if size >= BLOCK_SIZE or len(batch) >= _BUFFERS_LIMIT:
                self._write(batch, deadline)
                batch, size = [], 0
            batch.append(block)
            size += len(block)
        # From here on an alarm cannot tell any more what the server has got; a write that fails has not been finished.
        self.is_dot_sent = True
        self._write(batch, deadline)

    def _hear_objection(self, error: OSError) -> None:
        """The server closed amid the content: a refusal it has sent before counts, anything else is a failure."""
        try:
            octets = b"" if self.is_quiet else self._sock.recv(_READ_SIZE)
        except OSError as second:
            _pass_on_alarm(second)
            octets = b""
        if octets:
            self.client.receive(octets)
        if self.client.want is Want.CONTENT:
            raise LinkFailure(STAGES[Step.CONTENT].name, f"Error writing to socket: {error.strerror or error}")

    def _start_tls(self, context: ssl.SSLContext, name: str, deadline: Deadline) -> None:
        seconds = STAGES[Step.STARTTLS].seconds
        try:
            secured = context.wrap_socket(self._sock, server_hostname=name or None, do_handshake_on_connect=False)
            self._sock = secured
            self._is_tls = True
            while True:
                try:
                    secured.do_handshake()
                    return
                except ssl.SSLWantReadError:
                    self._wait(self._readable, seconds, deadline)
                except ssl.SSLWantWriteError:
                    self._wait(_poll(secured, select.POLLOUT), seconds, deadline)
        except (OSError, ValueError) as error:
            _pass_on_alarm(error)
            raise LinkFailure("fwd-connect", f"TLS handshake failed: {error}", Cause.NO_TLS)

    # --- the socket

    def _read(self, deadline: Deadline) -> bytes:
        """What the server says; b"" when it has closed, however rudely."""
        seconds = STAGES[self.client.step].seconds
        while True:
            if not (self._is_tls and isinstance(self._sock, ssl.SSLSocket) and self._sock.pending()):
                self._wait(self._readable, seconds, deadline)
            try:
                return self._sock.recv(_READ_SIZE)
            except _TRY_LATER:
                continue
            except OSError as error:
                _pass_on_alarm(error)
                return b""

    def _write(self, buffers: list[bytes | memoryview], deadline: Deadline) -> None:
        writable = None
        while buffers:
            try:
                buffers = _unsent(buffers, self._send(buffers))
            except _TRY_LATER:
                writable = writable or _poll(self._sock, select.POLLOUT)
                self._wait(writable, STAGES[Step.CONTENT].seconds, deadline)

    def _send(self, buffers: list[bytes | memoryview]) -> int:
        return self._sock.send(b"".join(buffers)) if self._is_tls else self._sock.sendmsg(buffers)

    def _wait(self, poller: select.poll, seconds: float, deadline: Deadline) -> None:
        if not poller.poll(_milliseconds(min(seconds, deadline.remaining))):
            raise LinkFailure(self.client.stage, "timed out", Cause.LATE)


# --- connecting


def _connect(next_hop: NextHop, bind_address: str, deadline: Deadline) -> socket.socket:
    """A connected socket; a host with several addresses is tried at all of them."""
    problem: OSError | None = None
    try:
        for family, address in _addresses(next_hop):
            try:
                return _connect_to(family, address, bind_address, deadline)
            except OSError as error:
                _pass_on_alarm(error)
                problem = error
    except OSError as error:
        _pass_on_alarm(error)
        problem = error
    raise LinkFailure("fwd-connect", str(problem and problem.strerror), Cause.UNREACHABLE)


def _addresses(next_hop: NextHop) -> list[tuple[int, tuple[object, ...] | str]]:
    if next_hop.path:
        return [(socket.AF_UNIX, next_hop.path)]
    if "*" in next_hop.host or not next_hop.port:
        raise OSError(errno.EDESTADDRREQ, "the client did not come by TCP, so there is no address to go back to")
    found = socket.getaddrinfo(next_hop.host, next_hop.port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _connect_to(family: int, address: object, bind_address: str, deadline: Deadline) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if family != socket.AF_UNIX:
            # Each write is a whole turn: to wait for more costs 40 ms where the peer delays its ACK (RFC 1122 4.2.3.4).
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if bind_address and (":" in bind_address) == (family == socket.AF_INET6):
                sock.bind((bind_address, 0))
        _finish_connecting(sock, address, deadline)
    except BaseException:
        sock.close()
        raise
    return sock


def _finish_connecting(sock: socket.socket, address: object, deadline: Deadline) -> None:
    limit = Deadline.after(min(CONNECT_SECONDS, deadline.remaining))
    code = sock.connect_ex(address)  # type: ignore[arg-type]  # of the family's kind
    while code == errno.EAGAIN and limit.remaining:
        time.sleep(min(_FULL_BACKLOG_PAUSE, limit.remaining))
        code = sock.connect_ex(address)  # type: ignore[arg-type]
    if code == errno.EINPROGRESS:
        is_done = _poll(sock, select.POLLOUT).poll(_milliseconds(limit.remaining))
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if is_done else errno.ETIMEDOUT
    if code and not deadline.remaining:
        raise LinkFailure("fwd-connect", "timed out", Cause.LATE)
    if code:
        raise OSError(code, os.strerror(code))


def _pass_on_alarm(error: Exception) -> None:
    """An alarm's TimeoutError has no errno, the kernel's ETIMEDOUT has one."""
    if isinstance(error, TimeoutError) and error.errno is None:
        raise error


def _poll(sock: socket.socket, events: int) -> select.poll:
    poller = select.poll()
    poller.register(sock, events)
    return poller


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000) + 1 if seconds else 0


def _unsent(buffers: list[bytes | memoryview], sent: int) -> list[bytes | memoryview]:
    for i, buffer in enumerate(buffers):
        if sent < len(buffer):
            return [memoryview(buffer)[sent:], *buffers[i + 1 :]]
        sent -= len(buffer)
    return []

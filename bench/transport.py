"""transport - what one forward costs this process, the next hop being another one.

    python -m bench.transport [MESSAGES] [SIZE]

Microseconds a message over a kept connection, best of five rounds, user and system CPU apart: Forward.deliver,
SmtpTransport.send alone, and the same octets written and read on a bare socket, which is what they cost in any case.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from amavispy.deadline import Deadline
from amavispy.delivery.forward import Forward
from amavispy.delivery.transports import SmtpTransport, Submission
from amavispy.mail.disposition import Destiny, Disposition, HeaderEdits, RecipientDisposition
from amavispy.mail.envelope import Connection, Envelope, Recipient
from amavispy.mail.message import Content, Ids, Message
from amavispy.mail.next_hop import NextHop
from amavispy.mail.verdict import Category, ContentsCategory
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings

BANK = PolicyBank(Settings())
CAME = Connection("10024", "127.0.0.1", 4711, "127.0.0.1", 10024, helo="mta.example.com")
EHLO = b"250-sink\r\n250-PIPELINING\r\n250-SIZE\r\n250-8BITMIME\r\n250 DSN\r\n"
ENVELOPE_REPLIES = b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
FINAL_REPLY = b"250 2.0.0 Ok: queued as 553261D1CB0\r\n"


def mail_of(size: int) -> bytes:
    head = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: bench\r\nMessage-ID: <x@example.org>\r\n\r\n"
    line = b"The quick brown fox jumps over the lazy dog, again and again and again.\r\n"
    return head + line * max(1, (size - len(head)) // len(line))


def serve(listener: socket.socket) -> None:
    """The leanest next hop there can be: it looks at nothing but the ends of things."""
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.sendall(b"220 sink\r\n")
        tail = b""
        while octets := sock.recv(1 << 20):
            tail = (tail + octets)[-16:]
            if tail.endswith(b"\r\n.\r\n"):
                sock.sendall(FINAL_REPLY)
            elif tail.endswith(b"DATA\r\n"):
                sock.sendall(ENVELOPE_REPLIES)
            elif octets.startswith(b"EHLO"):
                sock.sendall(EHLO)


@contextlib.contextmanager
def next_hop() -> Iterator[NextHop]:
    """A process that takes everything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        child = os.fork()
        if child == 0:
            serve(listener)
        try:
            yield NextHop("smtp", "127.0.0.1", listener.getsockname()[1])
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def measure(name: str, once: Callable[[], object], messages: int) -> None:
    rounds = []
    for _ in range(5):
        before, clock = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
        for _ in range(messages):
            once()
        after, wall = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter() - clock
        rounds.append((after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime, wall))
    user, system, wall = (seconds / messages * 1e6 for seconds in min(rounds, key=lambda found: found[0] + found[1]))
    print(f"{name:20} {user:7.1f} us user {system:7.1f} us system {wall:7.1f} us elapsed")


def forwarding(content: Content, hop: NextHop, transport: SmtpTransport) -> Callable[[], object]:
    recipient = Recipient("b@example.net")
    ids = Ids("26701-03", "ZzkABGZDvnF1", "secret")
    now = datetime.now(UTC)
    message = Message(Envelope("a@example.org", (recipient,)), content, ids, CAME, "ESMTP", now)
    edits = HeaderEdits(prepend=(("X-Virus-Scanned", "amavispy at example.com"),))
    fate = RecipientDisposition(recipient, (ContentsCategory(Category.CLEAN),), None, Destiny.PASS, None, (hop,), edits)
    forward, disposition = Forward(transport), Disposition((fate,))

    def once() -> None:
        outcome = forward.deliver(message, disposition, BANK, Deadline.after(480.0))
        assert outcome.recipients[0].is_passed, outcome.recipients[0].reply

    return once


def sending(content: Content, hop: NextHop, transport: SmtpTransport) -> Callable[[], object]:
    mail = Submission("a@example.org", (Recipient("b@example.net"),), (content.octets,))
    return lambda: transport.send((hop,), mail, BANK.settings, Deadline.after(480.0), "26701-03")


def bare(content: Content, port: int) -> Callable[[], object]:
    sock = socket.create_connection(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.recv(8192)
    group = b"MAIL FROM:<a@example.org> SIZE=4096\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"
    body = bytes(content.octets[:]) + b".\r\n"

    def once() -> None:
        sock.send(group)
        sock.recv(8192)
        sock.sendall(body)
        sock.recv(8192)

    return once


def main() -> None:
    messages = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    content = Content(mail_of(int(sys.argv[2]) if len(sys.argv) > 2 else 4096))
    print(f"{messages} messages of {content.size} octets")
    with next_hop() as hop:
        measure("bare socket", bare(content, hop.port), messages)
    with next_hop() as hop:
        transport = SmtpTransport()
        measure("SmtpTransport.send", sending(content, hop, transport), messages)
        measure("Forward.deliver", forwarding(content, hop, transport), messages)


if __name__ == "__main__":
    main()

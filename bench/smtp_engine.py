"""Smtp engine - what the SMTP server engine costs a mail: microseconds for MAIL, RCPT, DATA and the body.

    python bench/smtp_engine.py [ROUNDS]

One session has greeted; every round is one mail in segments of 64 KB, as a socket gives them, all replies taken. The
best of twenty runs counts, for the machine's other work only ever adds.
"""

from __future__ import annotations

import base64
import random
import sys
import time

from amavispy.mail.reply import Reply
from amavispy.protocols.events import Chunk, Data, EndOfMail, Mail, Rcpt, Signal
from amavispy.protocols.smtp_server import SmtpProfile, SmtpServer

SEGMENT = 65536
HEADER = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: speed\r\nMessage-ID: <1@example.org>\r\n\r\n"
QUEUED = [Reply(250, "2.0.0", "from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued as 4XYZ")]
KEYWORDS = ("VRFY", "PIPELINING", "SIZE", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8", "DSN", "CHUNKING")
FORWARD = (
    b"XFORWARD NAME=client.example.org ADDR=203.0.113.7 PORT=41234\r\n",
    b"XFORWARD PROTO=ESMTP HELO=client.example.org IDENT=4XYZabc SOURCE=REMOTE\r\n",
)
COMMANDS = (
    b"MAIL FROM:<alice@example.org> SIZE=4096 BODY=8BITMIME\r\n",
    b"RCPT TO:<bob@example.net> ORCPT=rfc822;bob@example.net\r\n",
    b"DATA\r\n",
)


def text_of(size: int) -> bytes:
    line = b"The quick brown fox jumps over the lazy dog. It was not amused, I fear.\r\n"
    return HEADER + line * ((size - len(HEADER)) // len(line))


def base64_of(size: int) -> bytes:
    octets = random.Random(1).randbytes(size * 3 // 4)
    return HEADER + base64.encodebytes(octets).replace(b"\n", b"\r\n")[: size - len(HEADER) - 2] + b"\r\n"


def segments_of(commands: bytes, mail: bytes) -> list[bytes]:
    stuffed = mail.replace(b"\r\n.", b"\r\n..") + b".\r\n"
    return [commands, *(stuffed[at : at + SEGMENT] for at in range(0, len(stuffed), SEGMENT))]


def one_mail(engine: SmtpServer, segments: list[bytes]) -> int:
    size, coming = 0, iter(segments)
    while True:
        match engine.next_event():
            case Chunk(octets):
                size += len(octets)
            case Signal.NEED_DATA:
                engine.take_output()
                segment = next(coming, None)
                if segment is None:
                    return size
                engine.receive(segment)
            case Mail() | Rcpt() | Data():
                engine.accept()
            case EndOfMail():
                engine.answer(QUEUED)


def microseconds(commands: bytes, mail: bytes, rounds: int) -> float:
    engine = SmtpServer(SmtpProfile("[127.0.0.1]", "hello", "bye", KEYWORDS))
    engine.receive(b"EHLO bench.example.org\r\n")
    segments = segments_of(commands, mail)
    if one_mail(engine, segments) != len(mail):
        raise SystemExit("the mail that came out is not the one that went in")
    best = float("inf")
    for _ in range(20):
        started = time.perf_counter()
        for _ in range(rounds):
            one_mail(engine, segments)
        best = min(best, time.perf_counter() - started)
    return best / rounds * 1e6


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    plain, forwarded = b"".join(COMMANDS), b"".join((*FORWARD, *COMMANDS))
    for name, commands, mail in (
        ("4 KB text", plain, text_of(4096)),
        ("4 KB text, two XFORWARD lines", forwarded, text_of(4096)),
        ("300 KB text", plain, text_of(300_000)),
        ("300 KB base64", plain, base64_of(300_000)),
        ("10 MB base64", plain, base64_of(10_000_000)),
    ):
        count = max(3, rounds * 4096 // max(4096, len(mail)))
        sys.stdout.write(f"{name:32} {microseconds(commands, mail, count):10.1f} us\n")


if __name__ == "__main__":
    main()

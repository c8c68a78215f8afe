"""Writing - what the templates of honest mail have in common: words, files, the fields on top, encodings."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from random import Random

from tests.corpus import build

Template = Callable[["Writer"], bytes]

_WORDS = (
    "the meeting agenda for next week is attached please have a look and tell me what you think about it best regards",
    "we agreed on Monday that everybody sends figures of the last quarter until Friday noon thank you very much indeed",
)
_ACCENTS = ("Grüße aus Köln", "à bientôt", "más información", "Příloha č. 1", "Отчёт", "見積書", "naïve café")
FILES = (
    "report.pdf", "minutes of the meeting.docx", "figures Q3.xlsx", "photo.jpg", "logo.png", "notes.txt", "data.csv",
    "backup.zip", "Résumé.pdf", "Angebot für Müller.pdf", "счёт.pdf", "v1.2 final.pdf", "a.b.c.tar.gz",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Writer:
    """What varies from mail to mail."""

    random: Random

    def text(self, lines: int = 0) -> str:
        pick, words = self.random.choice, " ".join(_WORDS).split()
        count = lines or self.random.randrange(2, 25)
        rows = [" ".join(pick(words) for _ in range(self.random.randrange(3, 14))) for _ in range(count)]
        return "\r\n".join(rows) + "\r\n"

    def accented(self) -> str:
        return self.random.choice(_ACCENTS) + ",\r\n\r\n" + self.text()

    def html(self) -> str:
        rows = self.text().replace("\r\n", "<br>\r\n")
        return f'<html><head><title>x</title></head><body bgcolor="#ffffff"><p>{rows}</p></body></html>\r\n'

    def file(self) -> tuple[str, bytes]:
        content = self.random.choice(
            (build.PDF, build.PNG, self.random.randbytes(self.random.randrange(10, 9000)), self.accented().encode())
        )
        return self.random.choice(FILES), content

    def hexadecimal(self, digits: int) -> str:
        return f"{self.random.getrandbits(4 * digits):0{digits}x}"

    def header(self, *lines: str, mailer: str = "", subject: str = "") -> bytes:
        """The usual fields, then these."""
        number = self.hexadecimal(12)
        rows = [
            f"Received: from mx{number[:2]}.example.org (mx.example.org [192.0.2.{self.random.randrange(1, 250)}])",
            f"\tby mail.example.net (Postfix) with ESMTPS id {number[:9].upper()}",
            f"\tfor <bob@example.net>; {formatdate(1_790_000_000 + self.random.randrange(10**6))}",
            "From: Ann Example <ann@example.org>",
            "To: Bob Example <bob@example.net>",
            f"Subject: {subject or self.text(1).strip()[:60]}",
            f"Date: {formatdate(1_790_000_000)}",
            f"Message-ID: <{number}@example.org>",
        ]
        if mailer:
            rows.append(f"X-Mailer: {mailer}")
        return ("\r\n".join([*rows, *lines]) + "\r\n").encode()


def base64_of(content: bytes) -> str:
    return base64.encodebytes(content).decode().replace("\n", "\r\n")


def quoted(text: str) -> str:
    return quopri.encodestring(text.replace("\r\n", "\n").encode()).decode().replace("\n", "\r\n")


def word(text: str, charset: str = "utf-8") -> str:
    return f"=?{charset}?B?{base64.b64encode(text.encode(charset, 'replace')).decode()}?="


def multipart(mark: str, *parts: str, preamble: str = "", epilogue: str = "") -> str:
    return preamble + "".join(f"--{mark}\r\n{part}\r\n" for part in parts) + f"--{mark}--\r\n{epilogue}"


def plain(content: str, more: str = "; charset=us-ascii", encoding: str = "7bit") -> str:
    return f"Content-Type: text/plain{more}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{content}"

"""demo_mail - the demo's mails, and the MTA's two sides: the one that sends them and the one they come back to."""

from __future__ import annotations

import base64
import io
import smtplib
import socket
import threading
import zipfile
from dataclasses import dataclass
from email.message import EmailMessage
from types import TracebackType

from amavispy.mail.reply import Reply
from amavispy.protocols.events import Chunk, Data, EndOfMail, Mail, Rcpt, Signal
from amavispy.protocols.smtp_server import SmtpProfile, SmtpServer

# The EICAR test string (eicar.org), encoded so that no scanner takes this file for an infected one.
_EICAR = base64.b64decode(
    "WDVPIVAlQEFQWzRcUFpYNTQoUF4pN0NDKTd9JEVJQ0FSLVNUQU5EQVJELUFOVElWSVJVUy1URVNULUZJTEUhJEgrSCo="
)


@dataclass(frozen=True, slots=True)
class DemoMail:
    """A mail, who sends it, and what must become of it: the first word of the log line and its type's beginning."""

    title: str
    message_id: str
    attachment: tuple[str, bytes] | None
    client: str
    expected_verb: str
    expected_kind: str

    def octets(self) -> bytes:
        message = EmailMessage()
        message["From"] = "Alice <alice@example.org>"
        message["To"] = "Bob <bob@example.com>"
        message["Subject"] = self.title
        message["Date"] = "Sun, 22 Nov 2026 10:00:00 +0000"
        message["Message-ID"] = self.message_id
        message.set_content("A mail of the demo.\n")
        if self.attachment:
            name, content = self.attachment
            message.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)
        return message.as_bytes()


def _zip_with_program() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo("setup.exe"), b"MZ" + bytes(200))
    return packed.getvalue()


MAILS = (
    DemoMail("a clean mail", "<clean@demo.example>", None, "203.0.113.7", "Passed", "CLEAN"),
    DemoMail(
        "the EICAR test virus", "<eicar@demo.example>", ("eicar.com", _EICAR), "203.0.113.7", "Blocked", "INFECTED"
    ),
    DemoMail(
        "a program in a zip",
        "<banned@demo.example>",
        ("photos.zip", _zip_with_program()),
        "203.0.113.7",
        "Blocked",
        "BANNED",
    ),
    DemoMail(
        "the same zip from a partner",
        "<partner@demo.example>",
        ("photos.zip", _zip_with_program()),
        "192.0.2.129",
        "Passed",
        "CLEAN",
    ),
)


def deliver(mail: DemoMail, port: int) -> str:
    """Send it as Postfix does, with XFORWARD telling the original client; answers what the daemon said."""
    with smtplib.SMTP("::1", port, timeout=60) as smtp:
        smtp.ehlo("mail.example.com")
        smtp.docmd(f"XFORWARD ADDR={mail.client} NAME=client.example PROTO=ESMTP")
        smtp.mail("alice@example.org")
        smtp.rcpt("bob@example.com")
        code, text = smtp.data(mail.octets())
        return f"{code} {text.decode(errors='replace')}"


class NextHopStub:
    """The MTA that mail comes back to: takes everything and forgets it. A context manager; `port` on 127.0.0.1."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._count = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        engine = SmtpServer(SmtpProfile("demo.example", "demo.example ESMTP", "bye", ("8BITMIME", "SMTPUTF8")))
        engine.greet()
        with connection:
            while (event := engine.next_event()) is not Signal.CLOSED:
                if event is Signal.NEED_DATA:
                    connection.sendall(engine.take_output())
                    engine.receive(connection.recv(65536))
                elif isinstance(event, Mail | Rcpt | Data):
                    engine.accept()
                elif isinstance(event, EndOfMail):
                    self._count += 1
                    engine.answer([Reply(250, "2.0.0", f"Ok: queued as DEMO{self._count}")])
                else:
                    assert isinstance(event, Chunk) or event is Signal.RESET

    def __enter__(self) -> NextHopStub:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()

"""Dialogue - SMTP and LMTP conversations as text files, and the caller that plays them against the engine.

A file of tests/dialogues holds cases; a case starts with `== title`. Its lines:

    # text              a comment: why, and where amavisd answers otherwise
    profile: tls=may size_limit=1000        what differs from the profile below, before anything else
    start: data         what was said before: greeting (nothing), HELO, EHLO, LHLO, mail, rcpt, data; EHLO if not given
    C: text             a line of the client, CRLF added
    R: text             octets of the client as they are
    S: text             a line of the server; all it says must stand here
    M: text             a line of the mail that comes out, over all mails of the case
    E: text             an event, as `describe` puts it; of the kinds that a case names all must stand here, in order
    A: Rcpt 550 5.1.1 text      the caller's answer to the next event of that kind, instead of accepting it
    G: 421 4.3.2 text   the caller says goodbye
    TLS                 the caller's handshake is done
    FIN                 the client closes
    CLOSED              the server has closed; a case without it leaves the session open

`C*20:` repeats a line. Texts know the escapes \\r \\n \\t \\xNN and \\\\.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

from amavispy.mail.envelope import Client
from amavispy.mail.reply import Reply
from amavispy.protocols.events import Chunk, Data, EndOfMail, Event, Mail, Rcpt, Signal
from amavispy.protocols.smtp_server import SmtpProfile, SmtpServer

DIRECTORY = Path(__file__).parent.parent / "dialogues"
QUEUED = Reply(250, "2.0.0", "from MTA(smtp:[127.0.0.1]:10025): 250 2.0.0 Ok: queued")
PROFILE = SmtpProfile(
    helo_name="[127.0.0.1]",
    greeting="[127.0.0.1] ESMTP amavis service ready",
    farewell="[127.0.0.1] amavis closing transmission channel",
    keywords=(
        "VRFY",
        "PIPELINING",
        "SIZE 5242880",
        "ENHANCEDSTATUSCODES",
        "8BITMIME",
        "SMTPUTF8",
        "DSN",
        "CHUNKING",
        "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE",
    ),
    size_limit=5242880,
)

_MAIL = b"EHLO client.example.org\r\nMAIL FROM:<a@example.org>\r\n"
_RCPT = _MAIL + b"RCPT TO:<b@example.net>\r\n"
STARTS = {
    "greeting": b"",
    "HELO": b"HELO client.example.org\r\n",
    "EHLO": b"EHLO client.example.org\r\n",
    "LHLO": b"LHLO client.example.org\r\n",
    "mail": _MAIL,
    "rcpt": _RCPT,
    "data": _RCPT + b"DATA\r\n",
}

_LINE = re.compile(r"([A-Z]+|profile|start)(?:\*(\d+))?(?:: ?(.*))?")
_ESCAPE = re.compile(rb"\\(x[0-9A-Fa-f]{2}|[rnt\\])")
_ESCAPES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}


@dataclass(frozen=True)
class Case:
    """One conversation: (kind, octets) in order, neighbours of one kind joined."""

    title: str
    profile: SmtpProfile = PROFILE
    start: str = "EHLO"
    steps: list[tuple[str, bytes]] = field(default_factory=list)

    def text(self, kind: str) -> bytes:
        return b"".join(octets for k, octets in self.steps if k == kind)

    @property
    def events(self) -> list[str]:
        return self.text("E").decode("utf-8", "surrogateescape").split("\n")[:-1]


def unescaped(text: str) -> bytes:
    return _ESCAPE.sub(
        lambda m: _ESCAPES.get(m[1]) or bytes.fromhex(m[1][1:].decode()), text.encode("utf-8", "surrogateescape")
    )


def read_cases() -> list[Case]:
    return [case for path in sorted(DIRECTORY.glob("*.txt")) for case in _cases_of(path)]


def _cases_of(path: Path) -> list[Case]:
    cases: list[Case] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.startswith("== "):
            cases.append(Case(f"{path.stem}: {line[3:]}"))
        elif line and not line.startswith("#"):
            match = _LINE.fullmatch(line)
            assert match, f"{path.name}:{number}: {line}"
            cases[-1] = _with_line(cases[-1], match[1], int(match[2] or 1), match[3] or "")
    return cases


def _with_line(case: Case, kind: str, times: int, text: str) -> Case:
    if kind == "profile":
        return replace(case, profile=_changed(case.profile, text))
    if kind == "start":
        return replace(case, start=text)
    end = {"C": b"\r\n", "S": b"\r\n", "M": b"\r\n", "E": b"\n"}.get(kind, b"")
    octets = (unescaped(text) + end) * times
    kind = "C" if kind == "R" else kind
    if case.steps and case.steps[-1][0] == kind and kind in "CSME":
        octets = case.steps.pop()[1] + octets
    case.steps.append((kind, octets))
    return case


def _changed(profile: SmtpProfile, text: str) -> SmtpProfile:
    changes: dict[str, object] = dict(word.split("=") for word in text.split())
    for name in ("size_limit", "recipient_limit"):
        if name in changes:
            changes[name] = int(str(changes[name]))
    if "xforward" in changes:
        changes["xforward"] = changes["xforward"] == "yes"
    keywords = [k for k in profile.keywords if k != changes.get("without")]
    changes.pop("without", None)
    if changes.get("tls", "none") != "none":
        keywords.insert(-1, "STARTTLS")
    return replace(profile, keywords=tuple(keywords), **changes)  # type: ignore[arg-type]


def describe(event: Event) -> str:
    match event:
        case Mail(sender, client, size):
            return f"Mail <{sender}> size={size} {_client(client)}"
        case Rcpt(recipient):
            return f"Rcpt <{recipient.address}> {','.join(sorted(recipient.notify))} {recipient.orcpt}".rstrip()
        case Data(envelope):
            words = [f"Data <{envelope.sender}> -> " + ",".join(f"<{r.address}>" for r in envelope.recipients)]
            words += [envelope.body, "SMTPUTF8" if envelope.smtputf8 else "", envelope.ret, envelope.envid]
            return " ".join(word for word in words if word)
        case EndOfMail(fault):
            return "EndOfMail with a fault" if fault else "EndOfMail"
    return event.name if isinstance(event, Signal) else "Chunk"


def _client(client: Client | None) -> str:
    if client is None:
        return "nothing forwarded"
    if client == Client():
        return "unknown"
    fields = {name: getattr(client, name) for name in Client.__slots__}
    return " ".join(f"{name}={value}" for name, value in fields.items() if value not in ("", None))


class Caller:
    """Answers every event, by default with yes. `travels`: between the engines of a gateway and a worker."""

    def __init__(self, case: Case, *, travels: bool = False) -> None:
        self.case = case
        self.travels = travels
        self.engine = SmtpServer(case.profile, stops_before_mail=travels)
        self.is_in_gateway = travels
        self.has_transaction = False
        self.answers: dict[str, list[Reply]] = {}
        self.events: list[str] = []
        self.mails = b""
        self.chunks: list[bytes] = []
        self.output = b""
        self.is_closed = False
        self.engine.greet()
        self.run()
        if STARTS[case.start]:
            self.feed(STARTS[case.start])
            self.output = b""
            self.events.clear()

    def feed(self, octets: bytes) -> None:
        self.engine.receive(octets)
        self.run()

    def run(self) -> None:
        """Until the engine wants octets, a handshake, or the end."""
        while (event := self.engine.next_event()) is not Signal.CLOSED:
            if event is Signal.TRANSACTION_STARTS or (event is Signal.START_TLS and self.is_in_gateway):
                self._lend(to_gateway=False)
                continue
            if not isinstance(event, Chunk) and event is not Signal.NEED_DATA:
                self.events.append(describe(event))
            if event is Signal.NEED_DATA:
                if self.travels and not self.has_transaction and not self.is_in_gateway:
                    self._lend(to_gateway=True)
                break
            if event is Signal.START_TLS:
                self.has_transaction = False
                break
            self._act(event)
        else:
            if not self.is_closed:
                self.events.append("CLOSED")
            self.is_closed = True
        self.output += self.engine.take_output()

    def _act(self, event: Event) -> None:
        if isinstance(event, Chunk):
            self.chunks.append(event.octets)
        elif isinstance(event, EndOfMail):
            self._end(event)
        elif event is Signal.RESET:
            self.has_transaction = False
            self.chunks.clear()
        else:
            self._decide(event)

    def _decide(self, event: Event) -> None:
        waiting = self.answers.get(type(event).__name__)
        if waiting:
            self.engine.refuse(waiting.pop(0))
        else:
            self.has_transaction = True
            self.engine.accept()

    def _end(self, event: EndOfMail) -> None:
        mail = b"".join(self.chunks)
        assert event.fault or b"\n" not in mail.replace(b"\r\n", b"")
        assert event.fault or b"\r" not in mail.replace(b"\r\n", b"")
        self.mails += b"" if event.fault else mail
        self.chunks.clear()
        self.has_transaction = False
        waiting = self.answers.pop("EndOfMail", [])
        self.engine.answer(waiting or [event.fault or QUEUED])

    def _lend(self, *, to_gateway: bool) -> None:
        state = self.engine.state()
        self.engine = SmtpServer(self.case.profile, stops_before_mail=to_gateway, state=state)
        self.is_in_gateway = to_gateway

    def step(self, kind: str, octets: bytes) -> None:
        """What the caller does of its own accord."""
        if kind == "A":
            event, code, enhanced, text = octets.decode().split(" ", 3)
            self.answers.setdefault(event, []).append(Reply(int(code), enhanced, text))
        elif kind == "G":
            code, enhanced, text = octets.decode().split(" ", 2)
            self.engine.say_goodbye(Reply(int(code), enhanced, text))
            self.run()
        elif kind == "TLS":
            self.engine.tls_started()
            self.run()
        elif kind == "FIN":
            self.feed(b"")

"""Smtp server - the server's side of SMTP and LMTP: octets in, events and octets out, no I/O.

The caller's loop is `next_event()` until NEED_DATA, then one write of `take_output()` and one `receive()`; see
`protocols.events` for what wants an answer. Replies gather while the client pipelines, so a turn costs one write.
A session may travel between processes outside of transactions: `state()` there, `SmtpServer(profile, state=...)` here.

The engine knows no peer, no settings and no clock. What amavisd does otherwise stands in docs/protocols/smtp.md.

**Failures:** nothing a client sends raises; it is answered, and after 20 errors the session ends. RuntimeError and
ValueError mean that the caller broke the order of calls: a bug.
"""

from __future__ import annotations

import marshal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from amavispy.mail.reply import PeerError, Reply
from amavispy.protocols import smtp_replies as replies
from amavispy.protocols.events import Chunk, Data, EndOfMail, Event, Mail, Rcpt, Signal
from amavispy.protocols.smtp_body import BdatStream, DataStream, Discard, Stream
from amavispy.protocols.smtp_commands import parse_bdat, parse_mail, parse_rcpt, split_command
from amavispy.protocols.smtp_input import Input
from amavispy.protocols.smtp_session import DIALECTS, HELO_LIMIT, Session, SmtpProfile, Transaction
from amavispy.protocols.xforward import read_attributes

__all__ = ["ERROR_LIMIT", "SmtpProfile", "SmtpServer"]

ERROR_LIMIT: Final = 20  # mistakes between two accepted mails; the last one ends the session


class SmtpServer:
    """One session. `stops_before_mail`: the gateway's way, which leaves MAIL and STARTTLS in the input for a worker."""

    __slots__ = (
        "_asked",
        "_body",
        "_input",
        "_is_closed",
        "_output",
        "_profile",
        "_session",
        "_stops_before_mail",
        "_transaction",
    )

    def __init__(self, profile: SmtpProfile, *, stops_before_mail: bool = False, state: bytes | None = None) -> None:
        self._profile = profile
        self._stops_before_mail = stops_before_mail
        self._session = Session()
        self._input = Input()
        self._output: list[bytes] = []
        self._transaction: Transaction | None = None
        self._body: Stream | None = None
        self._asked: Event | None = None
        self._is_closed = False
        if state is not None:
            self._restore(state)

    def greet(self) -> None:
        """Say 220, once, at the very beginning."""
        self._say(Reply(220, "", self._profile.greeting))

    def receive(self, octets: bytes) -> None:
        """Octets from the connection, b"" at its end. Call it after NEED_DATA only, so that the input stays small."""
        if not octets and self._asked is Signal.START_TLS:
            self._close()  # the handshake failed
        elif not self._is_closed:
            self._input.receive(octets)

    def next_event(self) -> Event:
        """What comes next. RuntimeError while the last event still wants its answer."""
        if self._asked is not None:
            raise RuntimeError(f"{self._asked} has not been answered")
        while not self._is_closed:
            event = self._read_command() if self._body is None else self._read_body(self._body)
            if event is not None:
                return event
        return Signal.CLOSED

    @property
    def has_output(self) -> bool:
        return bool(self._output)

    def take_output(self) -> bytes:
        """All replies since the last call, in order; to be sent in one write."""
        octets = b"".join(self._output)
        self._output.clear()
        return octets

    @property
    def has_input(self) -> bool:
        """Whether octets are there that next_event() has not used up, be it half a line."""
        return self._input.has_rest

    @property
    def in_transaction(self) -> bool:
        """Whether a mail has begun; otherwise the session may travel (`state`)."""
        return self._transaction is not None

    def accept(self, *, size_limit: int | None = None) -> None:
        """Yes to Mail, Rcpt or Data. `size_limit` (octets, 0 for none) holds for this mail instead of the profile's."""
        asked, transaction = self._take_asked(Mail, Rcpt, Data)
        transaction.size_limit = transaction.size_limit if size_limit is None else size_limit
        if isinstance(asked, Mail):
            self._output.append(b"250 2.1.0 Sender <%b> OK\r\n" % asked.sender.encode())
        elif isinstance(asked, Rcpt):
            transaction.recipients.append(asked.recipient)
            self._output.append(b"250 2.1.5 Recipient <%b> OK\r\n" % asked.recipient.address.encode())
        else:
            self._begin_body(transaction)

    def refuse(self, reply: Reply) -> None:
        """No to Mail, Rcpt or Data. After a Data refused the transaction stays open, as after any failed DATA."""
        asked, transaction = self._take_asked(Mail, Rcpt, Data)
        if isinstance(asked, Mail):
            self._transaction = None
        if isinstance(asked, Data) and transaction.bdat:
            transaction.has_failed = True
            self._body = Discard(transaction.bdat.remaining, reply)
        else:
            self._say(reply)

    def answer(self, reply_list: Sequence[Reply]) -> None:
        """The reply to a whole mail; in LMTP one a recipient, in order (RFC 2033 4.2), or one that stands for all."""
        _, transaction = self._take_asked(EndOfMail)
        recipients = len(transaction.recipients) if self.is_lmtp else 1
        if len(reply_list) not in (1, recipients):
            raise ValueError(f"{len(reply_list)} replies for {recipients}")
        for reply in reply_list:
            self._say(reply)
            if reply.is_success:
                self._session.errors = 0
        if len(reply_list) < recipients:
            self._output.extend(self._output[-1:] * (recipients - 1))
        self._transaction = None

    def say_goodbye(self, reply: Reply) -> None:
        """End the session from our side, at any time: the reply (421 ...), then CLOSED."""
        self._say(reply)
        self._close()

    def tls_started(self) -> None:
        """The handshake is done: the client has to greet again (RFC 3207 4.2)."""
        if self._asked is not Signal.START_TLS:
            raise RuntimeError("no handshake is due")
        self._asked = None
        self._input.clear()
        self._session = Session(errors=self._session.errors, is_encrypted=True)

    @property
    def is_lmtp(self) -> bool:
        return self._session.dialect == "LMTP"

    @property
    def helo_name(self) -> str:
        """What the client calls itself; "" before it has."""
        return self._session.helo

    @property
    def protocol(self) -> str:
        """The name for `with` in Received (RFC 3848, RFC 6531 4.3): SMTP, ESMTP, LMTP, ESMTPS, UTF8SMTP ..."""
        dialect = self._session.dialect or "SMTP"
        if dialect == "SMTP":
            return dialect
        if self._transaction and self._transaction.command.smtputf8:
            dialect = "UTF8" + dialect.removeprefix("E")
        return dialect + "S" if self._session.is_encrypted else dialect

    def state(self) -> bytes:
        """The session as it stands between two transactions, output that was not taken included.

        RuntimeError inside a transaction, while an event wants its answer, and when the session is over.
        """
        body = self._body
        if self._transaction or self._asked or self._is_closed or not (body is None or isinstance(body, Discard)):
            raise RuntimeError("a session travels between transactions only")
        discard = None if body is None else body.as_tuple()
        rest = (self._input.rest, self._input.is_dropping)
        return marshal.dumps((self._session.as_tuple(), rest, self.take_output(), discard))

    def _restore(self, state: bytes) -> None:
        session, (rest, is_dropping), output, discard = marshal.loads(state)  # noqa: S302  written by our own processes
        self._session = Session(*session)
        self._input = Input(rest, is_dropping=is_dropping)
        self._output = [output] if output else []
        if discard:
            self._body = Discard(discard[0], Reply(*discard[2]), is_mistake=discard[1])

    def _read_command(self) -> Event | None:
        try:
            line = self._next_line()
            return self._wait() if line is None else self._run(*line)
        except PeerError as error:
            self._complain(error.reply, closes=error.closes)
            return None

    def _next_line(self) -> tuple[bytes, str] | None:
        """Verb and arguments, None when no whole line is there."""
        line = b"XFORWARD"
        try:
            read = self._input.next_line()
            if read is None:
                return None
            line = read
            return split_command(line)
        except PeerError:
            if line[:8].upper() == b"XFORWARD":
                self._session.forwarded = {}  # it may have told the client: unknown now, not the one that connected
            raise

    def _run(self, verb: bytes, arguments: str) -> Event | None:
        command = _COMMANDS.get(verb)
        if command is None:
            raise PeerError(replies.about(replies.UNKNOWN, verb.decode()))
        if not command.before_tls and self._profile.tls == "encrypt" and not self._session.is_encrypted:
            raise PeerError(replies.TLS_FIRST)
        if arguments and not command.takes_arguments:
            raise PeerError(replies.about(replies.NO_ARGUMENTS, command.verb))
        return command.run(self, command.verb, arguments)

    def _read_body(self, body: Stream) -> Event | None:
        if not body.is_complete:
            content, self._input.start = body.take(self._input.octets, self._input.start)
            if content:
                return Chunk(content)
            if not body.is_complete:
                return self._wait()
        self._body = None
        if isinstance(body, Discard):
            self._complain(body.reply) if body.is_mistake else self._say(body.reply)
        elif isinstance(body, BdatStream) and not body.is_last:
            self._say(replies.about(replies.BDAT_OK, body.count))
        else:
            return self._ask(EndOfMail(body.mail.fault))
        return None

    def _wait(self) -> Event:
        if not self._input.is_ended:
            return Signal.NEED_DATA
        if self._body is not None:
            self._say(replies.BROKEN_DATA)
        self._close()
        return Signal.CLOSED

    def _say(self, reply: Reply) -> None:
        self._output.append(reply.octets())

    def _complain(self, reply: Reply, *, closes: bool = False) -> None:
        """Answer a mistake of the client. 421 comes instead of the reply when it was one too many."""
        self._session.errors += 1
        if self._session.errors >= ERROR_LIMIT and not closes:
            reply, closes = replies.TOO_MANY_ERRORS, True
        self._say(reply)
        if closes:
            self._close()

    def _close(self) -> None:
        self._is_closed, self._asked, self._transaction, self._body = True, None, None, None
        self._input.clear()

    def _ask(self, event: Event) -> Event:
        self._asked = event
        return event

    def _take_asked(self, *kinds: type[Event]) -> tuple[Event, Transaction]:
        asked, transaction = self._asked, self._transaction
        if not isinstance(asked, kinds) or transaction is None:
            raise RuntimeError(f"{asked} does not want this answer")
        self._asked = None
        return asked, transaction

    def _begin_body(self, transaction: Transaction) -> None:
        self._body = transaction.bdat or DataStream(transaction.octets())
        self._body.mail.size_limit = transaction.size_limit
        if not transaction.bdat:
            self._say(replies.START_MAIL)

    def _forget(self) -> Event | None:
        """Drop the transaction and what was forwarded; RESET when the caller has to do so too."""
        was_open, self._transaction, self._session.forwarded = self._transaction is not None, None, None
        return Signal.RESET if was_open else None

    # Commands: each answers, asks, or raises PeerError

    def _hello(self, verb: str, arguments: str) -> Event | None:
        if not 0 < len(arguments) <= HELO_LIMIT:
            raise PeerError(
                replies.about(replies.HELO_SYNTAX, verb)
            )  # RFC 5321 4.1.1.1; amavis takes it without a name
        session, profile = self._session, self._profile
        session.dialect, session.helo = DIALECTS[verb], arguments
        lines = [profile.helo_name]
        if verb != "HELO":
            lines += [k for k in profile.keywords if k != "STARTTLS" or not session.is_encrypted]
        self._say(Reply(250, "", "\n".join(lines)))
        return self._forget()

    def _mail(self, _verb: str, arguments: str) -> Event | None:
        if self._transaction:
            raise PeerError(replies.MAIL_NESTED)
        if not self._session.dialect:
            raise PeerError(replies.MAIL_UNGREETED)
        if self._stops_before_mail:
            self._input.unread_line()
            return Signal.TRANSACTION_STARTS
        command = parse_mail(arguments)
        client = self._session.take_client()
        if command.size is not None and 0 < self._profile.size_limit < command.size:
            self._say(replies.about(replies.MAIL_TOO_BIG, command.size))
            return None
        self._transaction = Transaction(command, client, self._profile)
        return self._ask(Mail(command.sender, client, command.size))

    def _rcpt(self, _verb: str, arguments: str) -> Event | None:
        transaction = self._transaction
        if not transaction:
            raise PeerError(replies.RCPT_NEEDS_MAIL)
        if transaction.bdat:
            raise PeerError(replies.RCPT_AFTER_BDAT)
        transaction.has_seen_rcpt = True
        recipient = parse_rcpt(arguments, smtputf8=transaction.command.smtputf8)
        if len(transaction.recipients) >= self._profile.recipient_limit:
            self._say(replies.TOO_MANY_RECIPIENTS)
            return None
        return self._ask(Rcpt(recipient))

    def _data(self, verb: str, _arguments: str) -> Event | None:
        transaction = self._transaction
        if not transaction:
            raise PeerError(replies.about(replies.DATA_NEEDS_MAIL, verb))
        if transaction.bdat:
            raise PeerError(replies.DATA_AFTER_BDAT)
        fault = transaction.why_no_data(verb, is_lmtp=self.is_lmtp)
        if fault is None:
            return self._ask(Data(transaction.envelope()))
        if not transaction.has_seen_rcpt:
            raise PeerError(fault)
        self._say(fault)  # that we refused its recipients is no mistake of the client
        return None

    def _bdat(self, verb: str, arguments: str) -> Event | None:
        count, is_last = parse_bdat(arguments)
        transaction, fault = self._transaction, self._why_no_bdat(verb)
        if fault or not transaction:
            self._body = Discard(count, fault or replies.BAD_SYNTAX, is_mistake=True)
            return None
        if transaction.bdat:
            transaction.bdat.expect(count, is_last=is_last)
            self._body = transaction.bdat
            return None
        transaction.bdat = BdatStream(transaction.octets())
        transaction.bdat.expect(count, is_last=is_last)
        return self._ask(Data(transaction.envelope()))

    def _why_no_bdat(self, verb: str) -> Reply | None:
        """The reply when octets of BDAT cannot be taken. They are discarded then, never read as commands."""
        if "CHUNKING" not in self._profile.keywords:
            return replies.about(replies.UNKNOWN, verb)
        if self._profile.tls == "encrypt" and not self._session.is_encrypted:
            return replies.TLS_FIRST
        if not self._transaction:
            return replies.about(replies.DATA_NEEDS_MAIL, verb)
        if self._transaction.has_failed:
            return replies.BDAT_AFTER_FAILURE
        return self._transaction.why_no_data(verb, is_lmtp=self.is_lmtp)

    def _rset(self, _verb: str, _arguments: str) -> Event | None:
        self._say(replies.RSET_OK)
        return self._forget()

    def _noop(self, _verb: str, _arguments: str) -> None:
        self._say(replies.NOOP_OK)

    def _xforward(self, verb: str, arguments: str) -> None:
        if not self._profile.xforward:
            raise PeerError(replies.about(replies.UNKNOWN, verb))
        if self._transaction:
            raise PeerError(replies.XFORWARD_NESTED)
        if arguments:
            self._session.forwarded = self._session.forwarded or {}
            read_attributes(arguments, self._session.forwarded)
        self._say(replies.XFORWARD_OK)

    def _starttls(self, _verb: str, _arguments: str) -> Event | None:
        if self._session.is_encrypted:
            raise PeerError(replies.TLS_ACTIVE)
        if self._profile.tls == "none":
            raise PeerError(replies.TLS_UNAVAILABLE)
        if self._stops_before_mail:
            self._input.unread_line()
            return Signal.START_TLS
        self._forget()
        self._input.clear()  # RFC 3207 5: plain text sent behind STARTTLS may be anybody's
        self._say(replies.TLS_READY)
        return self._ask(Signal.START_TLS)

    def _quit(self, _verb: str, _arguments: str) -> None:
        self.say_goodbye(Reply(221, "2.0.0", self._profile.farewell))

    def _vrfy(self, _verb: str, arguments: str) -> None:
        if not arguments:
            raise PeerError(replies.VRFY_SYNTAX)
        self._say(replies.VRFY)

    def _help(self, _verb: str, _arguments: str) -> None:
        self._say(replies.HELP)

    def _never(self, verb: str, _arguments: str) -> None:
        reply = _REFUSED[verb]
        raise PeerError(replies.about(reply, verb), closes=reply.code == 421)


@dataclass(frozen=True, slots=True)
class _Command:
    verb: str
    run: Callable[[SmtpServer, str, str], Event | None]
    takes_arguments: bool = True
    before_tls: bool = False


# A browser can be made to speak to us; behind its HTTP verb the body of its request may look like a mail.
_REFUSED: Final[Mapping[str, Reply]] = {
    "AUTH": replies.NO_AUTH,
    **dict.fromkeys(("EXPN", "ETRN", "TURN", "SEND", "SOML", "SAML"), replies.NOT_IMPLEMENTED),
    **dict.fromkeys(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"), replies.NOT_HTTP),
    "PRI": replies.NOT_HTTP,
}
_COMMANDS: Final[Mapping[bytes, _Command]] = {
    command.verb.encode(): command
    for command in (
        _Command("HELO", SmtpServer._hello),
        _Command("EHLO", SmtpServer._hello, before_tls=True),
        _Command("LHLO", SmtpServer._hello, before_tls=True),
        _Command("XFORWARD", SmtpServer._xforward),
        _Command("STARTTLS", SmtpServer._starttls, takes_arguments=False, before_tls=True),
        _Command("MAIL", SmtpServer._mail),
        _Command("RCPT", SmtpServer._rcpt),
        _Command("DATA", SmtpServer._data, takes_arguments=False),
        _Command("BDAT", SmtpServer._bdat, before_tls=True),  # refused there, with its octets
        _Command("RSET", SmtpServer._rset, takes_arguments=False),
        _Command("NOOP", SmtpServer._noop, before_tls=True),
        _Command("VRFY", SmtpServer._vrfy),
        _Command("HELP", SmtpServer._help),
        _Command("QUIT", SmtpServer._quit, takes_arguments=False, before_tls=True),
        *(_Command(verb, SmtpServer._never, before_tls=True) for verb in _REFUSED),
    )
}

"""front - what the gateway says to a client before a worker is needed, one class a protocol.

A front is the sans-I/O side of one connection: octets in, octets out, and a Step that tells the gateway what is next.
SMTP and LMTP run the full engine and stop before MAIL; AM.PDP needs a worker as soon as a request begins; PROXY waits
for the load balancer's header. None of them knows sockets, workers or limits.

**Failures:** a peer that breaks the PROXY protocol is CLOSED without a word (haproxy's specification, 2.1: the receiver
must not guess).
"""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

from amavispy.mail.reply import PeerError, Reply
from amavispy.protocols import ampdp, proxy
from amavispy.protocols.events import Signal
from amavispy.protocols.smtp_server import SmtpProfile, SmtpServer

_TLS_UNAVAILABLE = Reply(454, "4.7.0", "TLS not available due to temporary reason")


class Step(Enum):
    """What the gateway does next: wait for input, lend to a worker (for good: TLS), let the client in, or close."""

    WAIT = auto()
    LEND = auto()
    LEND_FOR_GOOD = auto()
    ADMIT = auto()
    CLOSE = auto()


class Front(Protocol):
    """One connection's dialogue in the gateway."""

    protocol: str

    def receive(self, octets: bytes) -> Step:
        """Take what the client sent, b"" at its end of file."""

    def advance(self) -> Step:
        """Go on with what has been received before."""

    def take_output(self) -> bytes:
        """What is to be sent, in one piece."""

    def state(self) -> bytes:
        """What the next process needs to continue."""

    def dismiss(self, reply: Reply) -> None:
        """Tell the client that it is over, in its protocol; the words are in the output then."""

    def refuse_tls(self) -> Step:
        """After LEND_FOR_GOOD: say that TLS is not available now."""

    def can_complete(self, unread: bytes) -> bool:
        """Whether a client that has sent its last octet, `unread` included, may still be owed an answer."""


class SmtpFront:
    """SMTP and LMTP up to MAIL."""

    protocol = "SMTP"

    def __init__(self, profile: SmtpProfile, state: bytes | None = None) -> None:
        self._profile = profile
        self._engine = SmtpServer(profile, stops_before_mail=True, state=state)
        self._said = b""

    def greet(self) -> Step:
        self._engine.greet()
        return self.advance()

    def receive(self, octets: bytes) -> Step:
        self._engine.receive(octets)
        return self.advance()

    def advance(self) -> Step:
        while True:
            event = self._engine.next_event()
            if event is Signal.NEED_DATA:
                return Step.WAIT
            if event is Signal.TRANSACTION_STARTS:
                return Step.LEND
            if event is Signal.START_TLS:
                return Step.LEND_FOR_GOOD
            if event is Signal.CLOSED:
                return Step.CLOSE

    def take_output(self) -> bytes:
        said, self._said = self._said, b""
        return said + self._engine.take_output() if self._engine.has_output else said

    def state(self) -> bytes:
        return self._engine.state()

    def dismiss(self, reply: Reply) -> None:
        self._engine.say_goodbye(reply)

    def refuse_tls(self) -> Step:
        """An engine that does not offer TLS answers STARTTLS by itself, for ever; here it is only for now."""
        without = SmtpServer(replace(self._profile, tls="none"), stops_before_mail=True, state=self._engine.state())
        event = without.next_event()
        refusal, _, rest = without.take_output().partition(b"\r\n")
        self._said += _TLS_UNAVAILABLE.octets() + rest if refusal else b""
        if event is Signal.CLOSED:
            return Step.CLOSE
        self._engine = SmtpServer(self._profile, stops_before_mail=True, state=without.state())
        return self.advance()

    def can_complete(self, unread: bytes) -> bool:
        """A mail without its final dot can never be accepted; one that is all there was sent by an impatient client."""
        pending = self._engine.state() + unread
        return b"\n.\r\n" in pending or b"BDAT" in pending.upper()


class AmpdpFront:
    """AM.PDP: a worker is needed as soon as a request begins."""

    protocol = "AM.PDP"

    def __init__(self, unread: bytes = b"", *, has_begun: bool = False) -> None:
        self._unread = unread
        self._output = b""
        self._has_begun = has_begun

    def receive(self, octets: bytes) -> Step:
        if not octets:
            return Step.CLOSE
        self._unread += octets
        self._has_begun = True
        return Step.LEND

    def advance(self) -> Step:
        return Step.LEND if self._has_begun else Step.WAIT

    def take_output(self) -> bytes:
        output, self._output = self._output, b""
        return output

    def state(self) -> bytes:
        return self._unread

    def dismiss(self, reply: Reply) -> None:
        """A client that has asked gets a tempfail; to an idle one there is nothing to say."""
        if self._has_begun:
            words = (str(reply.code), reply.enhanced, reply.text)
            pairs = [("setreply", words), ("return_value", ("tempfail",)), ("exit_code", ("75",))]
            self._output = ampdp.respond(pairs)

    def refuse_tls(self) -> Step:
        return Step.CLOSE

    def can_complete(self, unread: bytes) -> bool:
        pending = (self._unread + unread).replace(b"\r", b"")
        return b"\n\n" in pending


class ProxyFront:
    """Before SMTP or AM.PDP: the load balancer's header, which says who connected to whom."""

    protocol = "PROXY"

    def __init__(self, unread: bytes = b"") -> None:
        self._unread = unread
        self.header: proxy.ProxyHeader | None = None

    def receive(self, octets: bytes) -> Step:
        self._unread += octets
        return self.advance() if octets else Step.CLOSE

    def advance(self) -> Step:
        try:
            parsed = proxy.read_header(self._unread)
        except PeerError:
            return Step.CLOSE
        if parsed is None:
            return Step.WAIT
        self.header, used = parsed
        self._unread = self._unread[used:]
        return Step.ADMIT

    def take_output(self) -> bytes:
        return b""

    def state(self) -> bytes:
        return self._unread

    def dismiss(self, reply: Reply) -> None:
        """The balancer has not let the client speak yet."""

    def refuse_tls(self) -> Step:
        return Step.CLOSE

    def can_complete(self, unread: bytes) -> bool:
        del unread
        return False

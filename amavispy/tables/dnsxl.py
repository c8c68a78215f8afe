"""Dnsxl - asks name servers for blocklists (chapter 5.3): all names of a message at the same time, answers remembered.

One UDP packet a name, from a socket of its own that only hears the server it asked; a name without an answer is asked
again of the next server, three times in all. An answer that does not fit into a packet is fetched by TCP. Answers are
kept as long as they say, those that a name does not exist too, at most an hour.

**Failures:** TemporaryFailure when a name gets no answer, or one that is neither "here it is" nor "there is none":
whether a client is listed is then unknown, and unknown is not "no".
"""

from __future__ import annotations

import logging
import select
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import dns.exception
import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver

from amavispy.mail.reply import Reply, TemporaryFailure

_log = logging.getLogger("amavispy.tables")
_TRIES = 3
_SECONDS = 2.0  # a try
_LONGEST = 3600.0  # seconds that an answer is remembered
_REMEMBERED = 10_000
_PACKET = 65_535
_AT_A_TIME = 100  # sockets

Answers = tuple[str, ...]


@dataclass(slots=True)
class _Question:
    """A name on its way."""

    name: str
    query: dns.message.Message
    sock: socket.socket


class BlocklistResolver:
    """`nameservers`: (address, port); the system's when there are none. Making one opens nothing."""

    def __init__(
        self,
        nameservers: Sequence[tuple[str, int]],
        *,
        seconds: float = _SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # Now: a worker may not be able to read the module of a type it meets.
        dns.rdata.load_all_types()  # type: ignore[no-untyped-call]
        self._servers = tuple(nameservers) or tuple((address, 53) for address in _of_system())
        self._seconds = seconds
        self._clock = clock
        self._known: dict[str, tuple[float, Answers]] = {}

    def ask(self, names: Sequence[str]) -> Mapping[str, Answers]:
        """The A records of each name."""
        now = self._clock()
        found = {name: self._known[name][1] for name in names if self._known.get(name, (0.0, ()))[0] > now}
        missing = [name for name in dict.fromkeys(names) if name not in found]
        for attempt in range(_TRIES):
            if not missing:
                return found
            server = self._servers[attempt % len(self._servers)]
            for start in range(0, len(missing), _AT_A_TIME):
                found.update(self._round(missing[start : start + _AT_A_TIME], server))
            missing = [name for name in missing if name not in found]
        if missing:
            _log.warning(
                "dnsxl: no answer for %.200s from %s", ", ".join(missing), ", ".join(a for a, _ in self._servers)
            )
            raise TemporaryFailure(Reply(451, "4.5.0", "Error in processing, lookup_dnsxl FAILED"))
        return found

    def _round(self, names: Sequence[str], server: tuple[str, int]) -> dict[str, Answers]:
        """Ask one server for all these names; those it answered in time."""
        questions: dict[int, _Question] = {}
        found: dict[str, Answers] = {}
        poll = select.poll()
        try:
            for name in names:
                question = _sent(name, server)
                if question is None:
                    found[name] = ()  # what DNS cannot name, no list can have
                    continue
                questions[question.sock.fileno()] = question
                poll.register(question.sock, select.POLLIN)
            return found | self._received(questions, poll, server)
        finally:
            for question in questions.values():
                question.sock.close()

    def _received(
        self, questions: Mapping[int, _Question], poll: select.poll, server: tuple[str, int]
    ) -> dict[str, Answers]:
        found: dict[str, Answers] = {}
        until = self._clock() + self._seconds
        waiting = set(questions)
        while waiting and (left := until - self._clock()) > 0:
            for descriptor, events in poll.poll(left * 1000):
                question = questions[descriptor]
                message = _answer(question, server, self._seconds)
                if message is None and not events & select.POLLERR:
                    continue
                waiting.discard(descriptor)
                poll.unregister(descriptor)
                answers = None if message is None else self._understood(question.name, message)
                if answers is not None:
                    found[question.name] = answers
        return found

    def _understood(self, name: str, message: dns.message.Message) -> Answers | None:
        """The A records of an answer, remembered; None when it is none."""
        if message.rcode() not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            return None
        records = [rrset for rrset in message.answer if rrset.rdtype == dns.rdatatype.A]
        answers = tuple(record.address for rrset in records for record in rrset)
        ttl = min((rrset.ttl for rrset in message.answer), default=_negative_ttl(message))
        if len(self._known) >= _REMEMBERED:
            del self._known[next(iter(self._known))]
        self._known[name] = (self._clock() + min(float(ttl), _LONGEST), answers)
        return answers


def _sent(name: str, server: tuple[str, int]) -> _Question | None:
    """The question on its way; None for a name that DNS cannot carry. A connected socket hears nobody else."""
    try:
        query = dns.message.make_query(name, dns.rdatatype.A)
    except dns.exception.DNSException:
        return None
    sock = socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.connect(server)
        sock.send(query.to_wire())
    except TimeoutError:
        sock.close()
        raise  # the alarm of this worker, not the network
    except OSError:
        pass  # nobody there: no answer will come
    return _Question(name, query, sock)


def _answer(question: _Question, server: tuple[str, int], seconds: float) -> dns.message.Message | None:
    """An answer to this very question; anything else is passed over."""
    try:
        message = dns.message.from_wire(question.sock.recv(_PACKET), ignore_trailing=True, raise_on_truncation=False)
        if not question.query.is_response(message):
            return None
        if message.flags & dns.flags.TC:
            return dns.query.tcp(question.query, server[0], timeout=seconds, port=server[1])
    except TimeoutError:
        raise  # the alarm of this worker, not the network
    except (OSError, dns.exception.DNSException):
        return None
    return message


def _negative_ttl(message: dns.message.Message) -> int:
    """How long a name stays unknown: the zone's SOA says (RFC 2308 5), a minute when there is none."""
    for rrset in message.authority:
        if rrset.rdtype == dns.rdatatype.SOA:
            return int(min(rrset.ttl, rrset[0].minimum))
    return 60


def _of_system() -> Sequence[str]:
    try:
        return [str(server) for server in dns.resolver.Resolver().nameservers] or ["127.0.0.1"]
    except dns.resolver.NoResolverConfiguration:
        return ["127.0.0.1"]

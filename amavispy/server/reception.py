"""reception - who a new client is and whether it may come in: connection, policy bank, access list, front.

Knows the plan and the interfaces of this machine; reads a socket's names and nothing else of it.

**Failures:** none leave; a client that may not come in gets Step.CLOSE, with or without words, and a log line.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from amavispy.mail.envelope import Connection
from amavispy.policy.bank import PolicyBank
from amavispy.protocols.proxy import ProxyHeader
from amavispy.server.front import AmpdpFront, ProxyFront, SmtpFront, Step
from amavispy.server.guest import Guest
from amavispy.server.listener import Listener
from amavispy.server.loan import Loan
from amavispy.server.plan import Plan
from amavispy.server.profiles import Profiles

_LOG = logging.getLogger("amavispy.server")
_NOTICE = 25
_PROXY_SECONDS = 30.0


class Reception:
    """`interface_of`: which interface an address of ours belongs to."""

    def __init__(self, plan: Plan, interface_of: Mapping[str, str]) -> None:
        self._banks = plan.banks
        self._profiles = Profiles(plan.server)
        self._interface_of = interface_of
        self._number = 0

    def welcome(self, listener: Listener, sock: socket.socket, address: Any) -> tuple[Guest, Step]:
        """A guest for a connection just accepted, and what comes first. OSError when the client has gone already."""
        self._number += 1
        connection = self._connection(listener, sock, address)
        bank = self._banks.for_interface(connection)
        guest = Guest(sock, connection, bank, ProxyFront())
        if not listener.is_unix and not self._is_allowed(connection, bank):
            return guest, Step.CLOSE
        return guest, Step.WAIT if bank.settings.haproxy_target_enabled else self._admit(guest)

    def admit_proxied(self, guest: Guest, front: ProxyFront) -> Step:
        """The balancer's header is there: from now on the connection is the one it names, for policy and access too."""
        if front.header is not None:
            guest.connection = self._proxied(guest.connection, front.header)
            guest.bank = self._banks.for_interface(guest.connection)
        if guest.connection.peer is not None and not self._is_allowed(guest.connection, guest.bank):
            return Step.CLOSE
        step = self._admit(guest)
        unread = front.state()
        return guest.front.receive(unread) if unread and step is Step.WAIT else step

    def readmit(self, loan: Loan, sock: socket.socket) -> tuple[Guest, Step]:
        """A session that comes from a worker or from another gateway, where it stood."""
        bank = self._banks.restore(loan.bank_path)
        guest = Guest(sock, loan.connection, bank, ProxyFront(), since=loan.since, output=loan.output)
        if loan.protocol == "SMTP":
            guest.front = SmtpFront(self._profiles(bank, loan.connection), loan.state)
        elif loan.protocol == "AM.PDP":
            guest.front = AmpdpFront(loan.state, has_begun=bool(loan.since))
        else:
            guest.front = ProxyFront(loan.state)
        return guest, guest.front.advance()

    def patience(self, guest: Guest) -> float:
        """Seconds that an idle client may stay."""
        timeout = guest.bank.settings.smtpd_timeout
        return min(timeout, _PROXY_SECONDS) if guest.front.protocol == "PROXY" else timeout

    def _connection(self, listener: Listener, sock: socket.socket, address: Any) -> Connection:
        if listener.is_unix:
            return Connection(listener.text, number=self._number)
        local = sock.getsockname()
        host = _plain(local[0])
        interface = self._interface_of.get(host, "")
        peer = _plain(address[0])
        return Connection(listener.text, peer, address[1], host, local[1], interface, self._number)

    def _proxied(self, connection: Connection, header: ProxyHeader) -> Connection:
        """A health check (LOCAL) leaves the connection as it is: the balancer speaks for itself."""
        if header.peer is None:
            return connection
        return replace(
            connection,
            peer=header.peer,
            peer_port=header.peer_port,
            local=header.local,
            local_port=header.local_port,
            interface=self._interface_of.get(header.local or "", ""),
        )

    def _admit(self, guest: Guest) -> Step:
        """Put the right front before the guest and let it begin."""
        connection, bank = guest.connection, guest.bank
        protocol = bank.settings.protocol.upper()
        if protocol == "AM.PDP":
            guest.front = AmpdpFront()
            return Step.WAIT
        if protocol in ("SMTP", "LMTP") or (not protocol and connection.peer is not None):
            front = SmtpFront(self._profiles(bank, connection))
            guest.front = front
            return front.greet()
        _LOG.error("closing a connection to %s: %s", connection.listener, _unusable(protocol))
        return Step.CLOSE

    def _is_allowed(self, connection: Connection, bank: PolicyBank) -> bool:
        acl = bank.settings.inet_acl
        if acl.contains(connection.peer):
            return True
        rule = acl.matching(connection.peer)
        blocked = f", blocked by rule {rule}" if rule else ""
        _LOG.log(_NOTICE, "DENIED ACCESS from IP %s, policy bank '%s'%s", connection.peer, bank.name, blocked)
        return False


def _unusable(protocol: str) -> str:
    return f"unavailable support for protocol {protocol}" if protocol else "protocol not specified, UNIX"


def _plain(address: str) -> str:
    """Without scope, and IPv4-mapped addresses as dotted quads."""
    address = address.partition("%")[0]
    if address.startswith("::ffff:"):
        mapped = ipaddress.IPv6Address(address).ipv4_mapped
        return str(mapped) if mapped else address
    return address

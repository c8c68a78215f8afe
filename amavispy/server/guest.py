"""guest - one connection in the gateway: its socket, its bank, the front that talks to it, and how long it may stay."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from amavispy.mail.envelope import Connection
from amavispy.policy.bank import PolicyBank
from amavispy.server.front import Front
from amavispy.server.loan import Loan

_PEEK = 65_536


@dataclass(slots=True, eq=False)
class Guest:
    """`expires`: when its patience with an idle client ends; `since`: when it began to wait for a worker, or 0.0.

    `events` is what epoll watches for it, None while it is not in the set. `output`: octets the peer has not taken.
    """

    sock: socket.socket
    connection: Connection
    bank: PolicyBank
    front: Front
    expires: float = 0.0
    since: float = 0.0
    events: int | None = None
    output: bytes = b""
    is_waiting: bool = False
    is_for_good: bool = False
    is_closing: bool = False

    def loan(self) -> Loan:
        """What another process needs to continue this session."""
        return Loan(
            self.front.protocol,
            self.bank.path,
            self.connection,
            self.front.state(),
            self.since,
            self.is_for_good,
            self.output,
        )

    def send(self) -> bool:
        """Send what there is to say, as far as the peer takes it at once. False when octets are left.

        Raises OSError when the peer is gone.
        """
        self.output += self.front.take_output()
        if not self.output:
            return True
        try:
            sent = self.sock.send(self.output, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        self.output = self.output[sent:]
        return not self.output

    def has_left(self) -> bool:
        """Whether a client that has closed its side cannot be waiting for an answer any more."""
        try:
            unread = self.sock.recv(_PEEK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return True
        return len(unread) < _PEEK and not self.front.can_complete(unread)

    def close(self) -> None:
        """Close. What has come in is read first: a close with unread input is a reset and can lose our last reply."""
        try:
            self.sock.recv(_PEEK, socket.MSG_DONTWAIT)
        except OSError:
            pass
        self.sock.close()

"""Loan - a connection on its way between the gateway and a worker: what must travel beside its descriptor.

The gateway lends a session when a transaction begins and gets it back when it is idle again. A bank travels by its
names, so a loan survives a reload. The octets are only ever exchanged between processes of one daemon, over the inner
socketpair nobody else can reach; that is why `marshal` will do.

**Failures:** `decode` raises ValueError on octets that are not a loan; the receiver closes the descriptor.
"""

from __future__ import annotations

import marshal
from dataclasses import dataclass
from typing import Self

from amavispy.mail.envelope import Connection

_FORMAT = 4


@dataclass(frozen=True, slots=True)
class Loan:
    """`protocol` is "SMTP", "AM.PDP" or, before a PROXY header is complete, "PROXY".

    `state` is the engine's state (for the others: the octets read so far). `since` is when the wait for a worker began
    (monotonic seconds), 0.0 for a session that is given back. `is_for_good`: STARTTLS comes first, the session will
    not return. `output`: replies the peer has not taken yet.
    """

    protocol: str
    bank_path: tuple[str, ...]
    connection: Connection
    state: bytes
    since: float = 0.0
    is_for_good: bool = False
    output: bytes = b""

    def encode(self) -> bytes:
        c = self.connection
        place = (c.listener, c.peer, c.peer_port, c.local, c.local_port, c.interface, c.number)
        values = (self.protocol, self.bank_path, place, self.state, self.since, self.is_for_good, self.output)
        return marshal.dumps(values, _FORMAT)

    @classmethod
    def decode(cls, octets: bytes) -> Self:
        try:
            protocol, bank_path, place, state, since, is_for_good, output = marshal.loads(octets)  # noqa: S302 - our own
            return cls(protocol, bank_path, Connection(*place), state, since, is_for_good, output)
        except (EOFError, TypeError, ValueError) as error:
            raise ValueError(f"not a loan: {error}") from error

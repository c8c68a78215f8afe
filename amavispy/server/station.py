"""station - what a process of the daemon is given when it is forked: its plan, its slot, its sockets."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from amavispy.server.listener import Listener
from amavispy.server.plan import Plan
from amavispy.server.scoreboard import Scoreboard, Slot


@dataclass(frozen=True, slots=True)
class Station:
    """`lifeline` is a descriptor that ends when the master is gone. Only gateways have listeners."""

    plan: Plan
    board: Scoreboard
    slot: Slot
    gateway_end: socket.socket
    workers_end: socket.socket
    lifeline: int
    listeners: tuple[Listener, ...] = ()

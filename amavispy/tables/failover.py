"""Failover - several servers that know the same, one connection: made after the fork, kept, and made anew when lost.

Servers are tried in the order of the configuration. One that fails is left alone for a while, a second at first and
longer each time, so that a dead server costs a connect timeout once and not with every message; the next one takes
over and stays until it fails itself. A connection that was lost while nobody used it is made anew without a word.

A `Server` connects and closes; what is asked over the connection is the caller's. Nothing here knows which protocol.

**Failures:** TemporaryFailure (451) when no server answers; one log line a server that failed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from amavispy.mail.reply import Reply, TemporaryFailure

_log = logging.getLogger("amavispy.tables")
_LEVEL_3 = 10
_FIRST_REST, _LONGEST_REST = 1.0, 60.0  # seconds
_AT_ONCE = 1.0  # seconds; a connection lost in the meantime says so at once, a server that hangs does not

C = TypeVar("C")
T = TypeVar("T")


class Server(Protocol[C]):
    """One server. `name` is for the log, without passwords; `failures` are what connecting and asking may raise."""

    @property
    def name(self) -> str: ...

    @property
    def failures(self) -> tuple[type[Exception], ...]: ...

    def connect(self) -> C: ...

    def close(self, connection: C) -> None: ...


class Failover(Generic[C]):
    """`ask` a question of the first server that answers. `what` names the kind of look-up in logs and replies."""

    def __init__(self, what: str, servers: Sequence[Server[C]], clock: Callable[[], float] = time.monotonic) -> None:
        self._what = what
        self._servers = tuple(servers)
        self._clock = clock
        self._connection: C | None = None
        self._connected_to: Server[C] | None = None
        self._rests: dict[str, tuple[float, float]] = {}  # server -> (until when, how long)

    def ask(self, question: Callable[[C], T]) -> T:
        """The answer to the question, which is asked again on a new connection when the first one was lost."""
        if self._connection is not None and self._connected_to is not None:
            server, began = self._connected_to, self._clock()
            try:
                return self._put(question, self._connection)
            except server.failures as error:
                if self._clock() - began > _AT_ONCE:
                    self._leave_alone(server, error)
        for server in self._servers:
            if self._is_resting(server):
                continue
            try:
                return self._ask_anew(server, question)
            except server.failures as error:
                self._leave_alone(server, error)
        raise TemporaryFailure(Reply(451, "4.5.0", f"Error in processing, {self._what} FAILED"))

    def _ask_anew(self, server: Server[C], question: Callable[[C], T]) -> T:
        self._connection = server.connect()
        self._connected_to = server
        answer = self._put(question, self._connection)
        self._rests.pop(server.name, None)
        _log.log(_LEVEL_3, "%s: connected to %s", self._what, server.name)
        return answer

    def _put(self, question: Callable[[C], T], connection: C) -> T:
        """Ask; a connection whose question was cut off, by whatever, must not hear another one."""
        is_answered = False
        try:
            answer = question(connection)
            is_answered = True
            return answer
        finally:
            if not is_answered:
                self.close()

    def _is_resting(self, server: Server[C]) -> bool:
        return self._clock() < self._rests.get(server.name, (0.0, 0.0))[0]

    def _leave_alone(self, server: Server[C], error: Exception) -> None:
        rest = min(2 * self._rests.get(server.name, (0.0, _FIRST_REST / 2))[1], _LONGEST_REST)
        self._rests[server.name] = (self._clock() + rest, rest)
        reason = " ".join(str(error).split()) or type(error).__name__
        _log.warning("%s: %s failed, next try in %g s: %.300s", self._what, server.name, rest, reason)

    def close(self) -> None:
        """Let go of the connection; the next question makes a new one."""
        connection, server = self._connection, self._connected_to
        self._connection = self._connected_to = None
        if connection is not None and server is not None:
            try:
                server.close(connection)
            except server.failures:
                _log.debug("%s: %s was lost while closing", self._what, server.name)

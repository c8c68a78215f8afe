"""Event log - where events go: a file, syslog, a list in Redis.

In: Facts; out: one line of JSON a mail, to every place that is configured and only when there is one. A list in Redis
is trimmed, the oldest events go first. A place that does not answer is left alone for a while.

**Failures:** none raised but bugs: an event that cannot be written is logged and lost.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from amavispy.journal.event import encoded, event
from amavispy.journal.facts import Facts
from amavispy.journal.transports import INFO, Transport
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.journal")
_PATIENCE = 2.0  # seconds
_AVOIDED_SECONDS = 10.0


class Place(Protocol):
    """Somewhere to put events."""

    def wants(self, settings: Settings) -> bool:
        """Whether mails under these settings are told here."""

    def put(self, line: str, settings: Settings) -> None:
        """Never raises but bugs."""

    def reopen(self) -> None:
        """Start anew, after a rotation."""


class EventLog:
    """Tells every mail to the places that want it."""

    def __init__(self, places: Sequence[Place]) -> None:
        self._places = places

    def record(self, facts: Facts) -> None:
        places = [place for place in self._places if place.wants(facts.settings)]
        if places:
            line = encoded(event(facts))
            for place in places:
                place.put(line, facts.settings)

    def reopen(self) -> None:
        for place in self._places:
            place.reopen()


class EventFile:
    """A file, one write a line; opened at once, so that a path that cannot be written is found at the start."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor = self._opened()

    def wants(self, _: Settings) -> bool:
        return True

    def put(self, line: str, _: Settings) -> None:
        try:
            os.write(self._descriptor, f"{line}\n".encode("utf-8", "backslashreplace"))
        except OSError as error:
            _log.error("%s: %s", self._path, error.strerror)

    def reopen(self) -> None:
        """Go on in a new file of this name; the old one stays in use when that fails."""
        try:
            descriptor = self._opened()
        except OSError:
            return
        os.close(self._descriptor)
        self._descriptor = descriptor

    def _opened(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)


class EventSyslog:
    """Syslog, behind the mark that tells collectors of JSON (rsyslog's mmjsonparse, syslog-ng)."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def wants(self, _: Settings) -> bool:
        return True

    def put(self, line: str, settings: Settings) -> None:
        self._transport.write("", f"@cee: {line}", INFO, settings.syslog_ident, settings.syslog_facility)

    def reopen(self) -> None:
        self._transport.reopen()


class EventRedis:
    """A list in Redis, `redis_logging_key` of the bank in force, at most `limit` events long."""

    def __init__(self, sources: Sequence[str], limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        redis: Any = importlib.import_module("redis")
        importlib.import_module("email.parser")  # redis looks itself up when it connects, in a worker
        for late in (
            "redis.asyncio",
            "redis._parsers.hiredis",
        ):  # before the fork: a worker may not read files any more
            importlib.import_module(late)
        self._failure: type[Exception] = redis.RedisError
        options = {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
        self._clients = [redis.Redis.from_url(source, **options) for source in sources]
        self._avoided: dict[int, float] = {}
        self._limit = limit
        self._clock = clock

    def wants(self, settings: Settings) -> bool:
        return bool(settings.redis_logging_key)

    def put(self, line: str, settings: Settings) -> None:
        octets = line.encode("utf-8", "backslashreplace")
        now = self._clock()
        for number, client in enumerate(self._clients):
            if self._avoided.get(number, now) > now:
                continue
            try:
                pipeline = client.pipeline(transaction=False)
                pipeline.rpush(settings.redis_logging_key, octets)
                pipeline.ltrim(settings.redis_logging_key, -self._limit, -1)
                pipeline.execute()
            except self._failure as error:
                self._avoided[number] = self._clock() + _AVOIDED_SECONDS
                _log.error("Redis: an event is lost or goes elsewhere: %s", error)
            else:
                return

    def reopen(self) -> None:
        """Nothing rotates there."""

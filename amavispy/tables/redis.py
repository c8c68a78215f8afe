"""Redis - what hashes in Redis say of a message's people: a hash for each key, a field for each setting.

    HSET lookup:ann@example.org spam_tag2_level 4.5 virus_lover N
    HSET lookup:@.example.org   local Y

Keys and names of fields are those of SQL (chapters 5.2 and 5.4): `{ redis = "spam_tag2_level" }`. All hashes of all
addresses of a message travel in one pipeline. Making a RedisServer opens nothing and belongs before the fork.

**Failures:** TemporaryFailure, by `Failover`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from amavispy.mail.address import Address
from amavispy.policy.directory import keys_of, trimmed
from amavispy.policy.recipient import is_local
from amavispy.policy.settings import Settings
from amavispy.tables.failover import Failover

Rows = tuple[Mapping[str, Any], ...]
_CATCHALL = "@."
_KEYS_AT_A_TIME = 2000


class RedisServer:
    """One entry of lookup_redis_dsn. `timeout` is for connecting and for each answer, in seconds.

    Raises ValueError for a URL that is none.
    """

    failures: tuple[type[Exception], ...] = (RedisError,)

    def __init__(self, dsn: str, timeout: float) -> None:
        self.name = "redis " + dsn.rpartition("@")[2].rpartition("//")[2]
        self._dsn = dsn
        self._timeout = timeout
        # Makes the module import now what it needs for a connection: a worker may not be able to read it.
        redis.ConnectionPool.from_url(dsn).make_connection()

    def connect(self) -> Any:
        client = redis.Redis.from_url(
            self._dsn,
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
            single_connection_client=True,
            retry=Retry(NoBackoff(), 0),
        )
        client.ping()
        return client

    def close(self, connection: Any) -> None:
        connection.close()


class RedisSource:
    """The servers of lookup_redis_dsn."""

    def __init__(self, servers: Failover[Any], prefix: str, *, trims: bool = False) -> None:
        self._servers = servers
        self._prefix = prefix
        self._trims = trims

    def fetch(self, addresses: Sequence[Address], settings: Settings) -> list[Rows]:
        """The hashes of each address, the most specific key first."""
        keys_each = [keys_of(address, is_local=is_local(address, settings)) for address in addresses]
        keys = list(dict.fromkeys(key for keys in keys_each for key in keys))
        rows: dict[str, Mapping[str, Any]] = {}
        for start in range(0, len(keys), _KEYS_AT_A_TIME):
            some = keys[start : start + _KEYS_AT_A_TIME]
            hashes = self._servers.ask(partial(self._hashes, keys=some))
            rows.update((key, self._row(key, found)) for key, found in zip(some, hashes, strict=True) if found)
        return [tuple(rows[key] for key in keys if key in rows) for keys in keys_each]

    def listings(self, recipients: Sequence[Rows], _senders: Sequence[Address], _settings: Settings) -> list[Rows]:
        """Redis keeps no lists of senders."""
        return [()] * len(recipients)

    def _hashes(self, client: Any, keys: Sequence[str]) -> list[dict[bytes, bytes]]:
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall((self._prefix + key).encode("utf-8", "surrogateescape"))
        return list(pipeline.execute())

    def _row(self, key: str, found: Mapping[bytes, bytes]) -> Mapping[str, Any]:
        row: dict[str, Any] = {
            name.decode("utf-8", "surrogateescape").lower(): value.decode("utf-8", "surrogateescape")
            for name, value in found.items()
        }
        if key == _CATCHALL:
            row.setdefault("local", None)  # what matches everybody makes nobody local
        return trimmed(row) if self._trims else row

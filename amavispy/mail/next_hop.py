"""NextHop - a delivery method as the configuration writes it: `smtp:[127.0.0.1]:10025`, `lmtp:/run/lmtp.sock`.

Failures: `NextHop.parse` raises ValueError with what is allowed; the configuration names file, line and key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_METHOD = re.compile(
    r"(?P<protocol>smtp|lmtp):(?:\[(?P<literal>[^]]+)\]|(?P<host>[^:/\[\]]+)):(?P<port>\d{1,5}|\*)(?::.*)?", re.I
)
_SOCKET = re.compile(r"(?P<protocol>smtp|lmtp):(?P<path>/[^:]+)", re.I)


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where mail goes: `path` (a Unix socket), or `host` and `port`; "*" and port 0 are amavis' `smtp:*:*`."""

    protocol: str
    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> NextHop:
        if match := _SOCKET.fullmatch(text):
            return cls(match["protocol"].lower(), path=match["path"])
        match = _METHOD.fullmatch(text)
        port = match["port"] if match else ""
        if not match or (port != "*" and not 0 < int(port) < 65536):
            raise ValueError("expected smtp:[ADDRESS]:PORT, smtp:HOST:PORT, smtp:/PATH or the same with lmtp")
        host = match["literal"] or match["host"]
        return cls(match["protocol"].lower(), host.removeprefix("IPv6:"), 0 if port == "*" else int(port))

    def __str__(self) -> str:
        """As amavis prints it in replies and logs: smtp:[127.0.0.1]:10025."""
        return f"{self.protocol}:{self.path}" if self.path else f"{self.protocol}:[{self.host}]:{self.port or '*'}"

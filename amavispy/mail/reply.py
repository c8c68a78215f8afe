"""Reply - one SMTP reply: code, enhanced code and text as a single value.

The three parts can never disagree: the enhanced code's class is the code's first digit, always. Replies are what
every protocol answers with in the end (SMTP and LMTP as they are, AM.PDP as `setreply`, milter as a reply code).

Failures: the two exceptions here carry the reply that the client gets. PeerError: the peer broke the protocol.
TemporaryFailure: we cannot do it now, the client shall keep the mail.
"""

from __future__ import annotations

from dataclasses import dataclass

_TEXT_LIMIT = 500  # octets of text a line; RFC 5321 4.5.3.1.5 allows 512 with code and CRLF
_ESCAPED = {**{i: f"\\x{i:02X}" for i in [*range(32), 127]}, 10: "\n"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply. `enhanced` is "" (greeting, EHLO, 354) or an RFC 3463 code whose class equals the code's first digit.

    `text` may contain newlines; the reply is then sent in multiline form.
    """

    code: int
    enhanced: str
    text: str

    def __post_init__(self) -> None:
        if self.enhanced and self.enhanced[0] != str(self.code)[0]:
            raise ValueError(f"reply {self.code} cannot carry enhanced code {self.enhanced}")

    @property
    def is_success(self) -> bool:
        return 200 <= self.code < 300

    @property
    def is_tempfail(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_reject(self) -> bool:
        return 500 <= self.code < 600

    def __str__(self) -> str:
        """The reply on one line, as logs and `setreply` show it: `250 2.0.0 Ok`."""
        head = f"{self.code} {self.enhanced} " if self.enhanced else f"{self.code} "
        return head + self.text.translate(_ESCAPED).replace("\n", " ")

    def octets(self) -> bytes:
        """The reply as sent, CRLF included, split into lines of at most 512 octets (RFC 5321 4.2.1)."""
        prefix = f"{self.enhanced} " if self.enhanced else ""
        if (
            len(self.text) < _TEXT_LIMIT // 4 and self.text.isprintable()
        ):  # nearly all replies: nothing to fold or escape
            return f"{self.code} {prefix}{self.text}\r\n".encode("utf-8", "surrogateescape")
        lines = [piece for line in self.text.translate(_ESCAPED).split("\n") for piece in _pieces(line)]
        last = len(lines) - 1
        return b"".join(
            f"{self.code}{' ' if i == last else '-'}{prefix}".encode() + line + b"\r\n" for i, line in enumerate(lines)
        )


def _pieces(line: str) -> list[bytes]:
    octets = line.encode("utf-8", "surrogateescape")
    if len(octets) <= _TEXT_LIMIT - 10:
        return [octets]
    width = _TEXT_LIMIT - 10
    return [octets[i : i + width] for i in range(0, len(octets), width)]


class PeerError(Exception):
    """The peer broke the protocol. The session sends `reply` and, when `closes`, ends the connection."""

    def __init__(self, reply: Reply, *, closes: bool = False) -> None:
        super().__init__(str(reply))
        self.reply = reply
        self.closes = closes


class TemporaryFailure(Exception):
    """We cannot take or pass on this mail now: the client hears the 4xx `reply` and keeps the mail."""

    def __init__(self, reply: Reply) -> None:
        if not reply.is_tempfail:
            raise ValueError(f"a temporary failure needs a 4xx reply, not {reply}")
        super().__init__(str(reply))
        self.reply = reply

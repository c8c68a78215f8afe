"""Scanner talk - what the dialogues with virus scanner daemons have in common: samples go in, answers come out.

A `ScannerSession` is one connection as a value: `ask` says what is to be scanned, `take_output` is what has to be sent
now, `receive` eats what came back and gives the answers that are complete. `clamd`, `sssp`, `savapi`, `icap` and
`line_daemon` are such sessions. They know neither sockets nor files nor time.

**Failures:** what a daemon could not do with one sample is an `Answer` with `error`, or with `unchecked` when that is
the content's fault (encrypted, damaged) and no scanner will ever do better. ScannerError: the peer does not speak the
protocol (any more), or refuses to; the connection is useless then.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from amavispy.mail.verdict import Unchecked

SOMEWHERE = -1  # an Answer's number when the scanner does not tell which part it speaks of
UNKNOWN = "unknown"  # the name of what is infected without a name

_LINE_LIMIT = 16_384
_UNPRINTABLE = re.compile(r"[^\x21-\x7e]+")

Buffer = bytes | memoryview


class ScannerError(Exception):
    """The peer does not speak its protocol, or not any more."""


class Sample(NamedTuple):
    """One thing to be scanned: `number` of the part (0 is the mail), its octets, or the `path` of a file of them."""

    number: int
    octets: Buffer = b""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scanner says of part `number`: infected with `name`, failed with `error`, `unchecked`, or clean.

    Nothing set means clean; `is_inconclusive`: nothing found, but the scanner is not one whose silence means clean.
    """

    number: int
    name: str = ""
    error: str = ""
    unchecked: Unchecked | None = None
    is_inconclusive: bool = False


class ScannerSession(Protocol):
    """Both directions of one connection."""

    @property
    def takes_more(self) -> bool:
        """Whether another sample may be asked for now."""

    @property
    def is_waiting(self) -> bool:
        """Whether answers are outstanding."""

    @property
    def is_spent(self) -> bool:
        """Whether this connection serves no further sample."""

    def receive(self, octets: bytes) -> list[Answer]:
        """What is complete now; b"" is the end of the stream."""

    def take_output(self) -> list[Buffer]:
        """What is to be sent now."""


class Lines:
    """Lines out of octets as they come, without their ends. Raises ScannerError for one that does not end."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def receive(self, octets: bytes) -> list[bytes]:
        *lines, self._rest = (self._rest + octets).split(b"\n")
        if len(self._rest) > _LINE_LIMIT:
            raise ScannerError("endless answer")
        return [line.removesuffix(b"\r") for line in lines]


def readable(octets: bytes) -> str:
    """Fit for a log line and a header field."""
    return _UNPRINTABLE.sub(" ", octets[:200].decode("ascii", "replace")).strip()

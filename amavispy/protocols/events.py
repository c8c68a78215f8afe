"""Events - what an SMTP or LMTP session tells its caller, one value at a time.

The engine (`smtp_server`) turns octets into these values; the caller acts on them and answers. No event holds a
socket, a file or a setting. Which event wants which answer:

    Mail, Rcpt          accept() or refuse(reply)
    Data                accept() or refuse(reply)
    EndOfMail           answer([reply, ...])
    Chunk, Signal       none (START_TLS: tls_started() once the handshake is done)

**Failures:** none; these are values.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.reply import Reply


class Signal(Enum):
    """Events without contents.

    NEED_DATA: send `take_output()` in one write, then receive().
    CLOSED: the session is over, by QUIT, by end of file or by us: flush, close, and forget an unfinished mail.
    TRANSACTION_STARTS: the engine was told to stop before MAIL, and a whole MAIL line stands first in its input.
    START_TLS: stopping before MAIL: a STARTTLS line stands first in the input, not consumed. Otherwise: the 220 stands
        in the output, plain text behind the command is thrown away and the transaction forgotten; flush, shake hands,
        call tls_started(), or receive(b"") when the handshake failed.
    RESET: the client abandoned a transaction that had been accepted (RSET, HELO, EHLO, LHLO).
    """

    NEED_DATA = auto()
    CLOSED = auto()
    TRANSACTION_STARTS = auto()
    START_TLS = auto()
    RESET = auto()


@dataclass(frozen=True, slots=True)
class Mail:
    """MAIL FROM. `size` is the declared one in octets.

    `client` is None when nothing was forwarded: the client is then whoever connected, and the caller knows who that is.
    An XFORWARD without a usable address gives a Client whose address is None: unknown, which is not the same.
    """

    sender: str
    client: Client | None
    size: int | None


@dataclass(frozen=True, slots=True)
class Rcpt:
    """RCPT TO."""

    recipient: Recipient


@dataclass(frozen=True, slots=True)
class Data:
    """DATA, or the first BDAT. `envelope.client` is an empty Client when nothing was forwarded (see Mail)."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class Chunk:
    """Octets of the mail: dots unstuffed, every line end CRLF; a chunk may end within a line, never within a CRLF."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class EndOfMail:
    """The mail is complete. With a `fault` it must not be processed: answer([fault])."""

    fault: Reply | None = None


Event = Signal | Mail | Rcpt | Data | Chunk | EndOfMail

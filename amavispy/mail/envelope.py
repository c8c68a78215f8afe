"""Envelope - who sends to whom, and where the mail came in.

Addresses are `str` as they stand on the wire between < and >, quoting included ("a b"@example.org), decoded as UTF-8
with surrogateescape so that every octet survives; "" is the null sender. Source routes are removed on reception.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Client:
    """The original client, as XFORWARD, AM.PDP attributes or milter macros tell it.

    `address` is a normalised IP ("192.0.2.1", "2001:db8::1"; IPv4-mapped as dotted quad) or None: an unknown client is
    unknown, never local. `queue_id` is the MTA's (XFORWARD IDENT, AM.PDP queue_id). `source`: "LOCAL", "REMOTE" or "".
    """

    address: str | None = None
    port: int | None = None
    name: str = ""
    helo: str = ""
    protocol: str = ""
    queue_id: str = ""
    source: str = ""
    login: str = ""

    @property
    def policy_address(self) -> str | None:
        """The address that chooses policy banks. Postfix says SOURCE=LOCAL without an address of mail from its own
        `sendmail` command: that is 0.0.0.0, "this host" (RFC 1122 3.2.1.3). Unknown otherwise stays unknown.
        """
        return "0.0.0.0" if self.address is None and self.source == "LOCAL" else self.address


@dataclass(frozen=True, slots=True)
class Connection:
    """The connection the mail came in on.

    `listener` is the listen socket as configured ("[::1]:10026", "/path/amavisd.sock"); `peer` the address that
    connected (or that a PROXY header named), None on a Unix socket; `local` ours, on the network interface `interface`
    ("eth0", "" unknown). `number` counts the gateway's connections; `helo` is what the peer calls itself.
    """

    listener: str
    peer: str | None = None
    peer_port: int = 0
    local: str | None = None
    local_port: int = 0
    interface: str = ""
    number: int = 0
    helo: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """One RCPT TO. `notify`: DSN NOTIFY words, upper case, empty when not given. `orcpt`: xtext as received, or ""."""

    address: str
    notify: frozenset[str] = frozenset()
    orcpt: str = ""


@dataclass(frozen=True, slots=True)
class Envelope:
    """MAIL and RCPT of one transaction. `body`: "", "7BIT", "8BITMIME" or "BINARYMIME"; `ret`: "", "FULL" or "HDRS"."""

    sender: str
    recipients: tuple[Recipient, ...]
    client: Client = field(default_factory=Client)
    size: int | None = None
    body: str = ""
    smtputf8: bool = False
    ret: str = ""
    envid: str = ""
    auth: str = ""

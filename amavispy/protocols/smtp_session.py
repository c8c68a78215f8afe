"""Smtp session - what an SMTP or LMTP session offers, and what it remembers of its client and of the mail at hand.

The profile comes from the caller; Session and Transaction belong to the engine (`smtp_server`) alone.

**Failures:** none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.reply import Reply
from amavispy.protocols import smtp_replies as replies
from amavispy.protocols.smtp_body import BdatStream, MailOctets
from amavispy.protocols.smtp_commands import MailCommand
from amavispy.protocols.xforward import client_of

_NOBODY: Final = Client()

HELO_LIMIT: Final = 255  # characters; RFC 5321 4.5.3.1.2
DIALECTS: Final = {"HELO": "SMTP", "EHLO": "ESMTP", "LHLO": "LMTP"}


@dataclass(frozen=True, slots=True)
class SmtpProfile:
    """What a session offers. `keywords`: the EHLO lines in order, without the name; sizes are octets, 0 for no limit.

    `greeting` and `farewell` are the texts behind 220 and 221; `tls` is "none", "may" or "encrypt";
    `forbid_bare_newline` is "normalize" or "reject". STARTTLS and CHUNKING are understood only when offered.
    """

    helo_name: str
    greeting: str
    farewell: str
    keywords: tuple[str, ...]
    recipient_limit: int = 1100
    size_limit: int = 0
    forbid_bare_newline: str = "normalize"
    tls: str = "none"
    xforward: bool = True


@dataclass(slots=True)
class Session:
    """What holds until the connection ends. `dialect` is "" before the greeting, else one of DIALECTS' values.

    `forwarded` is None while no XFORWARD came; the next MAIL uses it up. `errors` counts the client's mistakes since
    the last mail that was accepted.
    """

    dialect: str = ""
    helo: str = ""
    forwarded: dict[str, str] | None = None
    errors: int = 0
    is_encrypted: bool = False

    def as_tuple(self) -> tuple[str, str, dict[str, str] | None, int, bool]:
        """What `Session(*...)` makes this session of, in another process."""
        return self.dialect, self.helo, self.forwarded, self.errors, self.is_encrypted

    def take_client(self) -> Client | None:
        """The forwarded client, for one transaction; None when nothing was forwarded."""
        forwarded, self.forwarded = self.forwarded, None
        return None if forwarded is None else client_of(forwarded)


class Transaction:
    """What MAIL opened. `size_limit` is octets, 0 for none. `bdat` is there from the first BDAT on.

    `has_seen_rcpt`: a RCPT came, be it refused. `has_failed`: a BDAT was refused, so no other one can repair the mail.
    """

    __slots__ = ("bdat", "client", "command", "has_failed", "has_seen_rcpt", "recipients", "rejects_bare", "size_limit")

    def __init__(self, command: MailCommand, client: Client | None, profile: SmtpProfile) -> None:
        self.command = command
        self.client = client
        self.size_limit = profile.size_limit
        self.rejects_bare = profile.forbid_bare_newline == "reject"
        self.recipients: list[Recipient] = []
        self.has_seen_rcpt = False
        self.bdat: BdatStream | None = None
        self.has_failed = False

    def envelope(self) -> Envelope:
        mail = self.command
        client = _NOBODY if self.client is None else self.client
        recipients = tuple(self.recipients)
        return Envelope(mail.sender, recipients, client, mail.size, mail.body, mail.smtputf8, mail.ret, mail.envid)

    def octets(self) -> MailOctets:
        """What will count and clean this mail's octets."""
        return MailOctets(rejects_bare=self.rejects_bare, size_limit=self.size_limit)

    def why_no_data(self, verb: str, *, is_lmtp: bool) -> Reply | None:
        """The reply when neither DATA nor BDAT can be taken, None when all is well."""
        if self.recipients:
            return None
        if not self.has_seen_rcpt:
            return replies.about(replies.DATA_NEEDS_RCPT, verb)
        return replies.about(replies.NO_RECIPIENTS_LMTP if is_lmtp else replies.NO_RECIPIENTS, verb)

"""profiles - what an SMTP or LMTP session offers to its client, out of a policy bank and the address it came in on.

Gateway and workers make the same profile from the same bank, so a session may change hands between any two commands.
Profiles are remembered by the bank's path and our address; both are few, and the memory is bounded all the same.

**Failures:** none; a variable in a banner that does not exist is left as it stands.
"""

from __future__ import annotations

import re

from amavispy import __version__
from amavispy.config.model import ServerSettings
from amavispy.mail.envelope import Connection
from amavispy.policy.bank import PolicyBank
from amavispy.protocols.smtp_server import SmtpProfile

PRODUCT = "amavispy"
_VARIABLE = re.compile(r"\$\{([a-z-]+)\}")
_REMEMBERED = 500
_XFORWARD = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"


class Profiles:
    """The profiles of one configuration; call it with a bank and a connection."""

    def __init__(self, server: ServerSettings) -> None:
        self._server = server
        self._known: dict[tuple[tuple[str, ...], str | None], SmtpProfile] = {}

    def __call__(self, bank: PolicyBank, connection: Connection) -> SmtpProfile:
        key = (bank.path, connection.local)
        profile = self._known.get(key)
        if profile is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            profile = self._known[key] = smtp_profile(bank, connection, self._server)
        return profile


def smtp_profile(bank: PolicyBank, connection: Connection, server: ServerSettings) -> SmtpProfile:
    """The profile for connections that came in on `connection.local` under this bank."""
    settings = bank.settings
    helo_name = f"[{connection.local or 'localhost'}]"
    variables = {
        "helo-name": helo_name,
        "myhostname": settings.myhostname,
        "version": f"{PRODUCT}-{__version__}",
        "version-id": __version__,
        "version-date": "",
        "product": PRODUCT,
        "protocol": "LMTP" if settings.protocol.upper() == "LMTP" else "ESMTP",
    }
    return SmtpProfile(
        helo_name=helo_name,
        greeting=_expanded(settings.smtpd_greeting_banner, variables),
        farewell=_expanded(settings.smtpd_quit_banner, variables),
        keywords=_keywords(bank, server),
        recipient_limit=server.smtpd_recipient_limit,
        size_limit=settings.smtpd_message_size_limit,
        forbid_bare_newline=settings.smtpd_forbid_bare_newline,
        tls=settings.tls_security_level_in if _has_certificate(server) else "none",
        xforward=True,
    )


def _keywords(bank: PolicyBank, server: ServerSettings) -> tuple[str, ...]:
    """The EHLO lines in amavis' order, without those the administrator took out."""
    settings = bank.settings
    size = settings.smtpd_message_size_limit
    offers_tls = settings.tls_security_level_in != "none" and _has_certificate(server)
    lines = ["VRFY", "PIPELINING", f"SIZE {size}" if size else "SIZE", "ENHANCEDSTATUSCODES", "8BITMIME", "SMTPUTF8"]
    lines += ["DSN", "CHUNKING", *(["STARTTLS"] if offers_tls else []), _XFORWARD]
    discarded = {word.upper() for word in settings.smtpd_discard_ehlo_keywords}
    if "8BITMIME" in discarded:
        discarded.add("SMTPUTF8")  # RFC 6531 3.1: SMTPUTF8 needs 8BITMIME
    return tuple(line for line in lines if line.partition(" ")[0] not in discarded)


def _has_certificate(server: ServerSettings) -> bool:
    return bool(server.smtpd_tls_cert_file and server.smtpd_tls_key_file)


def _expanded(text: str, variables: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda match: variables.get(match[1], match[0]), text)

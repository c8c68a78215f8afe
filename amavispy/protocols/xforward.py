"""Xforward - the client that Postfix forwards: attributes of XFORWARD commands become a Client.

Postfix sends one or two XFORWARD commands before every MAIL; values are xtext (RFC 3461 4), `[UNAVAILABLE]` is unknown.
What cannot be believed makes the client unknown, never local: an address that is refused stays refused, so that a
client cannot gain the rights of the connecting MTA by spoiling its own XFORWARD line.

**Failures:** PeerError with the 501; `Forwarded` remembers nevertheless that something was forwarded.
"""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final

from amavispy.mail.envelope import Client
from amavispy.mail.reply import PeerError
from amavispy.protocols import smtp_replies as replies

KEYWORDS: Final = ("NAME", "ADDR", "PORT", "PROTO", "HELO", "IDENT", "SOURCE")  # as announced
_KNOWN: Final = frozenset((*KEYWORDS, "LOGIN"))

_ATTRIBUTE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)=([^\s]{0,255})")
_XTEXT = re.compile(rb"\+([0-9A-Fa-f]{2})")
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def normal_address(text: str) -> str | None:
    """An IP in its one form ("192.0.2.1", "2001:db8::1"; IPv4-mapped as dotted quad, no scope), None for anything else.

    `IPv6:` may stand before it, as in address literals (RFC 5321 4.1.3).
    """
    if _IPV4.fullmatch(text):
        return text  # ten times faster than a parser, and by far the most frequent
    if text[:5].upper() == "IPV6:":
        text = text[5:]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def decode_xtext(text: str) -> str:
    """xtext decoded; what is no valid `+XX` stays as it is, for old clients send plain text."""
    if "+" not in text:
        return text
    octets = _XTEXT.sub(lambda match: bytes.fromhex(match[1].decode()), text.encode("utf-8", "surrogateescape"))
    return octets.decode("utf-8", "surrogateescape")


def read_attributes(arguments: str, known: dict[str, str]) -> None:
    """Enter the attributes of one XFORWARD command into `known`, "" for unavailable ones.

    Of a command that is refused nothing is entered, and an address of an earlier one is forgotten.
    """
    try:
        known.update([_attribute(word) for word in arguments.split()])
    except PeerError:
        known["ADDR"] = ""
        raise


def client_of(attributes: dict[str, str]) -> Client:
    """The client that the attributes tell; what was not told is unknown."""
    get = attributes.get
    port = get("PORT")
    return Client(
        address=get("ADDR") or None,
        port=int(port) if port else None,
        name=get("NAME", ""),
        helo=get("HELO", ""),
        protocol=get("PROTO", ""),
        queue_id=get("IDENT", ""),
        source=get("SOURCE", ""),
        login=get("LOGIN", ""),
    )


def _attribute(word: str) -> tuple[str, str]:
    match = _ATTRIBUTE.fullmatch(word)
    if not match:
        raise PeerError(replies.XFORWARD_SYNTAX)
    name, value = match[1].upper(), match[2]
    if name not in _KNOWN:
        raise PeerError(replies.about(replies.XFORWARD_PARAMETER, word))
    if not value or value.upper() == "[UNAVAILABLE]":
        return name, ""
    checked = _checked(name, decode_xtext(value))
    if checked is None:
        raise PeerError(replies.about(replies.XFORWARD_PARAMETER, word))
    return name, checked


def _checked(name: str, value: str) -> str | None:
    """The value in its normal form, None when it is impossible. Texts are strangers': control characters become `?`."""
    if name == "ADDR":
        return normal_address(value)
    if name == "PORT":
        return value if value.isascii() and value.isdigit() and int(value) < 65536 else None
    if name == "SOURCE":
        return value.upper() if value.upper() in ("LOCAL", "REMOTE") else None
    return _CONTROL.sub("?", value)

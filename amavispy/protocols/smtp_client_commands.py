"""SMTP client's commands - the lines a client says, with no more parameters than the server offered.

In: envelope values and the server's EHLO keywords. Out: command lines with CRLF. Nothing that stands in an address, a
parameter or a client's name can end a line or begin another parameter.

**Failures:** none; a path that cannot be said safely is for `is_sayable` to find first, a parameter is left out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from amavispy.mail.envelope import Client, Envelope, Recipient

Extensions = Mapping[str, str]
"""EHLO keywords, upper case, with their parameters ("" for none)."""

XFORWARD_VALUE_LIMIT = 255  # characters of one value
_XFORWARD_LINE_LIMIT = 512  # octets of one command; more attributes go into another

# Between < and >: anything but controls, blanks and brackets, which only a quoted string may hold.
_PATH = re.compile(r'(?:[^\x00-\x20"<>\x7f]++|"(?:[^\x00-\x1f"\\\x7f]|\\[^\x00-\x1f\x7f])*+")*+')
_PARAMETER = re.compile(r"[^\x00-\x20\x7f=]+")
_SPECIAL = re.compile(r'[^\x21-\x7e]|[<>()\\";@]')
_NOTIFY_ORDER = ("NEVER", "SUCCESS", "FAILURE", "DELAY")


def parse_extensions(text: str) -> dict[str, str]:
    """The keywords of an EHLO reply's text; its first line is the server's name."""
    words = [line.split(None, 1) for line in text.split("\n")[1:]]
    return {found[0].upper(): found[1] if len(found) > 1 else "" for found in words if found}


def is_sayable(path: str) -> bool:
    """False for a path that would break out of its command line."""
    return _PATH.fullmatch(path) is not None


def mail_command(envelope: Envelope, extensions: Extensions, *, is_8bit: bool, is_utf8: bool, with_dsn: bool) -> bytes:
    """MAIL FROM with SIZE, BODY, SMTPUTF8, RET and ENVID as far as the server knows them."""
    words = [f"MAIL FROM:<{envelope.sender}>"]
    if envelope.size is not None and "SIZE" in extensions:
        words.append(f"SIZE={envelope.size}")
    if is_8bit and "8BITMIME" in extensions:
        words.append("BODY=8BITMIME")
    if is_utf8 and "SMTPUTF8" in extensions:
        words.append("SMTPUTF8")
    if with_dsn and "DSN" in extensions:
        pairs = (("RET", envelope.ret), ("ENVID", envelope.envid))
        words += [f"{name}={value}" for name, value in pairs if _PARAMETER.fullmatch(value)]
    return _line(words)


def rcpt_command(recipient: Recipient, extensions: Extensions, *, with_dsn: bool) -> bytes:
    """RCPT TO with NOTIFY and ORCPT when the server knows DSN (RFC 3461 4)."""
    words = [f"RCPT TO:<{recipient.address}>"]
    if with_dsn and "DSN" in extensions:
        if notify := ",".join(word for word in _NOTIFY_ORDER if word in recipient.notify):
            words.append(f"NOTIFY={notify}")
        orcpt = recipient.orcpt if ";" in recipient.orcpt else f"rfc822;{recipient.orcpt}"
        if recipient.orcpt and _PARAMETER.fullmatch(orcpt):
            words.append(f"ORCPT={orcpt}")
    return _line(words)


def xforward_commands(client: Client, extensions: Extensions) -> list[bytes]:
    """XFORWARD with all attributes the server takes; what is unknown is said to be so, lest an old value stay."""
    values = {
        "NAME": client.name,
        "ADDR": f"IPv6:{client.address}" if client.address and ":" in client.address else client.address or "",
        "PORT": str(client.port or ""),
        "PROTO": client.protocol,
        "HELO": client.helo,
        "SOURCE": client.source,
        "IDENT": client.queue_id,
    }
    taken = extensions.get("XFORWARD", "").upper().split()
    lines: list[list[str]] = []
    length = _XFORWARD_LINE_LIMIT
    for name in (name for name in values if name in taken):
        word = f"{name}={xforward_value(values[name])}"
        length += len(word) + 1
        if length + len("\r\n") > _XFORWARD_LINE_LIMIT:
            lines.append(["XFORWARD"])
            length = len("XFORWARD ") + len(word)
        lines[-1].append(word)
    return [_line(line) for line in lines]


def xforward_value(value: str) -> str:
    """A value as XFORWARD wants it: specials replaced, xtext (RFC 3461 4), cut to length; [UNAVAILABLE] for none."""
    if not value:
        return "[UNAVAILABLE]"
    text = _SPECIAL.sub("?", value[:XFORWARD_VALUE_LIMIT])
    if "+" in text or "=" in text:
        text = text.replace("+", "+2B").replace("=", "+3D")[:XFORWARD_VALUE_LIMIT]
        cut = text.find("+", len(text) - 2)  # half of an escape at the end
        text = text if cut < 0 else text[:cut]
    return text


def _line(words: list[str]) -> bytes:
    return " ".join(words).encode("utf-8", "surrogateescape") + b"\r\n"

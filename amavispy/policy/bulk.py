"""Bulk - which mails come from lists and robots, to which no machine should send an answer (RFC 3834 2).

In goes a Message, out comes what gave it away, or "". Only header fields and the envelope sender are looked at.
"""

from __future__ import annotations

from amavispy.mail.address import split
from amavispy.mail.message import Message

_ROBOTS = frozenset(("mailer-daemon", "double-bounce", "listserv", "majordomo", "mailman", "bounce", "bounces"))
_PRECEDENCES = (b"bulk", b"list", b"junk")


def bulk_sign(message: Message) -> str:
    """The first sign of bulk or automatic mail, such as "Precedence" or "List-Id"; "" when there is none."""
    headers = message.content.headers
    for name in (b"List-Id", b"List-Post"):
        if headers.first(name) is not None:
            return name.decode()
    precedence = (headers.first(b"Precedence") or b"").lower()
    if precedence.startswith(_PRECEDENCES):
        return "Precedence"
    submitted = (headers.first(b"Auto-Submitted") or b"no").lower().strip()
    if submitted.partition(b";")[0].strip() != b"no":  # RFC 3834 5: "no" is what people's mail carries
        return "Auto-Submitted"
    return _robot(message.envelope.sender)


def _robot(sender: str) -> str:
    """The local part of addresses that lists and daemons send from, or ""."""
    local = split(sender)[0].lower()
    is_robot = (
        local in _ROBOTS
        or local.startswith(("owner-", "bounce-", "bounces-"))
        or local.endswith(("-request", "-bounces", "-owner"))
    )
    return f"sender {local}" if is_robot else ""

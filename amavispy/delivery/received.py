"""Received - the trace field that a forwarded mail gets (specification, chapter 2.5), and how many it may have.

In: a Message and the names we go by. Out: the field's value, folded with "\\n\\t". Whatever a client claims about
itself is reduced to characters that cannot end a field or a comment.

**Failures:** none.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from amavispy.mail.message import Content, Message
from amavispy.policy.settings import Settings

HOPS_LIMIT = 100  # RFC 5321 6.3 wants at least that many

# The registered transmission types (RFC 5321 4.4, RFC 3848, RFC 6531 4.3).
_REGISTERED = re.compile(r"SMTP|ESMTPS?A?|LMTPS?A?|UTF8(?:SMTP|LMTP)S?A?")
_UNTRUSTED = re.compile(r"[^A-Za-z0-9.:_+\[\]-]")
_PLAIN_PATH = re.compile(r"[!#-'*+\--9=?A-Z^-~@.]{1,256}")
_FIELD = re.compile(rb"^received[ \t]*:", re.I | re.M)
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def received_value(message: Message, settings: Settings, recipients: list[str]) -> str:
    """The value of our Received field. The recipient stands in it only when there is no other who could read it."""
    connection = message.connection
    helo = _UNTRUSTED.sub("?", connection.helo[:255]) or "unknown"
    peer = f" ([{connection.peer}])" if connection.peer else ""
    place = f" [{connection.local}]" if connection.local else ""
    port = f"port {connection.local_port}" if connection.local_port else "unix socket"
    protocol = f"with {message.protocol} " if _REGISTERED.fullmatch(message.protocol) else ""
    only = recipients[0] if len(recipients) == 1 else ""
    reader = f" for <{only}>" if _PLAIN_PATH.fullmatch(only) else ""
    return (
        f"from {helo}{peer}\n\tby {settings.localhost_name} ({settings.myhostname}{place}) (amavispy, {port})\n\t"
        f"{protocol}id {message.ids.mail_id}{reader};\n\t{_date(message.received_at)}"
    )


def count_hops(content: Content) -> int:
    """How many Received fields the mail has; counted only when it has lines enough to have too many."""
    section = content.octets[: content.body_start]
    return len(_FIELD.findall(section)) if section.count(b"\n") > HOPS_LIMIT else 0


def _date(moment: datetime) -> str:
    """RFC 5322 3.3, whatever the locale."""
    offset = moment.utcoffset() or timedelta()
    minutes = offset.days * 1440 + offset.seconds // 60
    zone = f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}{abs(minutes) % 60:02}"
    day = f"{_DAYS[moment.weekday()]}, {moment.day} {_MONTHS[moment.month - 1]} {moment.year}"
    return f"{day} {moment.hour:02}:{moment.minute:02}:{moment.second:02} {zone}"

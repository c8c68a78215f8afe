"""Quarantine text - what a kept copy reads like, and how it may be called.

As amavis writes it, so that release tools of both read it: pseudo header fields, most recent first, the verdict, the
original; LF line ends. `Original` makes it in pieces, nothing of a large mail is held twice.

Names are made of templates: %m mail_id, %n log id, %i local time, %b digest of the body, %P partition tag, %s sender,
%% a percent sign. What a stranger chose (the sender) is reduced to harmless characters, so a name is never a path.

**Failures:** none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amavispy.delivery.edits import fields_octets
from amavispy.mail.disposition import Disposition, RecipientDisposition
from amavispy.mail.message import Message

_VARIABLE = re.compile(r"%(.)", re.S)
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), 127)}
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9=_+@.-]")
_SENDER_LIMIT = 100
PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Original:
    """A mail that is to be kept, as all kinds of quarantine see it. `tag`: its partition."""

    message: Message
    disposition: Disposition
    tag: int = 0

    @property
    def mail_id(self) -> str:
        return self.message.ids.mail_id

    def header(self, names: Sequence[str] = ()) -> bytes:
        """The pseudo header fields with LF line ends; `names`: the quarantine addresses it is delivered to."""
        recipients = self.disposition.recipients
        sender = _path(self.message.envelope.sender)
        fields = [
            ("Return-Path", sender),
            *(("Delivered-To", name.translate(_CONTROLS)) for name in names),
            ("X-Envelope-From", sender),
            ("X-Envelope-To", _paths(recipients)),
            ("X-Envelope-To-Blocked", _paths([r for r in recipients if r.blocking])),
            ("X-Quarantine-ID", f"<{self.mail_id}>"),
            *self.disposition.quarantine_fields,
        ]
        return fields_octets(tuple(fields), "\n")

    def pieces(self, names: Sequence[str] = (), size: int = PIECE) -> Iterator[bytes]:
        """The whole copy with LF line ends, in pieces of about `size` octets."""
        yield self.header(names)
        octets = self.message.content.octets
        start, total = 0, len(octets)
        while start < total:
            end = start + size
            if octets[end - 1 : end] == b"\r":  # a CRLF must not be cut in two
                end += 1
            yield octets[start:end].replace(b"\r\n", b"\n")
            start = end

    def name(self, template: str) -> str:
        """A file's name, never a path and never hidden."""
        expanded = _VARIABLE.sub(lambda match: self._variable(match[1]), template)
        return expanded.replace("/", "_").lstrip(".") or self.mail_id

    def path(self, template: str) -> str:
        """A path below quarantinedir: the template's own directories count, an expanded name makes none."""
        names = [_VARIABLE.sub(lambda match: self._variable(match[1]), part) for part in template.split("/")]
        return "/".join(name.replace("/", "_").lstrip(".") or "_" for name in names)

    def _variable(self, letter: str) -> str:
        message = self.message
        match letter:
            case "m":
                return self.mail_id
            case "n":
                return message.ids.log_id
            case "i":
                return message.received_at.strftime("%Y%m%dT%H%M%S")
            case "b":
                return _body_digest(message)
            case "P":
                return str(self.tag) if self.tag else ""
            case "s":
                return _NOT_IN_NAMES.sub("_", message.envelope.sender)[:_SENDER_LIMIT]
            case "%":
                return "%"
            case _:
                return f"%{letter}"


def location_in_sql(mail_id: str, tag: int) -> str:
    """As logs name a copy in SQL: the mail_id, with its partition when that is not 0."""
    return f"{mail_id}[{tag}]" if tag else mail_id


def _path(address: str) -> str:
    return f"<{address.translate(_CONTROLS)}>"


def _paths(recipients: Sequence[RecipientDisposition]) -> str:
    """`<a@x>, <b@x>`; a line for each, as a thousand of them on one would break RFC 5322 2.1.1."""
    paths = [_path(recipient.recipient.address) for recipient in recipients]
    return (",\n " if len(paths) > 2 else ", ").join(paths)


def _body_digest(message: Message) -> str:
    """amavis' body digest; it names, it does not protect."""
    digest = hashlib.md5(usedforsecurity=False)
    view = memoryview(message.content.octets)[message.content.body_start :]
    digest.update(view)
    view.release()
    return digest.hexdigest()

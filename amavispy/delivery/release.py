"""Release - taking a mail out of the quarantine on request: to its recipients, back to the filter, or to an abuse desk.

`release` sends it by release_method, `requeue` by requeue_method so that it is filtered again, `report` sends an abuse
report about it by release_method. The original octets are sent, behind a Received and Resent-* fields (RFC 5322
3.6.6), to the recipients that the request names, else to those who did not get it.

In: the request as amavisd-release sends it, and the connection's bank. Out: one reply a recipient. Whoever reaches the
socket may ask; the mail's secret_id is the permission, unless the bank does without (auth_required_release false). A
secret_id that is given is checked always, and before anything is looked for.

**Failures:** none raised but the worker's alarm; what goes wrong is the reply: 550 what will not get better, 450 what
may.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from datetime import datetime
from email.utils import format_datetime

from amavispy.deadline import Deadline
from amavispy.delivery.edits import fields_octets
from amavispy.delivery.feedback import report
from amavispy.delivery.quarantine import Transport
from amavispy.delivery.quarantined import Kept, NotReleasable, find
from amavispy.delivery.transports import Submission
from amavispy.mail.address import without_route
from amavispy.mail.envelope import Recipient
from amavispy.mail.ids import new_mail_id
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings
from amavispy.protocols.ampdp import Request

_log = logging.getLogger("amavispy.release")
_NOTICE = 25
_MAIL_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,62}={0,2}")
_ADDRESS = re.compile(r"[^\x00-\x20\x7f<>]{1,320}|\"[^\x00-\x1f\x7f<>]{0,64}\"@[^\x00-\x20\x7f<>]{1,255}")
_TYPES_ON_FILE = ("", "F", "Z")
_NOTHING_TO_DO = Reply(250, "2.5.0", "No recipients, nothing to do")

Chunks = list[bytes | memoryview]


class Release:
    """Serves release, requeue and report requests. `verify_secret(mail_id, secret_id)` knows the right pairs."""

    def __init__(self, transport: Transport, quarantinedir: str, verify_secret: Callable[[str, str], bool]) -> None:
        self._transport = transport
        self._directory = quarantinedir
        self._verify = verify_secret

    def handle(self, request: Request, bank: PolicyBank, deadline: Deadline) -> list[Reply]:
        """Serve the request: one reply a recipient, or a single one when it comes to none."""
        try:
            return self._released(request, bank.settings, deadline)
        except NotReleasable as error:
            _log.warning("release of %s refused: %s", _shown(request.one("mail_id")), _shown(str(error)))
            return [Reply(550, "5.5.0", f"ERROR: {error}")]
        except OSError as error:
            if error.errno is None:  # the worker's alarm
                raise
            _log.error("release of %s FAILED: %s", _shown(request.one("mail_id")), error)
            return [Reply(450, "4.5.0", f"ERROR: {error.strerror or error}")]

    def _released(self, request: Request, settings: Settings, deadline: Deadline) -> list[Reply]:
        mail_id = self._permitted(request, settings)
        kept = find(self._directory, mail_id, request.one("mail_file"))
        kind = request.one("request").lower()
        recipients = _addresses(request, "recipient") or kept.blocked
        sender = (_addresses(request, "sender") or (kept.sender,))[0]
        category = "abuse" if kind == "report" else "miscategorized"
        _log.log(
            _NOTICE, "Quarantined message %s (%s): %s <%s> -> %s",
            kind, category, mail_id, _shown(sender), ",".join(f"<{_shown(recipient)}>" for recipient in recipients),
        )  # fmt: skip
        if not recipients:
            return [_NOTHING_TO_DO]
        new_id = new_mail_id()
        if kind == "report":
            sender, chunks = settings.mailfrom_notify_sender, _report(kept, recipients, f"{mail_id}-{new_id}", settings)
        else:
            chunks = _resent(kept, recipients, request, f"{mail_id}-{new_id}", settings)
        submission = _submission(sender, recipients, chunks, kept)
        handovers = self._transport.send(_next_hops(kind, settings), submission, settings, deadline, f"rel-{new_id}")
        return [handover.reply for handover in handovers]

    def _permitted(self, request: Request, settings: Settings) -> str:
        """The mail_id that may be released by this request."""
        mail_id, secret_id = request.one("mail_id"), request.one("secret_id")
        if not _MAIL_ID.fullmatch(mail_id):
            raise NotReleasable(f"Invalid mail_id '{mail_id[:100]}'" if mail_id else "Missing 'mail_id' field")
        if not secret_id and settings.auth_required_release:
            raise NotReleasable("Secret_id is required, but missing")
        if secret_id and not self._verify(mail_id, secret_id):
            raise NotReleasable(f"Secret_id {secret_id[:40]} does not match mail_id {mail_id}")
        if request.one("quar_type") not in _TYPES_ON_FILE:
            raise NotReleasable(f"quarantine type {request.one('quar_type')[:10]} is not kept here, only F and Z are")
        return mail_id


def _addresses(request: Request, name: str) -> tuple[str, ...]:
    addresses = tuple(_address(text) for text in request.all(name))
    return tuple(address for address in addresses if address or name == "sender")


def _address(text: str) -> str:
    text = text.strip()
    path = without_route(text[1:-1] if text.startswith("<") and text.endswith(">") else text)
    if path and not _ADDRESS.fullmatch(path):
        raise NotReleasable(f"Invalid address '{path[:100]}'")
    return path


def _next_hops(kind: str, settings: Settings) -> tuple[NextHop, ...]:
    name = "requeue_method" if kind == "requeue" else "release_method"
    next_hops = settings.requeue_method if kind == "requeue" else settings.release_method or settings.notify_method
    if not next_hops:
        raise NotReleasable(f"{name} is unspecified")
    if not all(next_hop.path or (next_hop.port and next_hop.host != "*") for next_hop in next_hops):
        raise NotReleasable(f"{name} must name host and port, a released message came from nowhere")
    return next_hops


def _submission(sender: str, recipients: tuple[str, ...], chunks: Chunks, kept: Kept) -> Submission:
    return Submission(
        sender,
        tuple(Recipient(address) for address in recipients),
        chunks,
        body="" if kept.octets.isascii() else "8BITMIME",
        smtputf8=not all(address.isascii() for address in (sender, *recipients)),
        splits=True,
    )


def _filter_address(settings: Settings) -> str:
    host = settings.myhostname
    return f'"Content-filter at {host}" <{settings.mailfrom_notify_sender or f"postmaster@{host}"}>'


def _resent(kept: Kept, recipients: tuple[str, ...], request: Request, unique: str, settings: Settings) -> Chunks:
    """The original mail behind the trace of its release."""
    now = format_datetime(datetime.now().astimezone())
    by = (_addresses(request, "requested_by") or ("",))[0]
    fields = (
        (
            "Received",
            f"by {settings.localhost_name} ({settings.myhostname}) (amavispy, quarantine)\n\tid {unique};\n\t{now}",
        ),
        ("Resent-From", f"<{by}>" if by else _filter_address(settings)),
        *((("Resent-Sender", _filter_address(settings)),) if by else ()),
        ("Resent-To", f"<{recipients[0]}>" if len(recipients) == 1 else "undisclosed-recipients:;"),
        ("Resent-Date", now),
        ("Resent-Message-ID", f"<{unique}@{settings.myhostname}>"),
    )
    return [fields_octets(fields), memoryview(kept.octets)[kept.mail_at :]]


def _report(kept: Kept, recipients: tuple[str, ...], unique: str, settings: Settings) -> Chunks:
    message_id = f"<{unique}@{settings.myhostname}>"
    return report(kept, _filter_address(settings), recipients, message_id, f"----------=_{unique}")


def _shown(text: str) -> str:
    """Fit for a log line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02X}" for c in text[:320])

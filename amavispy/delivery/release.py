"""Release - taking a mail out of the quarantine on request: to its recipients, back to the filter, or to an abuse desk.

`release` sends it by release_method, `requeue` by requeue_method so that it is filtered again, `report` sends an abuse
report about it by release_method. To the recipients that the request names, else to those who did not get it, go the
original octets behind a Received and Resent-* fields (RFC 5322 3.6.6), or whatever release_format and report_format
say: an attachment, or an abuse report.

In: the request as amavisd-release sends it and the connection's bank, or an Errand of somebody who needs no permission.
Out: one reply a recipient. Whoever reaches the socket may ask; the mail's secret_id is the permission, unless the bank
does without (auth_required_release false). A secret_id that is given is checked always, and before anything is looked
for. What was released is told to the ledger.

**Failures:** `handle` raises nothing but the worker's alarm; what goes wrong is the reply: 550 what will not get
better, 450 what may. `carry_out` raises NotReleasable, OSError and StoreFailure.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Protocol

from amavispy.deadline import Deadline
from amavispy.delivery.edits import fields_octets
from amavispy.delivery.feedback import Chunks, Cover, attached, report
from amavispy.delivery.quarantine import StoreFailure, Transport
from amavispy.delivery.quarantined import Kept, NotReleasable, Vault
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
_ABUSE, _MISCATEGORIZED = "abuse", "miscategorized"
_NOTHING_TO_DO = Reply(250, "2.5.0", "No recipients, nothing to do")


@dataclass(frozen=True, slots=True)
class Errand:
    """What shall be released. `kind`: release, requeue or report; `sender` None and no `recipients` are the mail's own.

    `tag`: the partition of a copy in SQL, None is any.
    """

    kind: str
    mail_id: str
    mail_file: str = ""
    quar_type: str = ""
    tag: int | None = None
    recipients: tuple[str, ...] = ()
    sender: str | None = None
    requested_by: str = ""


class Ledger(Protocol):
    """Who has to know what was released."""

    def released(self, mail_id: str, recipients: Sequence[str]) -> None:
        """These have got it. Never raises but for the worker's alarm."""


class Release:
    """Serves release, requeue and report requests. `verify_secret(mail_id, secret_id)` knows the right pairs."""

    def __init__(
        self,
        transport: Transport,
        vault: Vault,
        verify_secret: Callable[[str, str], bool],
        ledgers: Sequence[Ledger] = (),
    ) -> None:
        self._transport = transport
        self._vault = vault
        self._verify = verify_secret
        self._ledgers = ledgers

    def handle(self, request: Request, bank: PolicyBank, deadline: Deadline) -> list[Reply]:
        """Serve the request: one reply a recipient, or a single one when it comes to none."""
        try:
            errand = self._permitted(request, bank.settings)
            return [reply for _, reply in self.carry_out(errand, bank.settings, deadline)] or [_NOTHING_TO_DO]
        except NotReleasable as error:
            _log.warning("release of %s refused: %s", _shown(request.one("mail_id")), _shown(str(error)))
            return [Reply(550, "5.5.0", f"ERROR: {error}")]
        except (OSError, StoreFailure) as error:
            if isinstance(error, OSError) and error.errno is None:  # the worker's alarm
                raise
            _log.error("release of %s FAILED: %s", _shown(request.one("mail_id")), error)
            return [Reply(450, "4.5.0", f"ERROR: {getattr(error, 'strerror', None) or error}")]

    def carry_out(self, errand: Errand, settings: Settings, deadline: Deadline) -> list[tuple[str, Reply]]:
        """Every recipient with what the next hop said; [] when nobody is left to get it."""
        kept = self._vault.find(errand.mail_id, errand.mail_file, errand.quar_type, errand.tag)
        recipients = errand.recipients or kept.blocked
        sender = kept.sender if errand.sender is None else errand.sender
        is_report = errand.kind == "report"
        _log.log(
            _NOTICE, "Quarantined message %s (%s): %s <%s> -> %s",
            errand.kind, _ABUSE if is_report else _MISCATEGORIZED, errand.mail_id, _shown(sender),
            ",".join(f"<{_shown(recipient)}>" for recipient in recipients),
        )  # fmt: skip
        if not recipients:
            return []
        new_id = new_mail_id()
        form = settings.report_format if is_report else settings.release_format
        chunks = _chunks(form, kept, recipients, errand, f"{errand.mail_id}-{new_id}", settings)
        submission = _submission(settings.mailfrom_notify_sender if is_report else sender, recipients, chunks, kept)
        next_hops = _next_hops(errand.kind, settings)
        handovers = self._transport.send(next_hops, submission, settings, deadline, f"rel-{new_id}")
        answers = [(recipient, h.reply) for recipient, h in zip(recipients, handovers, strict=True)]
        if not is_report:
            self._tell(errand.mail_id, [recipient for recipient, reply in answers if reply.is_success])
        return answers

    def _tell(self, mail_id: str, recipients: Sequence[str]) -> None:
        for ledger in self._ledgers if recipients else ():
            ledger.released(mail_id, recipients)

    def _permitted(self, request: Request, settings: Settings) -> Errand:
        """What this request may release."""
        mail_id, secret_id = request.one("mail_id"), request.one("secret_id")
        if not _MAIL_ID.fullmatch(mail_id):
            raise NotReleasable(f"Invalid mail_id '{mail_id[:100]}'" if mail_id else "Missing 'mail_id' field")
        if not secret_id and settings.auth_required_release:
            raise NotReleasable("Secret_id is required, but missing")
        if secret_id and not self._verify(mail_id, secret_id):
            raise NotReleasable(f"Secret_id {secret_id[:40]} does not match mail_id {mail_id}")
        tag = request.one("partition_tag")
        if tag and not (tag.isascii() and tag.isdigit() and len(tag) < 10):
            raise NotReleasable(f"Invalid partition_tag '{tag[:20]}'")
        return Errand(
            request.one("request").lower(),
            mail_id,
            request.one("mail_file"),
            request.one("quar_type"),
            int(tag) if tag else None,
            _addresses(request, "recipient"),
            next(iter(_addresses(request, "sender")), None),
            next(iter(_addresses(request, "requested_by")), ""),
        )


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


def _chunks(
    form: str, kept: Kept, recipients: tuple[str, ...], errand: Errand, unique: str, settings: Settings
) -> Chunks:
    """The mail in this form. `unique` is for its Message-ID."""
    message_id, boundary = f"<{unique}@{settings.myhostname}>", f"----------=_{unique}"
    cover = Cover(_filter_address(settings), recipients, message_id, boundary)
    match form:
        case "arf":
            return report(kept, cover, _ABUSE if errand.kind == "report" else _MISCATEGORIZED)
        case "attach":
            return attached(kept, cover)
        case _:
            return _resent(kept, recipients, errand.requested_by, unique, settings)


def _resent(kept: Kept, recipients: tuple[str, ...], by: str, unique: str, settings: Settings) -> Chunks:
    """The original mail behind the trace of its release."""
    now = format_datetime(datetime.now().astimezone())
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
    return [fields_octets(fields), kept.original]


def _shown(text: str) -> str:
    """Fit for a log line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02X}" for c in text[:320])

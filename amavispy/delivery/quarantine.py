"""Quarantine - a durable copy of what is blocked, suspicious or archived, before anything is given up.

In: the Message and its Disposition, which names method and address for each recipient. Out: where the copies are, as
logs and releases name them ("v/virus-vXDKQev4vYKO"). One copy a method, however many recipients it is kept for:

    local:TEMPLATE      a file below quarantinedir, or a mail by notify_method when the address has an "@"
    maildir:DIRECTORY   a file in a Maildir below quarantinedir
    mbox:FILE           at the end of an mbox below quarantinedir
    bsmtp:TEMPLATE      a file of SMTP commands below quarantinedir
    sql:                chunks in amavis' table `quarantine`
    smtp:, lmtp:        a mail to the address

What can be taken back is done first. Behind the copies the index learns of them; its failure is its own.

**Failures:** TemporaryFailure, 452 4.3.1 when the disk is full, 451 4.5.0 otherwise. Copies already made for this mail
are taken back, as far as they can be; the client still has the mail.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from amavispy.deadline import Deadline
from amavispy.delivery.quarantine_files import QuarantineFiles
from amavispy.delivery.quarantine_text import Original
from amavispy.delivery.transports import Handover, Submission
from amavispy.mail.disposition import Disposition
from amavispy.mail.envelope import Recipient
from amavispy.mail.message import Message
from amavispy.mail.next_hop import NextHop
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.policy.bank import PolicyBank
from amavispy.policy.partition import partition_of
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.quarantine")
_NEVER = frozenset(("NEVER",))
_FILES = ("local", "maildir", "bsmtp", "mbox")  # in this order: an mbox cannot be taken back
_ORDER = {"local": 0, "maildir": 1, "bsmtp": 2, "sql": 3, "mbox": 4}


class Transport(Protocol):
    """What sends a copy away; SmtpTransport is one."""

    def send(
        self,
        next_hops: tuple[NextHop, ...],
        submission: Submission,
        settings: Settings,
        deadline: Deadline,
        log_id: str,
    ) -> tuple[Handover, ...]: ...


class Store(Protocol):
    """A database that keeps copies; SqlQuarantine is one."""

    def keep(self, original: Original, undo: ExitStack) -> KeptCopy:
        """Keep one copy, durably. Raises StoreFailure."""


class Index(Protocol):
    """What knows all kept mails; QuarantineIndex is one."""

    def add(self, original: Original, copies: Sequence[KeptCopy]) -> None:
        """Remember a mail. Never raises but for the worker's alarm."""


class StoreFailure(Exception):
    """A database cannot keep or give a copy now; the text is for the log and the client."""


@dataclass(frozen=True, slots=True)
class _Target:
    """One delivery of copies: its method and the addresses or names it is kept for, each once."""

    method: str
    is_archive: bool
    names: list[str]

    @property
    def scheme(self) -> str:
        return self.method.partition(":")[0]


class Quarantine:
    """Keeps copies: files below `quarantinedir`, mails by `transport`, chunks in `store`; `index` knows all of them."""

    def __init__(
        self,
        quarantinedir: str,
        subdir_levels: int = 1,
        transport: Transport | None = None,
        store: Store | None = None,
        index: Index | None = None,
    ) -> None:
        self._files = QuarantineFiles(quarantinedir, subdir_levels)
        self._transport = transport
        self._store = store
        self._index = index

    def keep(
        self, message: Message, disposition: Disposition, bank: PolicyBank, deadline: Deadline | None = None
    ) -> tuple[KeptCopy, ...]:
        """Keep what the disposition wants kept; the copies, () when nothing is. Raises TemporaryFailure."""
        if not any(recipient.quarantine for recipient in disposition.recipients):
            return ()
        tag = partition_of(bank.settings.partition_tag, message.received_at)
        original = Original(message, disposition, tag)
        deadline = deadline or Deadline.after(bank.settings.child_timeout)
        try:
            with ExitStack() as undo:
                copies = tuple(self._copies(original, bank.settings, deadline, undo))
                undo.pop_all()
        except OSError as error:
            if error.errno is None:  # the worker's alarm
                raise
            raise _failure(message, error) from error
        except StoreFailure as error:
            raise _refusal(message, str(error)) from error
        if self._index:
            self._index.add(original, copies)
        return copies

    def _copies(
        self, original: Original, settings: Settings, deadline: Deadline, undo: ExitStack
    ) -> Iterator[KeptCopy]:
        for target in _targets(original.disposition):
            names = target.names
            if target.scheme == "local":
                names = [name for name in names if "@" not in name]
                if mailed := [name for name in target.names if "@" in name]:
                    yield from self._send(original, target, mailed, settings, deadline)
            if target.scheme in _FILES and names:
                copy = self._files.keep(original, target.method, names, undo)
                yield KeptCopy(copy.kind, copy.location, target.is_archive)
            elif target.scheme == "sql":
                yield self._stored(original, target, undo)
            elif target.scheme not in _FILES:
                yield from self._send(original, target, names, settings, deadline)

    def _stored(self, original: Original, target: _Target, undo: ExitStack) -> KeptCopy:
        if self._store is None:
            raise StoreFailure("no database (storage_sql_dsn) to keep it in")
        copy = self._store.keep(original, undo)
        return KeptCopy(copy.kind, copy.location, target.is_archive)

    # --- mail

    def _send(
        self, original: Original, target: _Target, addresses: list[str], settings: Settings, deadline: Deadline
    ) -> Iterator[KeptCopy]:
        """Hand the copy to mailboxes, by the method's own next hop or, for local:, by notify_method."""
        message = original.message
        if self._transport is None:
            raise _refusal(message, "no transport for quarantine mail")
        next_hops = _next_hops(message, target.method, settings)
        handovers = self._transport.send(
            next_hops, _submission(original, addresses, settings), settings, deadline.share(), message.ids.log_id
        )
        if refused := next((h for h in handovers if not h.reply.is_success), None):
            raise _refusal(message, str(refused.reply))
        kind = "L" if next_hops[0].protocol == "lmtp" else "M"
        yield from (KeptCopy(kind, address, target.is_archive) for address in addresses)


def _submission(original: Original, addresses: Sequence[str], settings: Settings) -> Submission:
    envelope = original.message.envelope
    sender = settings.mailfrom_to_quarantine or envelope.sender
    return Submission(
        "" if sender == "<>" else sender,
        tuple(Recipient(address, _NEVER) for address in addresses),
        [original.header().replace(b"\n", b"\r\n"), original.message.content.octets],
        body=envelope.body,
        smtputf8=envelope.smtputf8,
    )


def _targets(disposition: Disposition) -> list[_Target]:
    """What is to be kept how, in the recipients' order, and what cannot be taken back last."""
    targets: dict[tuple[str, bool], _Target] = {}
    for recipient in disposition.recipients:
        for wanted in recipient.quarantine:
            key = (wanted.method, wanted.is_archive)
            target = targets.setdefault(key, _Target(*key, []))
            if wanted.to not in target.names:
                target.names.append(wanted.to)
    return sorted(targets.values(), key=lambda target: _ORDER.get(target.scheme, len(_ORDER)))


def _next_hops(message: Message, method: str, settings: Settings) -> tuple[NextHop, ...]:
    if method.startswith("local:"):
        if not settings.notify_method:
            raise _refusal(message, "no notify_method to send it by")
        return settings.notify_method
    try:
        return (NextHop.parse(method),)
    except ValueError as error:
        raise _refusal(message, f"quarantine method {method}: {error}") from error


# --- failures


def _failure(message: Message, error: OSError) -> TemporaryFailure:
    _log.error("quarantine FAILED: %s", error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        text = f"Error in processing, id={message.ids.log_id}, quarantine FAILED: insufficient storage"
        return TemporaryFailure(Reply(452, "4.3.1", text))
    return _refusal(message, error.strerror or "I/O error")


def _refusal(message: Message, why: str) -> TemporaryFailure:
    return TemporaryFailure(
        Reply(451, "4.5.0", f"Error in processing, id={message.ids.log_id}, quarantine FAILED: {why}")
    )

"""Quarantine - a durable copy of what is blocked or suspicious, before anything is given up.

In: the Message and its Disposition, which names method and address for each recipient. Out: where the copies are,
relative to quarantinedir, as logs and releases name them ("v/virus-vXDKQev4vYKO"). One copy a method, however many
recipients it is kept for. It is written as amavis does, so that release tools of both read it: pseudo header fields,
the verdict, the original; LF line ends; mode 0640; ".gz" compresses.

A copy is there or not, never half: written under a temporary name, synced, linked to its name without overwriting
anything, the directory synced. `smtp:` and `lmtp:` methods, and addresses with "@", hand the copy to a transport.

Failures: TemporaryFailure, 452 4.3.1 when the disk is full, 451 4.5.0 otherwise. Copies already written for this mail
are taken back; the client still has the mail.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from amavispy.deadline import Deadline
from amavispy.delivery.edits import fields_octets
from amavispy.delivery.transports import Handover, Submission
from amavispy.mail.disposition import Disposition, RecipientDisposition
from amavispy.mail.envelope import Recipient
from amavispy.mail.message import Message
from amavispy.mail.next_hop import NextHop
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.quarantine")
_VARIABLE = re.compile(r"%(.)", re.S)
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), 127)}
_CHUNK = 1 << 20
_NAMES_TRIED = 20
_NEVER = frozenset(("NEVER",))
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # file systems without hard links


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


class Quarantine:
    """Keeps copies below `quarantinedir`; from `subdir_levels` 1 on in directories named by mail_id's first letter."""

    def __init__(self, quarantinedir: str, subdir_levels: int = 1, transport: Transport | None = None) -> None:
        self._directory = Path(quarantinedir)
        self._subdir_levels = subdir_levels
        self._transport = transport

    def keep(
        self, message: Message, disposition: Disposition, bank: PolicyBank, deadline: Deadline | None = None
    ) -> tuple[str, ...]:
        """Keep what the disposition wants kept; the locations, () when nothing is. Raises TemporaryFailure."""
        if not any(recipient.quarantine for recipient in disposition.recipients):
            return ()
        written: list[Path] = []
        try:
            return tuple(self._keep_all(message, disposition, bank, deadline, written))
        except OSError as error:
            _take_back(written)
            raise _failure(message, error) from error
        except TemporaryFailure:
            _take_back(written)
            raise

    def _keep_all(
        self,
        message: Message,
        disposition: Disposition,
        bank: PolicyBank,
        deadline: Deadline | None,
        written: list[Path],
    ) -> Iterator[str]:
        for method, names in _targets(disposition).items():
            local = [name for name in names if "@" not in name] if method.startswith("local:") else []
            if local:
                path = self._write(message, method.removeprefix("local:"), _header(message, disposition, local))
                written.append(path)
                yield str(path.relative_to(self._directory))
            for name in names:
                if name not in local:
                    self._send(message, disposition, bank, method, name, deadline)
                    yield name

    # --- files

    def _write(self, message: Message, template: str, header: bytes) -> Path:
        """The copy, durable, under the template's name; a name that is taken gets a number."""
        directory = self._directory_of(message.ids.mail_id)
        name = _name(message, template)
        temporary = directory / f".{message.ids.mail_id}.tmp"
        try:
            _write_file(temporary, message, header, compresses=name.endswith(".gz"))
            path = _named(temporary, directory, name)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_directory(directory)
        return path

    def _directory_of(self, mail_id: str) -> Path:
        if not self._subdir_levels:
            return self._directory
        directory = self._directory / mail_id[0]
        try:
            directory.mkdir(mode=0o750)
        except FileExistsError:
            return directory
        _sync_directory(self._directory)
        return directory

    # --- mail

    def _send(
        self,
        message: Message,
        disposition: Disposition,
        bank: PolicyBank,
        method: str,
        address: str,
        deadline: Deadline | None,
    ) -> None:
        """Hand the copy to a mailbox, by the method's own next hop or, for local:, by notify_method."""
        settings = bank.settings
        if self._transport is None:
            raise _refusal(message, "no transport for quarantine mail")
        octets = message.content.octets
        submission = Submission(
            message.envelope.sender,
            (Recipient(address, _NEVER),),
            [_header(message, disposition, []).replace(b"\n", b"\r\n"), octets],
            body=message.envelope.body,
            smtputf8=message.envelope.smtputf8,
        )
        (handover,) = self._transport.send(
            _next_hops(message, method, settings),
            submission,
            settings,
            (deadline or Deadline.after(settings.child_timeout)).share(),
            message.ids.log_id,
        )
        if not handover.reply.is_success:
            raise _refusal(message, str(handover.reply))


def _targets(disposition: Disposition) -> dict[str, list[str]]:
    """Method -> the addresses or names it is kept for, each once, in the recipients' order."""
    targets: dict[str, list[str]] = {}
    for recipient in disposition.recipients:
        for target in recipient.quarantine:
            names = targets.setdefault(target.method, [])
            if target.to not in names:
                names.append(target.to)
    return targets


def _next_hops(message: Message, method: str, settings: Settings) -> tuple[NextHop, ...]:
    if method.startswith("local:"):
        return settings.notify_method
    try:
        return (NextHop.parse(method),)
    except ValueError as error:
        raise _refusal(message, f"quarantine method {method}: {error}") from error


# --- the copy's text


def _header(message: Message, disposition: Disposition, names: list[str]) -> bytes:
    """The pseudo header fields, most recent first, with LF line ends."""
    blocked = [r for r in disposition.recipients if r.blocking]
    sender = _path(message.envelope.sender)
    fields = [
        ("Return-Path", sender),
        *(("Delivered-To", name) for name in names),
        ("X-Envelope-From", sender),
        ("X-Envelope-To", _paths(disposition.recipients)),
        ("X-Envelope-To-Blocked", _paths(blocked)),
        ("X-Quarantine-ID", f"<{message.ids.mail_id}>"),
        *disposition.quarantine_fields,
    ]
    return fields_octets(tuple(fields), "\n")


def _path(address: str) -> str:
    return f"<{address.translate(_CONTROLS)}>"


def _paths(recipients: list[RecipientDisposition] | tuple[RecipientDisposition, ...]) -> str:
    """`<a@x>, <b@x>`; a line for each, as a thousand of them on one would break RFC 5322 2.1.1."""
    paths = [_path(recipient.recipient.address) for recipient in recipients]
    return (",\n " if len(paths) > 2 else ", ").join(paths)


def _name(message: Message, template: str) -> str:
    """The file name: %m mail_id, %n log id, %i local time, %b digest of the body, %P partition tag (none), %%."""
    expanded = _VARIABLE.sub(lambda match: _variable(message, match[1]), template)
    return expanded.replace("/", "_").lstrip(".") or message.ids.mail_id  # never a path, never hidden


def _variable(message: Message, letter: str) -> str:
    match letter:
        case "m":
            return message.ids.mail_id
        case "n":
            return message.ids.log_id
        case "i":
            return message.received_at.strftime("%Y%m%dT%H%M%S")
        case "b":
            return _body_digest(message)
        case "P":
            return ""
        case "%":
            return "%"
        case _:
            return f"%{letter}"


def _body_digest(message: Message) -> str:
    """amavis' body digest; it names, it does not protect."""
    digest = hashlib.md5(usedforsecurity=False)
    view = memoryview(message.content.octets)[message.content.body_start :]
    digest.update(view)
    view.release()
    return digest.hexdigest()


# --- writing


def _write_file(path: Path, message: Message, header: bytes, *, compresses: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o640)
        if compresses:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                _write_text(cast("BinaryIO", packed), message, header)
        else:
            _write_text(file, message, header)
        file.flush()
        os.fsync(descriptor)


def _write_text(file: BinaryIO, message: Message, header: bytes) -> None:
    """Header and original with LF line ends, a piece at a time."""
    file.write(header)
    octets = message.content.octets
    start, size = 0, len(octets)
    while start < size:
        end = start + _CHUNK
        if octets[end - 1 : end] == b"\r":  # a CRLF must not be cut in two
            end += 1
        file.write(octets[start:end].replace(b"\r\n", b"\n"))
        start = end


def _named(temporary: Path, directory: Path, name: str) -> Path:
    """Give the file its name, which must not exist: nobody's evidence is ever overwritten."""
    stem, ending = (name[:-3], ".gz") if name.endswith(".gz") else (name, "")
    for number in range(_NAMES_TRIED):
        path = directory / (f"{stem}-{number}{ending}" if number else name)
        try:
            _link(temporary, path)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640))  # ours from here on
        temporary.replace(path)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_back(written: list[Path]) -> None:
    """The client keeps the mail and comes again: what was written would only be a double."""
    for path in written:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("cannot remove %s: %s", path, error)


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

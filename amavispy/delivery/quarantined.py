"""Quarantined - a kept mail found again: its file opened, unpacked, and its pseudo header read.

In: a mail_id and perhaps a file's name, both from a stranger. Out: envelope and octets of the mail, CRLF line ends.
Files written by amavis are read as well as ours: plain or .gz, BSMTP, one mail of an mbox; copies in SQL likewise.
Names that are not the usual ones are looked up in the index.

The file is opened from the quarantine's directory downwards, no component of its path may be a link, and it must be a
regular file that says itself which mail it is. Envelope fields are believed only above X-Quarantine-ID: below it the
mail's own header begins sooner or later, and its sender could have written them.

**Failures:** NotReleasable, whose text may be shown to the client; OSError and StoreFailure when the file system or the
database fails.
"""

from __future__ import annotations

import errno
import gzip
import os
import re
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import BinaryIO, Protocol

from amavispy.mail.headers import HeaderField, Headers
from amavispy.mail.outcome import KeptCopy

ANY = "*"  # stands for whatever mail_id a copy bears
SIZE_LIMIT = 256 * 1_048_576
_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9/_.+-]{0,254}")
_PREFIXES = ("", "virus-", "spam-", "banned-", "badh-", "unchecked-", "clean-", "archive-")
_PATH = re.compile(r'<((?:"(?:[^"\\]|\\.)*"|[^<>"])*)>')
_SENDER_FIELDS = (b"return-path", b"x-envelope-from")
_ENVELOPE_FIELDS = (*_SENDER_FIELDS, b"delivered-to", b"x-envelope-to", b"x-envelope-to-blocked")
_VERDICT_FIELD = re.compile(
    rb"x-spam-.+|x-crm114-.+|x-amavis-(?:hold|alert|modified|penpals|policybank|os-fingerprint)", re.I
)
_BSMTP = re.compile(rb"(?:EHLO|HELO|LHLO|MAIL) ", re.I)
_MBOX_MAIL = re.compile(rb"^From ", re.M)
_MBOX_QUOTED = re.compile(rb"^>(>*From )", re.M)
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)  # ELOOP: a link, which is as good as nothing
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotReleasable(Exception):
    """The request names no mail that can be taken out of the quarantine."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A mail from the quarantine, `octets` with pseudo header.

    `verdict_at` and `mail_at` are offsets: behind the envelope's pseudo fields, and behind the verdict's (X-Spam-*,
    X-Amavis-*). `blocked`: the recipients who did not get it, all of them (`recipients`) when the file does not say.
    """

    mail_id: str
    octets: bytes
    verdict_at: int
    mail_at: int
    sender: str
    recipients: tuple[str, ...]
    blocked: tuple[str, ...]

    @property
    def original(self) -> memoryview:
        """The mail as it came in."""
        return memoryview(self.octets)[self.mail_at :]


class Store(Protocol):
    """A database that has copies; SqlQuarantine is one."""

    def fetch(self, mail_id: str, tag: int | None = None) -> bytes | None:
        """The copy with LF line ends, None when there is none. Raises StoreFailure."""


class Locator(Protocol):
    """What knows where copies are; QuarantineIndex is one."""

    def copies_of(self, mail_id: str) -> Sequence[KeptCopy]:
        """The copies of a mail, () when it is not known. Never raises but for the worker's alarm."""


class Vault:
    """The quarantine, for those who take mail out of it: files below `directory`, copies in `store`."""

    def __init__(self, directory: str, store: Store | None = None, locator: Locator | None = None) -> None:
        self._directory = directory
        self._store = store
        self._locator = locator

    def find(self, mail_id: str, mail_file: str = "", quar_type: str = "", tag: int | None = None) -> Kept:
        """The mail of this id.

        `mail_file` is relative to the directory; without one, the usual names are tried. `quar_type`: F, Z, B files, Q
        SQL, "" wherever it is. `tag`: its partition in SQL.
        """
        if quar_type not in ("", "F", "Z", "B", "Q"):
            raise NotReleasable(f"quarantine type {quar_type[:10]} is not kept here, only F, Z, B and Q are")
        octets = None
        if quar_type != "Q":
            octets = self._from_file(mail_id, _candidates(mail_id, mail_file))
        if octets is None and quar_type in ("", "Q") and self._store:
            octets = self._store.fetch(mail_id, tag)
        if octets is None and tag is None and self._locator:
            octets = self._located(mail_id, self._locator.copies_of(mail_id))
        if octets is None:
            raise NotReleasable(f"no quarantined message {mail_file or mail_id}")
        return kept_mail(octets, mail_id)

    def copy(self, mail_id: str, copy: KeptCopy) -> Kept | None:
        """The mail from this copy, None when it is not there."""
        octets = self._located(mail_id, (copy,))
        return None if octets is None else kept_mail(octets, mail_id)

    def _located(self, mail_id: str, copies: Sequence[KeptCopy]) -> bytes | None:
        for copy in copies:
            octets = None
            if copy.kind in ("F", "Z", "B") and is_safe(copy.location):
                octets = self._from_file(mail_id, (copy.location,))
            elif copy.kind == "Q" and self._store:
                tag = copy.location.partition("[")[2].rstrip("]")
                octets = self._store.fetch(mail_id, int(tag) if tag.isdigit() else 0)
            if octets is not None:
                return octets
        return None

    def _from_file(self, mail_id: str, candidates: Iterable[str]) -> bytes | None:
        file = _first_there(self._directory, candidates)
        if file is None:
            return None
        with file:
            return unwrapped(content_of(file), mail_id)


def kept_mail(octets: bytes, mail_id: str) -> Kept:
    """The mail that a copy holds. Raises NotReleasable when it is another one."""
    return _read(octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), mail_id)


def _candidates(mail_id: str, mail_file: str) -> Iterable[str]:
    """The name as given, also in the subdirectory of its first letter; for a bare id, all names it may have."""
    if mail_file and (not _FILE_NAME.fullmatch(mail_file) or not is_safe(mail_file)):
        raise NotReleasable(f"Unsafe filename '{mail_file[:100]}'")
    if mail_file and mail_file != mail_id:
        return [mail_file] if "/" in mail_file else [mail_file, f"{mail_id[0]}/{mail_file}"]
    places = product((f"{mail_id[0]}/", ""), _PREFIXES, ("", ".gz"))
    return [f"{place}{prefix}{mail_id}{ending}" for place, prefix, ending in places]


def is_safe(path: str) -> bool:
    """Whether a path leads downwards only."""
    return not any(name in ("", ".", "..") for name in path.split("/"))


def _first_there(directory: str, candidates: Iterable[str]) -> BinaryIO | None:
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for path in candidates:
            try:
                return _opened(root, path)
            except OSError as error:
                if error.errno not in _NOT_THERE:
                    raise
    finally:
        os.close(root)
    return None


def _opened(root: int, path: str) -> BinaryIO:
    """The regular file at this path below `root`, no link followed on the way."""
    *directories, name = path.split("/")
    opened = [root]
    try:
        for part in directories:
            opened.append(os.open(part, _OPEN | os.O_DIRECTORY, dir_fd=opened[-1]))
        descriptor = os.open(name, _OPEN | os.O_NONBLOCK, dir_fd=opened[-1])
    finally:
        for directory in opened[1:]:
            os.close(directory)
    file = os.fdopen(descriptor, "rb") if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    if file is None:
        os.close(descriptor)
        raise NotReleasable(f"File {path} is not a plain file")
    return file


def content_of(file: BinaryIO) -> bytes:
    """What is in the file, unpacked. Raises NotReleasable."""
    is_packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    try:
        octets = (gzip.GzipFile(fileobj=file) if is_packed else file).read(SIZE_LIMIT + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise NotReleasable(f"damaged: {error}") from error
    if len(octets) > SIZE_LIMIT:
        raise NotReleasable(f"larger than {SIZE_LIMIT} octets")
    return octets


# --- what is wrapped around it


def unwrapped(octets: bytes, mail_id: str) -> bytes:
    """The mail of this id out of BSMTP commands or an mbox; anything else is a mail itself."""
    if _BSMTP.match(octets):
        return _from_bsmtp(octets)
    return _from_mbox(octets, mail_id) if octets.startswith(b"From ") else octets


def _from_bsmtp(octets: bytes) -> bytes:
    octets = octets.replace(b"\r\n", b"\n")
    start = octets.find(b"\nDATA\n")
    end = octets.find(b"\n.\n", start)
    if start < 0 or end < 0:
        raise NotReleasable("damaged: no DATA with an end")
    return octets[start + len(b"\nDATA") : end + 1].replace(b"\n..", b"\n.")[1:]


def _from_mbox(octets: bytes, mail_id: str) -> bytes:
    """The mail whose header bears the id."""
    needle = f"\nX-Quarantine-ID: <{mail_id}>\n".encode()
    for mail in mails_of_mbox(octets):
        header_end = mail.find(b"\n\n")
        if mail.find(needle, 0, header_end + 1 if header_end >= 0 else len(mail)) >= 0:
            return mail
    raise NotReleasable(f"no quarantined message {mail_id} in this mailbox")


def mails_of_mbox(octets: bytes) -> Iterator[bytes]:
    """All mails of an mbox, as mboxrd quotes them."""
    starts = [match.start() for match in _MBOX_MAIL.finditer(octets)]
    for start, end in zip(starts, [*starts[1:], len(octets)], strict=True):
        mail = octets[octets.index(b"\n", start) + 1 : end]
        yield _MBOX_QUOTED.sub(rb"\1", mail.removesuffix(b"\n"))


# --- the pseudo header


def _read(octets: bytes, mail_id: str) -> Kept:
    fields = Headers.parse(octets).fields
    envelope: dict[bytes, HeaderField] = {}
    at = 0
    while at < len(fields) and fields[at].name.lower() in _ENVELOPE_FIELDS:
        envelope.setdefault(fields[at].name.lower(), fields[at])
        at += 1
    found = _text(fields[at]).strip("<>") if at < len(fields) and fields[at].name.lower() == b"x-quarantine-id" else ""
    if found != mail_id and not (found and mail_id == ANY):
        what = f"Stored quarantine ID '{found}'" if found else "It has no X-Quarantine-ID and"
        raise NotReleasable(f"{what} does not match requested ID '{mail_id}'")
    verdict_at = fields[at].end
    at += 1
    while at < len(fields) and _VERDICT_FIELD.fullmatch(fields[at].name):
        at += 1
    mail_at = fields[at - 1].end
    everybody = _paths(envelope.get(b"x-envelope-to"))
    blocked = _paths(envelope[b"x-envelope-to-blocked"]) if b"x-envelope-to-blocked" in envelope else everybody
    return Kept(found, octets, verdict_at, mail_at, _sender(envelope), everybody, blocked)


def _sender(envelope: dict[bytes, HeaderField]) -> str:
    paths = [path for name in _SENDER_FIELDS for path in _paths(envelope.get(name))]
    if not paths:
        raise NotReleasable("missing X-Envelope-From or Return-Path")
    return paths[0]


def _paths(field: HeaderField | None) -> tuple[str, ...]:
    return tuple(_PATH.findall(_text(field))) if field else ()


def _text(field: HeaderField) -> str:
    return field.value.decode("utf-8", "surrogateescape")

"""Quarantine scan - what is in the quarantine, read from the copies themselves: how an index is made again.

In: the quarantine's directory and database. Out: a KeptMail for every mail that says which it is, ours or amavis' own.
A copy tells most of what the index knows; its category is told by its name or by the fields of the verdict.

**Failures:** a file that cannot be read or is no kept mail is passed over, with a line in the log.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from amavispy.delivery.quarantine_index import ARCHIVE, KeptFor, KeptMail
from amavispy.delivery.quarantine_text import location_in_sql
from amavispy.delivery.quarantined import ANY, Kept, NotReleasable, content_of, kept_mail, mails_of_mbox, unwrapped
from amavispy.mail.header_text import printable, readable
from amavispy.mail.headers import Headers
from amavispy.mail.outcome import KeptCopy

_log = logging.getLogger("amavispy.quarantine")
_NAME = re.compile(r"(?:^|[/_.-])(virus|banned|unchecked|spam|badh|clean|archive)(?=[^a-z]|$)")
_BY_NAME = {"badh": "bad_header"}
_ALERTS = ((b"INFECTED,", "virus"), (b"BANNED,", "banned"), (b"BAD HEADER", "bad_header"))
_NOT_MAIL = re.compile(r"^\.|\.(?:db|db-wal|db-shm|tmp|lock)$")


class Store(Protocol):
    """A database that has copies; SqlQuarantine is one."""

    def keys(self) -> list[tuple[str, int]]: ...

    def fetch(self, mail_id: str, tag: int | None = None) -> bytes | None: ...

    def received_at(self, mail_id: str, tag: int) -> int | None: ...


def files_below(directory: str) -> list[str]:
    """The paths of all files that may hold kept mail, relative to the directory. Links are not followed."""
    found = []
    for place, directories, names in os.walk(directory):
        directories[:] = [name for name in directories if not name.startswith(".") and name != "tmp"]
        found += [os.path.relpath(f"{place}/{name}", directory) for name in names if not _NOT_MAIL.search(name)]
    return sorted(found)


def mails_in_file(directory: str, location: str, host: str) -> Iterator[KeptMail]:
    """The mails that this file holds: one, or all of an mbox."""
    path = Path(directory, location)
    try:
        status = path.lstat()
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            octets = content_of(file)
    except (OSError, NotReleasable) as error:
        _log.warning("reindex: %s: %s", location, error)
        return
    kind = "Z" if location.endswith(".gz") else "F"
    if octets.startswith(b"From "):
        mails = list(mails_of_mbox(octets))
    else:
        kind = "B" if not octets.startswith(b"Return-Path") and b"\nDATA" in octets[:65_536] else kind
        mails = [octets]
    for mail in mails:
        try:
            kept = kept_mail(unwrapped(mail, ANY), ANY)
        except NotReleasable as error:
            _log.warning("reindex: %s: %s", location, error)
            continue
        yield described(kept, KeptCopy(kind, location), int(status.st_mtime), host)


def mail_in_store(store: Store, mail_id: str, tag: int, host: str) -> KeptMail | None:
    """The mail of this key; None when it is gone or no kept mail. Raises StoreFailure."""
    octets = store.fetch(mail_id, tag)
    if octets is None:
        return None
    try:
        kept = kept_mail(octets, mail_id)
    except NotReleasable as error:
        _log.warning("reindex: %s in SQL: %s", mail_id, error)
        return None
    received_at = store.received_at(mail_id, tag) or 0
    return described(kept, KeptCopy("Q", location_in_sql(mail_id, tag)), received_at, host, tag)


def described(kept: Kept, copy: KeptCopy, received_at: int, host: str, tag: int = 0) -> KeptMail:
    """What the index knows of a mail, as far as a copy tells."""
    headers = Headers.parse(kept.octets[kept.mail_at :])
    category = _category(kept, copy.location)
    return KeptMail(
        kept.mail_id,
        tag,
        host,
        received_at,
        category,
        printable(kept.sender, 320),
        readable(headers.first(b"subject")),
        readable(headers.first(b"from")),
        readable(headers.first(b"message-id")),
        len(kept.octets) - kept.mail_at,
        _score(kept),
        (KeptCopy(copy.kind, copy.location, category == ARCHIVE),),
        tuple(KeptFor(printable(address, 320), address in kept.blocked) for address in kept.recipients),
    )


def _category(kept: Kept, location: str) -> str:
    if named := _NAME.search(location):
        return _BY_NAME.get(named[1], named[1])
    verdict = kept.octets[kept.verdict_at : kept.mail_at]
    for mark, category in _ALERTS:
        if b"X-Amavis-Alert: " + mark in verdict:
            return category
    if b"X-Amavis-Hold:" in verdict:
        return "unchecked"
    return "spam" if b"X-Spam-Flag: YES" in verdict else "clean"


def _score(kept: Kept) -> float | None:
    found = re.search(rb"^X-Spam-Status:[^\r\n]*\bscore=(-?\d+(?:\.\d+)?)", kept.octets[: kept.mail_at], re.M)
    return float(found[1]) if found else None

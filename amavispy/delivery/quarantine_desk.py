"""Quarantine desk - what people do with kept mail: find it, look at it, release it, delete it, let it expire.

Put together of the index, the vault and the release of the daemon; nothing here talks to people. Deleting removes all
copies that can be removed: files that bear the mail's id, and chunks in SQL. What lies in an mbox or in somebody's
mailbox stays there, and is told.

**Failures:** IndexFailure, StoreFailure, NotReleasable and OSError, as they come; each says in one line what is wrong.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from amavispy.deadline import Deadline
from amavispy.delivery.quarantine_index import KeptMail, QuarantineIndex, Query
from amavispy.delivery.quarantine_scan import Store as ReadableStore
from amavispy.delivery.quarantine_scan import files_below, mail_in_store, mails_in_file
from amavispy.delivery.quarantined import Kept, NotReleasable, Vault, is_safe
from amavispy.delivery.release import Errand, Release
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.reply import Reply
from amavispy.policy.settings import Settings

_BATCH = 200
_GONE = (errno.ENOENT, errno.ENOTDIR)


class Store(ReadableStore, Protocol):
    """A database that has copies; SqlQuarantine is one."""

    def delete(self, mail_id: str, tag: int | None = None) -> bool: ...


@dataclass(frozen=True, slots=True)
class Places:
    """Where kept mail is. `host`: the name of this node."""

    directory: str
    index: QuarantineIndex
    vault: Vault
    store: Store | None = None
    host: str = ""


@dataclass(frozen=True, slots=True)
class Deleted:
    """What became of a mail. `left`: copies that are not ours to remove, or lie together with other mail."""

    mail_id: str
    left: tuple[KeptCopy, ...]


class QuarantineDesk:
    """All that `amavispy quarantine` does."""

    def __init__(self, places: Places, release: Release) -> None:
        self._places = places
        self._release = release

    def find(self, query: Query) -> tuple[KeptMail, ...]:
        return self._places.index.find(query)

    def get(self, mail_id: str) -> KeptMail:
        """What the index knows of a mail. Raises NotReleasable when it knows nothing."""
        mail = self._places.index.get(mail_id)
        if mail is None:
            raise NotReleasable(f"no kept mail {mail_id}; after files were moved here: amavispy quarantine reindex")
        return mail

    def open(self, mail_id: str) -> Kept:
        """The mail itself."""
        mail = self._places.index.get(mail_id)
        for copy in mail.copies if mail else ():
            if (kept := self._places.vault.copy(mail_id, copy)) is not None:
                return kept
        return self._places.vault.find(mail_id)

    def send(self, errand: Errand, settings: Settings) -> list[tuple[str, Reply]]:
        """Release, requeue or report it: what the next hop said for each recipient."""
        mail = self._places.index.get(errand.mail_id)
        if mail and not errand.mail_file:
            errand = _located(errand, mail.copies)
        return self._release.carry_out(errand, settings, Deadline.after(settings.child_timeout))

    def delete(self, mail: KeptMail) -> Deleted:
        """Remove its copies, then what the index knows."""
        left = tuple(copy for copy in mail.copies if not self._removed(mail, copy))
        self._places.index.remove([mail.mail_id])
        return Deleted(mail.mail_id, left)

    def _removed(self, mail: KeptMail, copy: KeptCopy) -> bool:
        """Whether the copy is gone now."""
        if copy.kind == "Q":
            if self._places.store is None:
                return False
            self._places.store.delete(mail.mail_id, mail.tag)
            return True
        return copy.kind in ("F", "Z", "B") and self._is_unlinked(mail.mail_id, copy)

    def _is_unlinked(self, mail_id: str, copy: KeptCopy) -> bool:
        """Remove a file that holds this mail and no other; one that is gone already is fine."""
        if not is_safe(copy.location):
            return False
        path = os.path.join(self._places.directory, copy.location)
        try:
            with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
                if file.read(5) == b"From ":
                    return False
            if self._places.vault.copy(mail_id, copy) is not None:
                os.unlink(path)
        except OSError as error:
            if error.errno not in _GONE:
                raise
        return True

    def expired(self, lifetimes: Mapping[str, float], limits: Mapping[str, int], now: float) -> tuple[KeptMail, ...]:
        """What is older than its category may be, and the oldest of what is more than its category may have."""
        found: dict[str, KeptMail] = {}
        for category, seconds in lifetimes.items():
            query = Query(category=category, until=int(now - seconds) + 1, is_oldest_first=True)
            found |= {mail.mail_id: mail for mail in self.find(query)}
        for category, limit in limits.items():
            room = limit
            for mail in self.find(Query(category=category)):
                room -= mail.size
                if room < 0:
                    found[mail.mail_id] = mail
        return tuple(sorted(found.values(), key=lambda mail: mail.received_at))

    # --- making the index again

    def copies(self) -> list[str | tuple[str, int]]:
        """Everything that may be a copy: paths of files, keys in the database."""
        keys = self._places.store.keys() if self._places.store else []
        return [*files_below(self._places.directory), *keys]

    def reindex(self, copies: list[str | tuple[str, int]]) -> Iterator[int]:
        """Index these copies, and forget mails of this node that have none any more; yields how many were looked at.

        What the index knows beyond the copies (when a mail was released) stays.
        """
        seen: dict[str, KeptMail] = {}
        for number, copy in enumerate(copies, 1):
            for mail in self._described(copy):
                seen[mail.mail_id] = _joined(seen.get(mail.mail_id), mail)
            yield number
        known = {mail.mail_id: mail for mail in self.find(Query())}
        mails = [_with_memory(mail, known.get(mail.mail_id)) for mail in seen.values()]
        for start in range(0, len(mails), _BATCH):
            self._places.index.put(mails[start : start + _BATCH])
        self._places.index.remove([m.mail_id for m in known.values() if m.mail_id not in seen and self._is_lost(m)])

    def _described(self, copy: str | tuple[str, int]) -> Iterator[KeptMail]:
        places = self._places
        if isinstance(copy, str):
            yield from mails_in_file(places.directory, copy, places.host)
        elif places.store and (mail := mail_in_store(places.store, *copy, places.host)):
            yield mail

    def _is_lost(self, mail: KeptMail) -> bool:
        """Whether all its copies would have been seen: our own files, and those in the database that was read."""
        places = self._places
        has_files = mail.host == places.host
        return all(has_files if copy.kind in "FZB" else copy.kind == "Q" and places.store for copy in mail.copies)


def _located(errand: Errand, copies: tuple[KeptCopy, ...]) -> Errand:
    """The errand with the place of the first copy that can be read."""
    for copy in copies:
        if copy.kind in ("F", "Z", "B"):
            return replace(errand, mail_file=copy.location)
        if copy.kind == "Q":
            tag = copy.location.partition("[")[2].rstrip("]")
            return replace(errand, quar_type="Q", tag=int(tag) if tag.isdigit() else 0)
    kinds = {"M": "a mailbox", "L": "a mailbox"}
    where = ", ".join(f"{kinds.get(copy.kind, copy.kind)} ({copy.location})" for copy in copies)
    raise NotReleasable(f"{errand.mail_id} is kept in {where or 'no place'}, which cannot be read from here")


def _joined(one: KeptMail | None, other: KeptMail) -> KeptMail:
    """Two copies of one mail; what a quarantine says counts more than an archive."""
    if one is None:
        return other
    first, second = (other, one) if one.category == "archive" else (one, other)
    return replace(first, copies=first.copies + second.copies, received_at=min(one.received_at, other.received_at))


def _with_memory(mail: KeptMail, known: KeptMail | None) -> KeptMail:
    """What a copy tells, with what only the index knew."""
    if known is None:
        return mail
    mailed = tuple(copy for copy in known.copies if copy.kind in "ML")
    return replace(
        mail,
        host=known.host,
        received_at=known.received_at,
        category=known.category,
        score=known.score,
        size=known.size,
        copies=mail.copies + mailed,
        recipients=known.recipients,
    )

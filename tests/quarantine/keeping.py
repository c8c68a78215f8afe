"""keeping - a quarantine for tests: a directory, an index, perhaps SQL tables, and a transport that remembers."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from amavispy.delivery.index_database import IndexDatabase
from amavispy.delivery.quarantine import Quarantine
from amavispy.delivery.quarantine_desk import Places, QuarantineDesk
from amavispy.delivery.quarantine_index import KeptMail, QuarantineIndex, Query
from amavispy.delivery.quarantine_sql import SqlQuarantine
from amavispy.delivery.quarantine_text import Original
from amavispy.delivery.quarantined import Vault
from amavispy.delivery.release import Release
from amavispy.delivery.transports import Handover, Submission
from amavispy.journal import storage
from amavispy.journal.database import Database, DatabaseFailure, as_stored
from amavispy.mail.disposition import Destiny, Disposition, QuarantineTarget
from amavispy.mail.message import Message
from amavispy.mail.outcome import KeptCopy
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Category, ContentsCategory
from tests.making import bank, fate, message

VIRUS, SPAM, CLEAN = (ContentsCategory(c) for c in (Category.VIRUS, Category.SPAM, Category.CLEAN))
OK = Reply(250, "2.0.0", "Ok")


class FakeTransport:
    """Remembers what it was given and answers alike."""

    def __init__(self, reply: Reply = OK) -> None:
        self.reply = reply
        self.sent: list[Submission] = []

    def send(self, next_hops, submission, settings, deadline, log_id):  # type: ignore[no-untyped-def]
        self.sent.append(submission)
        return tuple(Handover(self.reply) for _ in submission.recipients)


def named(mail: Message, mail_id: str) -> Message:
    return replace(mail, ids=replace(mail.ids, mail_id=mail_id))


def to_keep(
    *methods: str,
    category: ContentsCategory = VIRUS,
    recipients: tuple[str, ...] = ("b@example.net",),
    to: str = "x-quarantine",
    is_archive: bool = False,
    is_blocked: bool = True,
) -> Disposition:
    targets = tuple(QuarantineTarget(method, to, is_archive) for method in methods)
    destiny = Destiny.DISCARD if is_blocked else Destiny.PASS
    reply = Reply(250, "2.7.0", "Ok, discarded") if is_blocked else None
    fates = (fate(to, category, destiny=destiny, reply=reply, quarantine=targets) for to in recipients)
    return Disposition(tuple(fates), (("X-Amavis-Alert", "INFECTED, message contains virus: Eicar"),))


class Keeping:
    """`place`: a directory of the test. `dsn`: an SQL database, made here when it is SQLite."""

    def __init__(self, place: Path, dsn: str = "", index: str = "", host: str = "mx.example.net") -> None:
        self.directory = place / "quarantine"
        self.directory.mkdir(exist_ok=True)
        self.database = Database((dsn,)) if dsn else None
        if self.database:
            storage.migrate(self.database)
        self.store = SqlQuarantine(self.database, DatabaseFailure, as_stored, 1024) if self.database else None
        self.transport = FakeTransport()
        self.index = QuarantineIndex(IndexDatabase(index or f"{place}/index.db"), host)
        self.quarantine = Quarantine(str(self.directory), 1, self.transport, self.store, self.index)
        self.vault = Vault(str(self.directory), self.store, self.index)
        ledgers = [self.index, *([self.store] if self.store else [])]
        self.release = Release(self.transport, self.vault, lambda *_: True, ledgers)
        places = Places(str(self.directory), self.index, self.vault, self.store, host)
        self.desk = QuarantineDesk(places, self.release)

    def keep(
        self, *methods: str, mail: Message | None = None, mail_id: str = "Jnk7NzYB8pvl", **wanted: object
    ) -> tuple[KeptCopy, ...]:
        disposition = to_keep(*methods, **wanted)  # type: ignore[arg-type]
        return self.quarantine.keep(named(mail or message(), mail_id), disposition, bank())

    def only(self) -> KeptMail:
        (mail,) = self.index.find(Query())
        return mail

    def ids(self, **query: object) -> list[str]:
        return [mail.mail_id for mail in self.index.find(Query(**query))]  # type: ignore[arg-type]


def undone(original: Original, keep) -> None:  # type: ignore[no-untyped-def]
    """Keep a copy and take it back."""
    with ExitStack() as undo:
        keep(original, undo)

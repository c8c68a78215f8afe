"""Sender lists - white, black and score lists of senders, asked for each recipient (specification, chapter 8.2).

In go the envelope sender, the addresses of the From field and the settings, out comes what each recipient's lists say:
hard white (never spam), hard black (always spam), or points that are added to the score. A recipient's own tables
(`per_recip_...`) are asked before those for everybody. When both lists have a sender, white wins in what becomes of the
mail. Hard lists: the first sender that is listed decides. Points: of all score tables that fit the recipient, the first
match in each counts; senders behind the first that has any add nothing.

What databases hold comes first, as records of the recipient (WBLIST): rows of `wblist` in SQL, then the attributes of
LDAP. A number is points and the search goes on, blanks say that nothing further counts for this recipient, B, N and F
are black, everything else is white.

Both addresses are the sender's own claim, and anybody can make it. Whitelist senders only where something else vouches
for them (a policy bank of their network), or give points instead; docs/scanners-spam.md says so to the administrator.

**Failures:** none here. A table with I/O raises TemporaryFailure, which passes through.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amavispy.mail.address import Address
from amavispy.mail.mailboxes import mailboxes
from amavispy.mail.message import Content
from amavispy.policy.directory import WBLIST
from amavispy.policy.lookup import LookupList, is_true
from amavispy.policy.settings import Settings

_log = logging.getLogger("amavispy.policy")
_LEVEL_2 = 15  # amavis' log level 2
_FIELDS_LIMIT = 10  # From fields; RFC 5322 3.6 allows one
_POINTS = re.compile(r" *([+-]?\d{1,9}(?:\.\d{0,9})?) *")
_BLACK = re.compile(r"[BNF] *", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class SenderOpinion:
    """What a recipient's lists say of the sender. `points` are added to the spam score."""

    is_white: bool = False
    is_black: bool = False
    points: float = 0.0

    @property
    def is_hard(self) -> bool:
        return self.is_white or self.is_black


NEUTRAL = SenderOpinion()


def has_lists(settings: Settings) -> bool:
    """Whether there is any list to ask."""
    return bool(
        settings.whitelist_sender_maps
        or settings.blacklist_sender_maps
        or settings.score_sender_maps
        or settings.per_recip_whitelist_sender_lookup_tables
        or settings.per_recip_blacklist_sender_lookup_tables
    )


class SenderLists:
    """The lists of one message. Recipients for whom the same tables count are answered once."""

    def __init__(self, senders: Sequence[Address], settings: Settings) -> None:
        self._senders = senders
        self._settings = settings
        self._known: dict[tuple[object, ...], SenderOpinion] = {}

    def opinion(self, recipient: Address) -> SenderOpinion:
        """What this recipient's lists say."""
        settings = self._settings
        white = settings.per_recip_whitelist_sender_lookup_tables.find(recipient)
        black = settings.per_recip_blacklist_sender_lookup_tables.find(recipient)
        scores = settings.score_sender_maps.find_all(recipient)
        own = recipient.records.get(WBLIST, ())
        key = (id(white), id(black), *map(id, scores), *((row["sender"], row["source"], row["wb"]) for row in own))
        if key not in self._known:  # the tables live as long as the settings
            self._known[key] = self._asked(white, black, scores, own)
            self._tell(recipient, self._known[key])
        return self._known[key]

    def _asked(
        self, white: object, black: object, scores: Sequence[object], own: Sequence[Mapping[str, Any]]
    ) -> SenderOpinion:
        settings = self._settings
        whitelists = _tables(white, settings.whitelist_sender_maps)
        blacklists = _tables(black, settings.blacklist_sender_maps)
        found = _Found()
        for sender in self._senders:
            found.read([row for row in own if row["sender"] == sender.path])
            if not found.is_decided:
                found.is_white, found.is_black = _is_listed(sender, whitelists), _is_listed(sender, blacklists)
                found.is_decided = found.is_white or found.is_black
            if not found.has_points:
                found.points = _points(sender, _tables(*scores))
                found.has_points = found.points != 0.0
        has_any = found.is_white or found.is_black or found.points
        return SenderOpinion(found.is_white, found.is_black, found.points) if has_any else NEUTRAL

    def _tell(self, recipient: Address, opinion: SenderOpinion) -> None:
        if opinion is NEUTRAL or not _log.isEnabledFor(_LEVEL_2):
            return
        words = [word for word, holds in (("white", opinion.is_white), ("black", opinion.is_black)) if holds]
        if opinion.points:
            words.append(f"soft-{'white' if opinion.points < 0 else 'black'}")
        senders = ",".join(f"<{sender.path}>" for sender in self._senders)
        for word in words:
            points = f" ({opinion.points:g})" if word.startswith("soft-") else ""
            _log.log(_LEVEL_2, "wbl: %slisted%s sender %s => <%s>", word, points, senders, recipient.path)


def senders_of(sender: str, content: Content | None) -> list[str]:
    """The envelope sender and the addresses of the From field, each once; the envelope's is the first."""
    return list(dict.fromkeys((sender, *(_authors(content) if content is not None else ()))))


@dataclass(slots=True)
class _Found:
    """What was found for one recipient so far."""

    is_white: bool = False
    is_black: bool = False
    is_decided: bool = False
    points: float = 0.0
    has_points: bool = False

    def read(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """What databases say of one sender: of SQL's rows the first that is no number decides, of LDAP's all."""
        for value in (str(row["wb"]) for row in rows if row["source"] == "sql"):
            if points := _POINTS.fullmatch(value):
                self.points += float(points[1])
                self.has_points = True
            elif not self.is_decided:
                self.is_decided = True
                self._mark(value)
        if not self.is_decided:
            for value in (str(row["wb"]) for row in rows if row["source"] == "ldap"):
                self.is_decided = True
                self._mark(value)

    def _mark(self, value: str) -> None:
        if _BLACK.fullmatch(value):
            self.is_black = True
        elif value.strip(" \0"):
            self.is_white = True


def _authors(content: Content) -> Iterator[str]:
    for field in content.headers.all(b"From")[:_FIELDS_LIMIT]:
        yield from mailboxes(field.value)


def _tables(*found: object) -> list[LookupList]:
    return [table for table in found if isinstance(table, LookupList)]


def _is_listed(sender: Address, tables: Sequence[LookupList]) -> bool:
    """The first table with an opinion decides; False of a recipient's own table overrides the list for everybody."""
    for table in tables:
        answer = table.find(sender)
        if answer is not None:
            return is_true(answer)
    return False


def _points(sender: Address, tables: Sequence[LookupList]) -> float:
    found = (table.find(sender) for table in tables)
    return sum(float(points) for points in found if isinstance(points, int | float))

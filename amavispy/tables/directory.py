"""Directory - all databases behind lookup lists as one: asked once a message, each with one query.

For every address the sources that its lists read are asked, for all addresses together, and the answers become the
addresses' records. What SQL's wblist and LDAP's attributes say of the senders becomes a record of the recipient.

**Failures:** TemporaryFailure of whatever source does not answer: the client keeps the mail, no verdict changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from amavispy.mail.address import Address
from amavispy.policy.blocklist import SOURCE as DNSXL
from amavispy.policy.blocklist import Blocklist
from amavispy.policy.directory import WBLIST, Wanted, wanted
from amavispy.policy.settings import Settings

Rows = tuple[Mapping[str, Any], ...]
_REMEMBERED = 1000  # settings, one for each combination of policy banks that was met


class Source(Protocol):
    """One kind of database."""

    def fetch(self, addresses: Sequence[Address], settings: Settings) -> list[Rows]:
        """The rows of each address, the one that counts most first."""

    def listings(self, recipients: Sequence[Rows], senders: Sequence[Address], settings: Settings) -> list[Rows]:
        """For each recipient, by his rows, what his own lists say of the senders."""


class Resolver(Protocol):
    """Who asks name servers for blocklists."""

    def ask(self, names: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
        """The A records of each name, none for a name that does not exist."""


class Databases:
    """The Directory of a configuration. `sources` by name, in the order in which their lists of senders count."""

    def __init__(self, sources: Mapping[str, Source], resolver: Resolver | None = None) -> None:
        self._sources = sources
        self._resolver = resolver
        self._wanted: dict[int, tuple[Settings, Wanted]] = {}

    def know(
        self, recipients: Sequence[Address], senders: Sequence[Address], settings: Settings
    ) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
        needed = self._needed(settings)
        people = [*recipients, *senders]
        records: list[dict[str, Rows]] = [{} for _ in people]
        for name, source in self._sources.items():
            if name == "ldap" and not settings.enable_ldap:
                continue
            asked = range(len(recipients)) if name in needed.recipients else range(0)
            also = range(len(recipients), len(people)) if name in needed.senders else range(0)
            self._fetch(name, source, people, [*asked, *also], records, settings)
            if senders and asked:
                self._fetch_listings(name, source, records[: len(recipients)], senders, settings)
        if self._resolver is not None:
            self._ask_blocklists(needed, recipients, senders, records)
        known = [address.knowing(found) if found else address for address, found in zip(people, records, strict=True)]
        return tuple(known[: len(recipients)]), tuple(known[len(recipients) :])

    def is_listed(self, blocklist: Blocklist, ip: str | None) -> bool:
        if self._resolver is None or not (names := blocklist.names_for(ip)):
            return False
        return any(blocklist.lists(answers) for answers in self._resolver.ask(names).values())

    def _needed(self, settings: Settings) -> Wanted:
        """Settings are few and live long; remembering them keeps their identity from meaning others."""
        known = self._wanted.get(id(settings))
        if known is None:
            if len(self._wanted) >= _REMEMBERED:
                self._wanted.clear()
            known = self._wanted[id(settings)] = (settings, wanted(settings))
        return known[1]

    def _fetch(
        self,
        name: str,
        source: Source,
        people: Sequence[Address],
        asked: Sequence[int],
        records: list[dict[str, Rows]],
        settings: Settings,
    ) -> None:
        if not asked:
            return
        for number, rows in zip(asked, source.fetch([people[number] for number in asked], settings), strict=True):
            if rows:
                records[number][name] = rows

    def _fetch_listings(
        self,
        name: str,
        source: Source,
        records: Sequence[dict[str, Rows]],
        senders: Sequence[Address],
        settings: Settings,
    ) -> None:
        rows_each = [found.get(name, ()) for found in records]
        if not any(rows_each):
            return
        for found, listed in zip(records, source.listings(rows_each, senders, settings), strict=True):
            if listed:
                found[WBLIST] = (*found.get(WBLIST, ()), *listed)

    def _ask_blocklists(
        self,
        needed: Wanted,
        recipients: Sequence[Address],
        senders: Sequence[Address],
        records: list[dict[str, Rows]],
    ) -> None:
        asked = ((needed.recipients_blocklists, recipients), (needed.senders_blocklists, senders))
        each = [
            [name for blocklist in blocklists for name in blocklist.domains_for(address)]
            for blocklists, people in asked
            for address in people
        ]
        names = list(dict.fromkeys(name for names in each for name in names))
        if not names or self._resolver is None:
            return
        answers = self._resolver.ask(names)
        for found, own in zip(records, each, strict=True):
            listed = {name: answers[name] for name in own if answers.get(name)}
            if listed:
                found[DNSXL] = (listed,)

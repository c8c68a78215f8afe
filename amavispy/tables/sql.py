"""Sql - what users, policy, wblist and mailaddr of amavis' SQL schema say of a message's people (chapter 5.4).

One query fetches the rows of all recipients (and of senders, where a list of senders asks for them), another one their
entries in wblist. A sel_policy of another shape than `WHERE email IN (%k)`, or one that does not return the column
email, is asked once an address instead: nobody else could tell whose rows came back.

Parameters are text; with sql_allow_8bit_address they are octets, as the columns VARBINARY and bytea want them,
otherwise whatever is not printable ASCII becomes `?`.

**Failures:** TemporaryFailure, by `Failover`: connection, time limit, or a clause that the database refuses.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from amavispy.mail.address import Address
from amavispy.policy.directory import keys_of, trimmed
from amavispy.policy.recipient import is_local
from amavispy.policy.settings import Settings
from amavispy.tables.failover import Failover
from amavispy.tables.sql_clause import SEL_POLICY, SEL_WBLIST, SEL_WBLISTS, Clause
from amavispy.tables.sql_server import SqlConnection

Row = Mapping[str, Any]
Rows = tuple[Row, ...]

_log = logging.getLogger("amavispy.tables")
_KEYS_AT_A_TIME = 2000  # parameters; SQLite takes 32,766, PostgreSQL 65,535
_NOT_PRINTABLE = re.compile(rb"[^ -~]")
_CATCHALL = "@."
_WBLISTS = Clause(SEL_WBLISTS)


@dataclass(frozen=True, slots=True)
class SqlOptions:
    """Settings that exist once: allow_8bit_address, no_at_means_domain, trims_trailing_space."""

    allow_8bit_address: bool = False
    no_at_means_domain: bool = False
    trims_trailing_space: bool = False


@dataclass(frozen=True, slots=True)
class _Person:
    """An address with its keys as the database gets them."""

    address: Address
    is_local: bool
    keys: tuple[str, ...]


class SqlSource:
    """The databases of lookup_sql_dsn."""

    def __init__(self, servers: Failover[SqlConnection], options: SqlOptions) -> None:
        self._servers = servers
        self._options = options
        self._clauses: dict[str, Clause] = {}

    def fetch(self, addresses: Sequence[Address], settings: Settings) -> list[Rows]:
        """The rows of each address, in the database's order."""
        clause = self._clause(settings.sql_clause.get("sel_policy", SEL_POLICY))
        if not clause.text:
            return [()] * len(addresses)
        people = {address.path: self._person(address, settings) for address in addresses}
        found = self._servers.ask(lambda connection: self._policies(connection, clause, list(people.values())))
        rows = dict(zip(people, found, strict=True))
        return [rows[address.path] for address in addresses]

    def listings(self, recipients: Sequence[Rows], senders: Sequence[Address], settings: Settings) -> list[Rows]:
        """For each recipient (his rows) what wblist says of the senders: rows of sender, wb and source."""
        text = settings.sql_clause.get("sel_wblist", SEL_WBLIST)
        ids = dict.fromkeys(row["id"] for rows in recipients for row in rows if row.get("id") is not None)
        if not (text and ids and senders):
            return [()] * len(recipients)
        people = [self._person(sender, settings) for sender in senders]
        if text == SEL_WBLIST:
            entries = self._servers.ask(lambda connection: self._all_entries(connection, list(ids), people))
        else:
            clause = self._clause(text)
            entries = self._servers.ask(lambda connection: self._each_entry(connection, clause, list(ids), people))
        return [tuple(_of_recipient(rows, senders, entries)) for rows in recipients]

    def _clause(self, text: str) -> Clause:
        if text not in self._clauses:
            self._clauses[text] = Clause(text)
        return self._clauses[text]

    def _person(self, address: Address, settings: Settings) -> _Person:
        local = is_local(address, settings)  # by the static tables: the address has no records yet
        keys = keys_of(address, is_local=local, no_at_means_domain=self._options.no_at_means_domain)
        return _Person(address, local, tuple(dict.fromkeys(self._clean(key) for key in keys)))

    def _clean(self, key: str) -> str:
        if self._options.allow_8bit_address or (key.isascii() and key.isprintable()):
            return key
        return _NOT_PRINTABLE.sub(b"?", key.encode("utf-8", "surrogateescape")).decode("ascii")

    # --- sel_policy

    def _policies(self, connection: SqlConnection, clause: Clause, people: list[_Person]) -> list[Rows]:
        if len(people) == 1 or not clause.takes_all_at_once:
            return [self._policy(connection, clause, person) for person in people]
        found: list[Rows] = []
        for some in _portions(people):
            keys = dict.fromkeys(key for person in some for key in person.keys)
            rows = self._rows(connection, clause, list(keys), {"%k": len(keys)})
            shared = _shared(rows, some)
            found += [self._policy(connection, clause, person) for person in some] if shared is None else shared
        return found

    def _policy(self, connection: SqlConnection, clause: Clause, person: _Person) -> Rows:
        bound = self._bound(person.keys, connection)
        parts = self._bound((*person.address.parts[:4], person.address.domain), connection)
        parameters = clause.parameters(bound, parts, is_local=person.is_local, extra=())
        statement = clause.statement(connection.paramstyle, {"%k": len(bound)})
        return tuple(self._row(row) for row in connection.rows(statement, parameters))

    def _rows(
        self, connection: SqlConnection, clause: Clause, keys: Sequence[str], lengths: dict[str, int]
    ) -> list[dict[str, Any]]:
        statement = clause.statement(connection.paramstyle, lengths)
        return [self._row(row) for row in connection.rows(statement, self._bound(keys, connection))]

    def _row(self, row: dict[str, Any]) -> dict[str, Any]:
        if row.get("email") == _CATCHALL:
            row.setdefault("local", None)  # what matches everybody makes nobody local
        return trimmed(row) if self._options.trims_trailing_space else row

    def _bound(self, texts: Iterable[str], connection: SqlConnection) -> list[Any]:
        """Texts as parameters of this dialect."""
        if self._options.allow_8bit_address:
            if connection.dialect == "postgresql":
                return [text.encode("utf-8", "surrogateescape") for text in texts]
            encoded = (text if text.isascii() else text.encode("utf-8", "surrogateescape") for text in texts)
            if connection.dialect == "mysql":
                return list(encoded)
            # SQLite compares octets with text as different, whatever they are.
            return [octets.decode("utf-8", "replace") if isinstance(octets, bytes) else octets for octets in encoded]
        cleaned = [self._clean(text) for text in texts]
        if connection.dialect == "postgresql":
            # Untyped parameters become text or bytea as the column wants; in bytea a backslash begins an escape.
            return [text.replace("\\", "?") for text in cleaned]
        return cleaned

    # --- sel_wblist

    def _all_entries(
        self, connection: SqlConnection, ids: list[Any], people: list[_Person]
    ) -> dict[tuple[Any, str], str]:
        """(users.id, sender) -> the first wb that is defined."""
        found: dict[tuple[Any, str], str] = {}
        keys = list(dict.fromkeys(key for person in people for key in person.keys))
        holders = [(person, {key.casefold() for key in person.keys}) for person in people]
        for start in range(0, len(ids), _KEYS_AT_A_TIME):
            some = ids[start : start + _KEYS_AT_A_TIME]
            statement = _WBLISTS.statement(connection.paramstyle, {"%r": len(some), "%k": len(keys)})
            for row in connection.rows(statement, [*some, *self._bound(keys, connection)]):
                for person, folded in holders:
                    if row["wb"] is not None and str(row["email"]).casefold() in folded:
                        found.setdefault((row["rid"], person.address.path), str(row["wb"]))
        return found

    def _each_entry(
        self, connection: SqlConnection, clause: Clause, ids: list[Any], people: list[_Person]
    ) -> dict[tuple[Any, str], str]:
        """The same with a clause of the site's own, which answers for one user and one sender."""
        found: dict[tuple[Any, str], str] = {}
        for person in people:
            bound = self._bound(person.keys, connection)
            parts = self._bound((*person.address.parts[:4], person.address.domain), connection)
            statement = clause.statement(connection.paramstyle, {"%k": len(bound)})
            for user_id in ids:
                parameters = clause.parameters(bound, parts, is_local=person.is_local, extra=(user_id,))
                entries = (row.get("wb") for row in connection.rows(statement, parameters))
                first = next((entry for entry in entries if entry is not None), None)
                if first is not None:
                    found[user_id, person.address.path] = str(first)
        return found


def _of_recipient(rows: Rows, senders: Sequence[Address], entries: Mapping[tuple[Any, str], str]) -> Iterable[Row]:
    """A recipient's entries: for every sender those of all his rows, in their order."""
    ids = list(dict.fromkeys(row.get("id") for row in rows))
    for sender in senders:
        for user_id in ids:
            if (entry := entries.get((user_id, sender.path))) is not None:
                yield {"sender": sender.path, "wb": entry, "source": "sql"}


def _portions(people: list[_Person]) -> Iterable[list[_Person]]:
    """People whose keys fit into one statement."""
    portion: list[_Person] = []
    keys: set[str] = set()
    for person in people:
        if portion and len(keys) + len(person.keys) > _KEYS_AT_A_TIME:
            yield portion
            portion, keys = [], set()
        portion.append(person)
        keys.update(person.keys)
    yield portion


def _shared(rows: list[dict[str, Any]], people: list[_Person]) -> list[Rows] | None:
    """The rows of each person by the column email; None when that cannot tell whose they are.

    A database may compare without regard to case, or to accents and blanks; where it could have meant another person
    than the letters do, each must be asked for himself.
    """
    by_key: dict[str, list[int]] = {}
    exact: dict[str, set[int]] = {}
    for number, person in enumerate(people):
        for key in person.keys:
            by_key.setdefault(key.casefold(), []).append(number)
            exact.setdefault(key, set()).add(number)
    found: list[list[Row]] = [[] for _ in people]
    for row in rows:
        email = row.get("email")
        meant = set(by_key.get(email.casefold(), ())) if isinstance(email, str) else set()
        if not meant or meant != exact.get(str(email), set()):
            return None
        for number in meant:
            found[number].append(row)
    return [tuple(own) for own in found]

"""Ldap - what entries of amavis' LDAP schema say of a message's people (chapter 5.5).

One search a message and base: `(mail=%m)` in the filter becomes all keys of all addresses (RFC 4515, escaped), and the
values of that attribute tell whose entry it is. A person's entries are ordered by how specific the matching key is.
Rows are attributes in lower case with their first value; the lists of senders have all of theirs.

Making an LdapServer opens nothing and belongs before the fork.

**Failures:** TemporaryFailure, by `Failover`: connection, time limit, a failed StartTLS or login, or a search refused.
A base that does not exist (a foreign domain in %d) is an empty answer.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.utils.dn import escape_rdn

from amavispy.mail.address import Address
from amavispy.policy.directory import keys_of, trimmed
from amavispy.policy.recipient import is_local
from amavispy.policy.settings import Settings
from amavispy.tables.failover import Failover
from amavispy.tables.ldap_settings import LdapSettings

Row = Mapping[str, Any]
Rows = tuple[Row, ...]

_LISTS = {"amavisblacklistsender": "B", "amaviswhitelistsender": "W"}
_ITEM = re.compile(r"\(([^()=]+)=%m\)")
_SPECIAL = re.compile(rb"[\\*()\x00-\x1f\x80-\xff]")
_KEYS_AT_A_TIME = 400
_CATCHALL = "@."
_SUCCESS, _NO_SUCH_OBJECT = 0, 32
_DEREF = {"never": "NEVER", "search": "SEARCH", "find": "FINDING_BASE", "always": "ALWAYS"}
_SCOPE = {"base": "BASE", "one": "LEVEL", "sub": "SUBTREE"}
_VERIFY = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "require": ssl.CERT_REQUIRED}


class LdapRefused(Exception):
    """The server answered, but not with entries."""


@dataclass(frozen=True, slots=True)
class _Person:
    address: Address
    keys: tuple[str, ...]
    ranks: Mapping[str, int]  # key in lower case -> position


class LdapServer:
    """One host of default_ldap."""

    failures: tuple[type[Exception], ...] = (LDAPException, LdapRefused)

    def __init__(self, host: str, settings: LdapSettings, timeout: float) -> None:
        self.name = f"ldap {host}"
        self._host = host
        self._settings = settings
        self._timeout = settings.timeout or timeout

    def connect(self) -> Any:
        settings = self._settings
        tls = ldap3.Tls(
            validate=_VERIFY[settings.verify],
            ca_certs_file=settings.cafile or None,
            ca_certs_path=settings.capath or None,
            local_certificate_file=settings.clientcert or None,
            local_private_key_file=settings.clientkey or None,
        )
        port = {"port": settings.port} if settings.port else {}
        server = ldap3.Server(self._host, get_info=ldap3.NONE, tls=tls, connect_timeout=self._timeout, **port)
        connection = ldap3.Connection(
            server,
            settings.bind_dn or None,
            settings.bind_password or None,
            receive_timeout=max(1, round(self._timeout)),  # whole seconds
            read_only=True,
            auto_referrals=False,
            check_names=False,
        )
        connection.open()
        if settings.tls and not connection.start_tls():
            raise LdapRefused(f"StartTLS: {connection.result['description']}")
        if settings.bind_dn and not connection.bind():
            raise LdapRefused(f"login as {settings.bind_dn}: {connection.result['description']}")
        return connection

    def close(self, connection: Any) -> None:
        connection.unbind()


class LdapSource:
    """The directory of default_ldap."""

    def __init__(
        self, servers: Failover[Any], settings: LdapSettings, *, no_at_means_domain: bool = False, trims: bool = False
    ) -> None:
        self._servers = servers
        self._settings = settings
        self._no_at_means_domain = no_at_means_domain
        self._trims = trims
        self._matched = tuple(name.lower() for name in _ITEM.findall(settings.query_filter))

    def fetch(self, addresses: Sequence[Address], settings: Settings) -> list[Rows]:
        """The entries of each address, the most specific first."""
        people = {address.path: self._person(address, settings) for address in addresses}
        found: dict[str, Rows] = {}
        for base, some in self._portions(list(people.values())):
            rows = self._servers.ask(partial(self._entries, base=base, people=some))
            found.update(zip((person.address.path for person in some), rows, strict=True))
        return [found.get(address.path, ()) for address in addresses]

    def listings(self, recipients: Sequence[Rows], senders: Sequence[Address], _settings: Settings) -> list[Rows]:
        """What amavisBlacklistSender and amavisWhitelistSender of each recipient say of the senders."""
        keys = {sender.path: {key.casefold() for key in _keys(sender, is_local=False)} for sender in senders}
        return [tuple(_listed(rows, keys)) for rows in recipients]

    def _person(self, address: Address, settings: Settings) -> _Person:
        local = is_local(address, settings)  # by the static tables: the address has no records yet
        keys = _keys(address, is_local=local, no_at_means_domain=self._no_at_means_domain)
        ranks: dict[str, int] = {}
        for rank, key in enumerate(keys):
            ranks.setdefault(key.casefold(), rank)
        return _Person(address, keys, ranks)

    def _portions(self, people: Sequence[_Person]) -> Iterator[tuple[str, list[_Person]]]:
        """People who share a base, as many at a time as a filter should name."""
        by_base: dict[str, list[_Person]] = {}
        for person in people:
            base = self._settings.base
            if "%d" in base:
                if not person.address.domain:
                    continue
                base = base.replace("%d", escape_rdn(person.address.domain))
            by_base.setdefault(base, []).append(person)
        for base, same in by_base.items():
            start, keys = 0, 0
            for number, person in enumerate(same):
                keys += len(person.keys)
                if number > start and keys > _KEYS_AT_A_TIME:
                    yield base, same[start:number]
                    start, keys = number, len(person.keys)
            yield base, same[start:]

    def _entries(self, connection: Any, base: str, people: Sequence[_Person]) -> list[Rows]:
        keys = dict.fromkeys(key for person in people for key in person.keys)
        entries = [self._row(entry) for entry in self._search(connection, base, tuple(keys))]
        found: list[list[tuple[float, int, Row]]] = [[] for _ in people]
        for number, (names, row) in enumerate(entries):
            ranks = [
                min((person.ranks[name] for name in names if name in person.ranks), default=-1) for person in people
            ]
            if max(ranks) < 0:
                if len(people) > 1:  # matched in a way we cannot tell; each is asked for himself
                    return [self._entries(connection, base, [person])[0] for person in people]
                ranks = [len(keys)]
            for own, rank, person in zip(found, ranks, people, strict=True):
                if rank >= 0:
                    own.append((rank, number, _for_person(row, rank, person)))
        return [tuple(row for _, _, row in sorted(own, key=lambda entry: entry[:2])) for own in found]

    def _search(self, connection: Any, base: str, keys: Sequence[str]) -> list[Any]:
        connection.search(
            base,
            self._filter(keys),
            search_scope=_SCOPE[self._settings.scope],
            dereference_aliases=_DEREF[self._settings.deref],
            attributes=ldap3.ALL_ATTRIBUTES,
        )
        if connection.result["result"] == _NO_SUCH_OBJECT:
            return []
        if connection.result["result"] != _SUCCESS:
            raise LdapRefused(f"search in {base}: {connection.result['description']} {connection.result['message']}")
        return [entry for entry in connection.response if entry["type"] == "searchResEntry"]

    def _filter(self, keys: Sequence[str]) -> str:
        values = [escaped(key) for key in keys]

        def any_key(match: re.Match[str]) -> str:
            return f"(|{''.join(f'({match[1]}={value})' for value in values)})"

        return _ITEM.sub(any_key, self._settings.query_filter)

    def _row(self, entry: Mapping[str, Any]) -> tuple[set[str], dict[str, Any]]:
        """The values by which an entry was found, and its attributes."""
        row: dict[str, Any] = {}
        names: set[str] = set()
        for attribute, raw in entry["raw_attributes"].items():
            values = [octets.decode("utf-8", "surrogateescape") for octets in raw]
            key = attribute.lower()
            if values:
                row[key] = tuple(values) if key in _LISTS else values[0]
            if key in self._matched:
                names.update(value.casefold() for value in values)
        return names, trimmed(row) if self._trims else row


def escaped(value: str) -> str:
    """A value in a filter, RFC 4515 3: special and non-ASCII octets as a backslash and two digits."""
    octets = value.encode("utf-8", "surrogateescape")
    return _SPECIAL.sub(lambda match: b"\\%02x" % match[0][0], octets).decode("ascii")


def _keys(address: Address, *, is_local: bool, no_at_means_domain: bool = False) -> tuple[str, ...]:
    """The null sender is `<>` here, before anything else."""
    keys = keys_of(address, is_local=is_local, no_at_means_domain=no_at_means_domain)
    return keys if address.path else ("<>", *(key for key in keys if key))


def _for_person(row: dict[str, Any], rank: int, person: _Person) -> Row:
    """What matches everybody makes nobody local."""
    if rank < len(person.keys) and person.keys[rank] == _CATCHALL and "amavislocal" not in row:
        return {**row, "amavislocal": None}
    return row


def _listed(rows: Rows, keys: Mapping[str, set[str]]) -> Iterator[Row]:
    for sender, own in keys.items():
        for attribute, mark in _LISTS.items():
            values = next((row[attribute] for row in rows if attribute in row), ())
            if any(value.casefold() in own for value in values):
                yield {"sender": sender, "wb": mark, "source": "ldap"}

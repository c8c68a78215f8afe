"""Directory - what databases know of a message's people, fetched before any lookup list is asked.

A `Directory` (made by wiring, implemented in `tables`) is asked once a message, for all recipients and senders at a
time; it answers with the same addresses, each with its records. A `Field` is the table that stands in a lookup list,
`{ sql = "spam_tag2_level" }`: it reads one column out of those records, so a list with twenty of them costs no second
query. An address without records makes a Field have no opinion: that is how the static tables are asked alone.

Rows of a source stand in the order in which they count; for each column the first row with a defined value wins
(specification, chapters 5.4 and 5.5).

**Failures:** none here. A Directory raises TemporaryFailure, which passes through: the client keeps the mail.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any, Protocol

from amavispy.mail.address import Address
from amavispy.policy.blocklist import Blocklist, Blocklisted
from amavispy.policy.lookup import Constant, Hash, LookupList, RegexpList, Table
from amavispy.policy.settings import Settings

TRUTH, NUMBER, TEXT = "truth", "number", "text"
WBLIST = "wblist"  # records of a recipient: what his own lists say of this message's senders, see `sender_lists`
SOURCES = ("sql", "ldap", "redis")

# Lists that are asked about senders, and those asked about something that is no address.
OF_SENDERS = frozenset(
    (
        "whitelist_sender_maps",
        "blacklist_sender_maps",
        "spam_dsn_cutoff_level_bysender_maps",
        "disclaimer_options_bysender_maps",
        "dkim_signature_options_bysender_maps",
    )
)
OF_OTHERS = frozenset(
    ("viruses_that_fake_sender_maps", "virus_name_to_spam_score_maps", "virus_name_to_policy_bank_maps")
)

# amavis' own values are one letter or a number; "false" and "no" are what LDAP and other programs write.
_FALSE = re.compile(r"(?:[nf ]|0+|\0+|false|no|off)?[ \0]*", re.IGNORECASE)
_log = logging.getLogger("amavispy.policy")


class Directory(Protocol):
    """Databases about people and networks. Every method may raise TemporaryFailure."""

    def know(
        self, recipients: Sequence[Address], senders: Sequence[Address], settings: Settings
    ) -> tuple[tuple[Address, ...], tuple[Address, ...]]:
        """The same addresses in the same order, with their records, as far as lists of these settings need them."""

    def is_listed(self, blocklist: Blocklist, ip: str | None) -> bool:
        """Whether a blocklist has a client's address."""


@dataclass(frozen=True, slots=True)
class Field:
    """One column of a source: `source` "sql", "ldap" or "redis"; `kind` says what its values are.

    `if_absent` is the answer of a row that has no such column: True for `local`, where being found is enough.
    """

    source: str
    name: str
    kind: str
    if_absent: Any = None
    _key: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", self.name.lower())

    def find(self, address: Address) -> Any | None:
        for row in address.records.get(self.source, ()):
            value = row.get(self._key, self.if_absent)
            if value is not None and (answer := self._converted(value)) is not None:
                return answer
        return None

    def find_all(self, address: Address) -> list[Any]:
        """The value of every row that has one."""
        values = [row.get(self._key, self.if_absent) for row in address.records.get(self.source, ())]
        answers = [self._converted(value) for value in values if value is not None]
        return [answer for answer in answers if answer is not None]

    def _converted(self, value: Any) -> Any | None:
        if self.kind == TRUTH:
            return truth(value)
        if self.kind == TEXT:
            return value if isinstance(value, str) else str(value)
        number = _number(value)
        if number is None:
            _log.warning("%s: %s answers %r where a number is expected; ignored", self.source, self.name, value)
        return number


def truth(value: Any) -> bool:
    """A value of a database as truth: N, F, 0, blanks, NULs and nothing are false, whatever else there is, true."""
    if isinstance(value, str):
        return not _FALSE.fullmatch(value)
    return bool(value)


def _number(value: Any) -> float | None:
    if isinstance(value, int | float):
        return value
    try:
        return float(value) if isinstance(value, str | Decimal) else None
    except ValueError:
        return None


def keys_of(address: Address, *, is_local: bool, no_at_means_domain: bool = False) -> tuple[str, ...]:
    """The keys under which databases know an address, most specific first (chapter 5.2).

    `user@sub.dom`, `user` (for local addresses only), `@sub.dom`, `@.sub.dom`, `@.dom`, ..., `@.`; addresses are not
    quoted there. `no_at_means_domain` writes them as hash tables do: `user@`, `sub.dom`, `.sub.dom`, `.`.
    """
    _, given_local, user, extension, given_domain = address.parts
    local, domain = address.local, address.domain
    at, before = ("@", "") if no_at_means_domain else ("", "@")
    keys = [f"{given_local}@{given_domain}" if given_domain else address.path, f"{local}@{domain}"]
    keys += [f"{user}@{domain}"] if extension else []
    if is_local and local:
        keys += [f"{local}{at}", f"{user}{at}"] if extension else [f"{local}{at}"]
    keys += [f"{before}{key}" for key in _domain_keys(domain)]
    return tuple(dict.fromkeys(keys))


def _domain_keys(domain: str) -> list[str]:
    """`sub.dom`, `.sub.dom`, `.dom`, `.`; an address literal has no parents, and of a long name the last 20 count."""
    if not domain or domain.startswith("["):
        return [domain, "."]
    labels = domain.split(".")
    return [domain, *("." + ".".join(labels[i:]) for i in range(max(0, len(labels) - 19), len(labels))), "."]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What lists of some settings read: sources by name, blocklists; apart for recipients and senders."""

    recipients: frozenset[str]
    senders: frozenset[str]
    recipients_blocklists: tuple[Blocklist, ...]
    senders_blocklists: tuple[Blocklist, ...]


def wanted(settings: Settings) -> Wanted:
    """Everything that the lookup lists of the settings could read. Slow: remember it."""
    recipients: list[Table] = []
    senders: list[Table] = []
    for name, value in lookup_lists(settings):
        if name not in OF_OTHERS:
            (senders if name in OF_SENDERS else recipients).extend(value.tables)
            senders.extend(table for inner in _inner_lists(value) for table in inner.tables)
    return Wanted(_sources(recipients), _sources(senders), _blocklists(recipients), _blocklists(senders))


def has_blocklists(settings: Settings) -> bool:
    """Whether anything in the settings is asked by DNS."""
    needed = wanted(settings)
    by_client = any(rule.dnsxl is not None for rule in settings.client_ipaddr_policy)
    return by_client or bool(needed.recipients_blocklists or needed.senders_blocklists)


def lookup_lists(settings: Settings) -> Iterator[tuple[str, LookupList]]:
    """Every setting that is a lookup list, with its name."""
    for setting in fields(settings):
        value = getattr(settings, setting.name)
        if isinstance(value, LookupList):
            yield setting.name, value


def _inner_lists(value: LookupList) -> Iterator[LookupList]:
    """Lists of senders that are the answers of a list of recipients."""
    for table in value.tables:
        answers: Sequence[Any] = ()
        match table:
            case Constant():
                answers = (table.value,)
            case Hash():
                answers = tuple(table.mapping.values())
            case RegexpList():
                answers = tuple(answer for _, answer in table.entries)
        yield from (answer for answer in answers if isinstance(answer, LookupList))


def _sources(tables: Sequence[Table]) -> frozenset[str]:
    return frozenset(table.source for table in tables if isinstance(table, Field))


def _blocklists(tables: Sequence[Table]) -> tuple[Blocklist, ...]:
    return tuple(dict.fromkeys(table.blocklist for table in tables if isinstance(table, Blocklisted)))


def trimmed(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row without blanks at the end of its texts, which CHAR columns have."""
    return {name: value.rstrip(" ") if isinstance(value, str) else value for name, value in row.items()}

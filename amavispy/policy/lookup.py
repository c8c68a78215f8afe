"""Lookup - lookup lists: tables asked in order, the first defined answer wins (specification, chapter 5).

In goes an `Address` (its keys are made once and shared by all tables), out comes whatever the first table with an
opinion says; None means that nobody has one, and False, 0 and "" are answers like any other. Tables that need I/O live
in `tables` and are handed in; this module opens nothing. `IpTable` (networks) is told here too, under its old name.

**Failures:** making a RegexpList raises ValueError with the pattern that does not compile. A look-up in the tables here
never fails; a table with I/O raises TemporaryFailure, which passes through.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from amavispy.mail.address import Address, normal_domain
from amavispy.policy.ip_table import IpTable

__all__ = ["AccessList", "Constant", "Hash", "IpTable", "LookupList", "RegexpList", "Table", "is_true"]

_REFERENCE = re.compile(r"\$(?:(\d+)|\{(\d+)\}|\((\d+)\))")
_LABELS = 127  # RFC 1035 3.1: 255 octets hold no more; keeps hostile domains linear


class Table(Protocol):
    """Anything that may stand in a lookup list. One that may know several answers has `find_all(address)` too."""

    def find(self, address: Address) -> Any | None:
        """The answer for this address, or None for no opinion."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Answers the same for everybody."""

    value: Any

    def find(self, address: Address) -> Any | None:  # noqa: ARG002 - the interface of tables
        return self.value


@dataclass(frozen=True, slots=True)
class Hash:
    """Answers by the most specific key of the address. Values may hold $1..$5, ${n}, $(n): parts of the address.

    Keys: user@dom, user@, dom, .dom (dom and all below), "." (everybody). They match whatever their case, except that
    a local part with capitals matches an address with capitals only as written (localpart_is_case_sensitive).
    """

    mapping: Mapping[str, Any]
    _entries: dict[str, Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        entries = dict(self.mapping)
        for key, value in self.mapping.items():
            entries.setdefault(_normal_key(key), value)
        for key, value in self.mapping.items():
            entries.setdefault(_normal_key(key).lower(), value)
        object.__setattr__(self, "_entries", entries)

    def find(self, address: Address) -> Any | None:
        entries = self._entries
        for key in address.keys:
            value = entries.get(key)
            if value is not None:
                return _expanded(value, address.parts)
        return None

    def find_all(self, address: Address) -> list[Any]:
        """The values of every key that matches, the most specific first."""
        found = (self._entries.get(key) for key in address.keys)
        return [_expanded(value, address.parts) for value in found if value is not None]


@dataclass(frozen=True, slots=True)
class AccessList:
    """Answers True or False by the first entry that matches; each leading `!` inverts. Extensions mean nothing here.

    Entries: user@dom, dom, .dom (dom and all below), "." (everybody). However long the list, a look-up costs a handful
    of dictionary probes: of all entries that match, the one that stands first decides.
    """

    entries: tuple[str, ...]
    _ranks: dict[str, tuple[int, bool]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        ranks: dict[str, tuple[int, bool]] = {}
        for rank, entry in enumerate(self.entries):
            key = entry.lstrip("!")
            answer = (len(entry) - len(key)) % 2 == 0
            ranks.setdefault(_normal_key(key), (rank, answer))
            ranks.setdefault(_normal_key(key).lower(), (rank, answer))
        object.__setattr__(self, "_ranks", ranks)

    def find(self, address: Address) -> bool | None:
        ranks = self._ranks
        keys = (f"{address.local}@{address.domain}", address.domain, *_suffixes(address.domain), ".")
        best = min((ranks[key] for key in keys if key in ranks), default=None)
        return None if best is None else best[1]


@dataclass(frozen=True, slots=True)
class RegexpList:
    """Answers with the value of the first pattern found in the address as given, $n replaced by its groups.

    Patterns are Python's, searched case-insensitively. Raises ValueError for one that does not compile.
    """

    entries: tuple[tuple[str, Any], ...]
    _patterns: tuple[tuple[re.Pattern[str], Any], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_patterns", tuple((_compiled(pattern), value) for pattern, value in self.entries))

    def find(self, address: Address) -> Any | None:
        for pattern, value in self._patterns:
            if match := pattern.search(address.path):
                return _expanded(value, match.groups(""))
        return None

    def find_all(self, address: Address) -> list[Any]:
        """The values of every pattern that is found."""
        found = ((pattern.search(address.path), value) for pattern, value in self._patterns)
        return [_expanded(value, match.groups("")) for match, value in found if match]


@dataclass(frozen=True, slots=True)
class LookupList:
    """Tables in order. `fixed` is the answer when it is the same for everybody and known without asking, else None."""

    tables: tuple[Table, ...] = ()
    fixed: Any | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        first = self.tables[0] if self.tables else None
        object.__setattr__(self, "fixed", first.value if isinstance(first, Constant) else None)

    @classmethod
    def of(cls, tables: Iterable[Table]) -> LookupList:
        return cls(tuple(tables))

    @classmethod
    def constant(cls, value: Any) -> LookupList:
        return cls((Constant(value),))

    @property
    def is_fixed(self) -> bool:
        """Whether every address gets the same answer: `fixed`, or None when there are no tables."""
        return self.fixed is not None or not self.tables

    def __bool__(self) -> bool:
        return bool(self.tables)

    def find(self, address: Address) -> Any | None:
        """The first defined answer; None when no table has one."""
        if self.fixed is not None:
            return self.fixed
        for table in self.tables:
            answer = table.find(address)
            if answer is not None:
                return answer
        return None

    def find_all(self, address: Address) -> list[Any]:
        """Every defined answer of every table, in order."""
        answers: list[Any] = []
        for table in self.tables:
            if several := getattr(table, "find_all", None):
                answers += several(address)
            elif (answer := table.find(address)) is not None:
                answers.append(answer)
        return answers


def is_true(answer: Any) -> bool:
    """Truth as tables mean it: besides None, False, 0 and "", the "0" of a text file is false."""
    return bool(answer) and answer != "0"


def _expanded(value: Any, parts: Sequence[str]) -> Any:
    """A text with its references replaced; what does not exist becomes nothing. Other values pass as they are."""
    if not isinstance(value, str) or "$" not in value:
        return value

    def part(match: re.Match[str]) -> str:
        number = int(match[match.lastindex or 1][:4])
        return parts[number - 1] if 0 < number <= len(parts) else ""

    return _REFERENCE.sub(part, value)


def _normal_key(key: str) -> str:
    """A table's key with its domain as `Address` writes domains: lower case, IDN in ASCII, no dots at the end."""
    local, at, domain = key.rpartition("@")
    dot = "." if domain.startswith(".") and not at else ""
    return f"{local}{at}{dot}{normal_domain(domain[len(dot) :])}"


def _suffixes(domain: str) -> list[str]:
    """`.sub.dom.tld`, `.tld`, `.dom.tld`: every entry of a list under which the domain falls."""
    suffixes = [f".{domain}"] if domain else []
    dot = domain.rfind(".")
    while dot >= 0 and len(suffixes) < _LABELS:
        suffixes.append(domain[dot:])
        dot = domain.rfind(".", 0, dot)
    return suffixes


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except re.error as fault:
        raise ValueError(f'"{pattern}" is no regular expression: {fault}') from None

"""Address - reading and writing mail addresses, and the keys under which tables know them.

`Address` is made once per address and message; all tables share its keys (specification, chapter 5.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

_ROUTE = re.compile(r"@[^:,@]+(?:,@[^:,@]+)*:")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.S)
_ESCAPE = re.compile(r"\\(.)", re.S)
_NEVER_SPLIT = ("postmaster", "mailer-daemon", "double-bounce")

# What directories know of an address: source ("sql") -> rows, the one that counts most first; a row's names are in
# lower case.
Records = Mapping[str, tuple[Mapping[str, Any], ...]]
NO_RECORDS: Records = MappingProxyType({})


def split(path: str) -> tuple[str, str]:
    """Local part (unquoted) and domain (without @) of a path as on the wire; the domain is "" when there is none."""
    local, at, domain = path.rpartition("@")
    if not at:
        local, domain = path, ""
    if match := _QUOTED.fullmatch(local):
        local = _ESCAPE.sub(r"\1", match[1])
    return local, domain


def without_route(path: str) -> str:
    """The path without an obsolete source route (RFC 5321 appendix C): `@a,@b:user@c` is `user@c`."""
    return _ROUTE.sub("", path, count=1) if path.startswith("@") else path


def normal_domain(domain: str) -> str:
    """Lower case, no trailing dots, internationalised labels in their ASCII form where they have one."""
    domain = domain.rstrip(".").lower()
    if domain.isascii():
        return domain
    try:
        return domain.encode("idna").decode("ascii")
    except UnicodeError:
        return domain


@dataclass(frozen=True, slots=True)
class Address:
    """An address prepared for lookups. `keys` are those of hash tables, most specific first, duplicates removed.

    `parts` are the replacements $1..$5: whole, local part, user without extension, extension with delimiter, domain.
    `records` is what was fetched from databases for this message, nothing unless it was asked for.
    """

    path: str
    local: str
    domain: str
    keys: tuple[str, ...]
    parts: tuple[str, str, str, str, str]
    records: Records = field(default_factory=lambda: NO_RECORDS, compare=False, repr=False)

    def knowing(self, records: Records) -> Address:
        """The same address with these records."""
        return replace(self, records=records)

    @classmethod
    def of(cls, path: str, *, delimiter: str = "", case_sensitive: bool = False) -> Address:
        given_local, given_domain = split(path)
        local = given_local if case_sensitive else given_local.lower()
        domain = normal_domain(given_domain)
        user, extension = _split_extension(local, delimiter)
        keys = _keys(path, local, user, extension, domain)
        return cls(path, local, domain, keys, (path, given_local, user, extension, given_domain))


def _split_extension(local: str, delimiter: str) -> tuple[str, str]:
    if not delimiter or local.lower() in _NEVER_SPLIT:
        return local, ""
    if "-" in delimiter and (local.lower().startswith("owner-") or local.lower().endswith("-request")):
        return local, ""
    cut = min((i for i in (local.find(d, 1) for d in delimiter) if i > 0), default=-1)
    return (local, "") if cut < 0 else (local[:cut], local[cut:])


def _keys(path: str, local: str, user: str, extension: str, domain: str) -> tuple[str, ...]:
    keys = [path]
    keys += [f"{local}@{domain}", f"{user}@{domain}"] if extension else [f"{local}@{domain}"]
    keys += [f"{local}@", f"{user}@"] if extension else [f"{local}@"]
    if domain.startswith("["):
        keys.append(domain)
    elif domain:
        labels = domain.split(".")
        keys.append(domain)
        keys += ["." + ".".join(labels[i:]) for i in range(max(0, len(labels) - 20), len(labels))]
    keys.append(".")
    return tuple(dict.fromkeys(keys))

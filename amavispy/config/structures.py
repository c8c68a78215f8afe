"""Structures - the settings that are lists of tables or rules: scanners, client_ipaddr_policy, banned names.

**Failures:** BadValue with every problem of every entry.
"""

from __future__ import annotations

from typing import Any

from amavispy.config import inquiries
from amavispy.config.databases import blocklist
from amavispy.config.kinds import (
    BadValue,
    Context,
    Kind,
    Problem,
    boolean,
    each,
    members,
    number_of,
    octets_of,
    seconds_of,
    show,
    text_of,
    word_of,
)
from amavispy.config.lookups import networks, pattern_and_value
from amavispy.config.sockets import bank_names, host
from amavispy.mail.verdict import OnFailure
from amavispy.policy.lookup import IpTable
from amavispy.policy.settings import BannedRule, ClientRule, ScannerSpec

_ON_FAILURE = {"tempfail": OnFailure.TEMPFAIL, "unchecked": OnFailure.UNCHECKED, "pass": OnFailure.PASS}
# What a scanner of each type needs beside name and type, and what else it may have beside timeout and on_failure.
_SPAM = ("score_factor", "mail_body_size_limit")
_KEYS = {
    "clamd": (("address",), ()),
    "sssp": (("address",), ("sends",)),
    "savapi": (("address", "product"), ()),
    "icap": (("address", "service"), ("method",)),
    "daemon": (("address", "query", "infected"), ("clean", "names", "ends")),
    "command": (("command", "infected"), ("clean", "names")),
    "yara": (("rules",), ()),
    "spamd": (("address",), ("user", "compress", *_SPAM)),
    "rspamd": (("address",), ("password", "mta_name", *_SPAM)),
    "program": (("command",), ("statuses", *_SPAM)),
}
_WITH_FALLBACKS = ("clamd", "sssp", "savapi", "icap", "daemon")
_COMMON = ("name", "type", "timeout", "on_failure")


def scanners(*types: str) -> Kind:
    """A list of scanners of these types, each with its own name."""

    def convert(value: Any, context: Context) -> tuple[ScannerSpec, ...]:
        if not isinstance(value, list):
            raise BadValue(f"{show(value)} is not a list of tables", "expected [[...]] with name and type")
        found = each(enumerate(value), lambda entry: _scanner(entry, types, context))
        _names_differ(found)
        return tuple(found)

    return Kind("tables: name, type " + " or ".join(f'"{t}"' for t in types), convert, appends=True)


def _scanner(value: Any, types: tuple[str, ...], context: Context) -> ScannerSpec:
    converters = {
        "name": lambda v: _filled(text_of(v, context)),
        "type": lambda v: word_of(text_of(v, context), {t: t for t in types}),
        "address": lambda v: _addresses(v, context),
        "rules": lambda v: _rules(v, context),
        "timeout": lambda v: seconds_of(v, 1, 3600),
        "on_failure": lambda v: word_of(text_of(v, context), _ON_FAILURE),
        "command": lambda v: _command(v, context),
        "score_factor": lambda v: number_of(v, -1000, 1000),
        "mail_body_size_limit": lambda v: octets_of(v, 0, 1 << 40),
        "user": lambda v: text_of(v, context),
        "compress": boolean,
        "password": lambda v: text_of(v, context),
        "mta_name": lambda v: text_of(v, context),
        "statuses": _statuses,
        **inquiries.converters(context),
    }
    possible = {*_COMMON, *(key for kind in types for keys in _KEYS[kind] for key in keys)}
    found = members(value, {key: c for key, c in converters.items() if key in possible}, ("name", "type"))
    _keys_fit(found)
    return ScannerSpec(**inquiries.gathered(found))


def _keys_fit(found: dict[str, Any]) -> None:
    """Whether a scanner has all keys that its type needs, and none that its type does not know."""
    needed, optional = _KEYS[found["type"]]
    who = f"a scanner of type {found['type']}"
    problems = [Problem((), f"{key} is missing", f"{who} needs it") for key in needed if key not in found]
    allowed = f"it needs {', '.join(needed)}" + (f", and may have {', '.join(optional)}" if optional else "")
    known = (*_COMMON, *needed, *optional)
    problems += [Problem((key,), f"{who} has no {key}", allowed) for key in found if key not in known]
    if len(found.get("address", ())) > 1 and found["type"] not in _WITH_FALLBACKS:
        problems.append(Problem(("address",), f"{who} has one address", "several are for virus scanners"))
    if problems:
        raise BadValue.joined(problems)


def _filled(text: str) -> str:
    if not text.strip():
        raise BadValue("the name is empty", "expected a name for logs and reports")
    return text


def _names_differ(found: list[ScannerSpec]) -> None:
    names = [spec.name for spec in found]
    problems = [
        Problem((index, "name"), f"a scanner called {show(name)} stands in this list already", "every name only once")
        for index, name in enumerate(names)
        if name in names[:index]
    ]
    if problems:
        raise BadValue.joined(problems)


def _addresses(value: Any, context: Context) -> tuple[str, ...]:
    """One address, or a list of them: the next is asked when the one before fails."""
    if not isinstance(value, list):
        return (_address(text_of(value, context)),)
    if not value:
        raise BadValue("the list of addresses is empty", "expected at least one")
    return tuple(each(enumerate(value), lambda v: _address(text_of(v, context))))


def _address(text: str) -> str:
    """A socket's path, or host and port."""
    if text.startswith("/"):
        return text
    where, colon, port = text.rpartition(":")
    is_literal = where.startswith("[") and where.endswith("]")
    if (
        not colon
        or not port.isdigit()
        or not 0 < int(port[:9]) < 65536
        or (":" in where and not is_literal)
        or where == "*"
    ):
        raise BadValue(f"{show(text)} is not an address", 'expected "/path", "host:port" or "[v6]:port"')
    host(where[1:-1] if is_literal else where, is_literal)
    return text


def _rules(value: Any, context: Context) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise BadValue(f"{show(value)} has no rules", 'expected a list of "builtin", "heuristics" and files with rules')
    return tuple(each(enumerate(value), lambda v: _rule_file(text_of(v, context))))


def _command(value: Any, context: Context) -> tuple[str, ...]:
    """A program by its path, and its arguments; there is no shell that would understand anything else."""
    if not isinstance(value, list) or not value:
        raise BadValue(f"{show(value)} is no command", 'expected ["/path/of/program", "argument", ...]')
    found = each(enumerate(value), lambda v: text_of(v, context))
    if not found[0].startswith("/"):
        raise BadValue(f"{show(found[0])} is not the path of a program", 'expected "/..." as the first word')
    return tuple(found)


def _statuses(value: Any) -> tuple[tuple[int, float], ...]:
    if not isinstance(value, dict) or not value:
        raise BadValue(f"{show(value)} is not a table", 'expected exit statuses and scores: { "0" = 5.0, "1" = -5.0 }')
    return tuple(sorted(each(((key, (key, score)) for key, score in value.items()), _status)))


def _status(pair: tuple[str, Any]) -> tuple[int, float]:
    status, score = pair
    if not (status.isascii() and status.isdigit() and int(status[:4]) < 256):
        raise BadValue(f"{show(status)} is no exit status", "expected 0 to 255")
    return int(status[:4]), number_of(score, -1e6, 1e6)


def _rule_file(text: str) -> str:
    if text not in ("builtin", "heuristics") and not text.startswith("/"):
        raise BadValue(f"{show(text)} is no rule file", 'expected "builtin", "heuristics" or an absolute path "/..."')
    return text


def _client_rules(value: Any, context: Context) -> tuple[ClientRule, ...]:
    if not isinstance(value, list):
        raise BadValue(
            f"{show(value)} is not a list of tables", "expected [[client_ipaddr_policy]] with networks and banks"
        )
    converters = {
        "networks": lambda v: networks(v, context),
        "banks": lambda v: bank_names(v, context),
        "also": boolean,
        "dnsxl": lambda v: blocklist(v, None, context),
        "expected": lambda v: v,
    }
    return tuple(
        each(enumerate(value), lambda rule: _client_rule(members(rule, converters, ("banks",)), rule, context))
    )


def _client_rule(found: dict[str, Any], rule: Any, context: Context) -> ClientRule:
    """Networks, a blocklist, or both; the blocklist again with the answers expected of it."""
    if "networks" not in found and "dnsxl" not in found:
        raise BadValue("networks is missing", "this table needs it, or dnsxl")
    if "dnsxl" not in found and "expected" in found:
        raise BadValue("expected is of no use without dnsxl", "name the zone of a blocklist")
    if found.pop("expected", None) is not None:
        found["dnsxl"] = blocklist(rule["dnsxl"], rule["expected"], context)
    return ClientRule(**{"networks": IpTable.of(()), **found})


def _banned_rules(value: Any, _context: Context) -> tuple[BannedRule, ...]:
    if not isinstance(value, list):
        raise BadValue(f"{show(value)} is not a list", 'expected a list of "pattern" or ["pattern", value]')
    return tuple(
        BannedRule(*pair) for pair in each(enumerate(value), lambda rule: pattern_and_value(rule, _banned_value, True))
    )


def _banned_value(value: Any) -> str | bool:
    if not isinstance(value, (bool, str)):
        raise BadValue(f"{show(value)} is not an answer", "expected true, false or a text")
    return value


def client_rules_kind() -> Kind:
    return Kind("tables: networks, banks, also, dnsxl, expected", _client_rules, appends=True)


def banned_rules_kind() -> Kind:
    return Kind('list of "pattern" or ["pattern", value]', _banned_rules)

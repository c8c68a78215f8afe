"""Databases - settings of lookups in SQL and LDAP, and of name servers: what connects where, and how it is asked.

Data sources (URLs) stand in `config.storage`. Nothing is connected to here.

**Failures:** BadValue; no text of a password stands in a message.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from ipaddress import ip_address
from typing import Any

from amavispy.config.kinds import (
    BadValue,
    Context,
    Kind,
    boolean,
    each,
    integer_of,
    members,
    seconds_of,
    show,
    text_of,
    word_of,
)
from amavispy.policy.blocklist import Blocklist
from amavispy.tables.ldap_settings import LdapSettings

_CLAUSES = ("sel_policy", "sel_wblist")
_LATER = (
    "sel_adr", "ins_adr", "ins_msg", "upd_msg", "ins_rcp", "ins_quar", "sel_msg", "sel_quar", "sel_penpals",
    "sel_penpals_msgid",
)  # fmt: skip
_CLAUSE_LIMIT = 20_000
_LDAP_LATER = (
    "localaddr",
    "scheme",
    "version",
    "inet6",
    "sslversion",
    "sasl",
    "sasl_mech",
    "sasl_auth_id",
    "keepalive",
)
_FILTER_ITEM = re.compile(r"\([^()=]+=%m\)")
_ZONE = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9-]{2,63}")
_ANSWER = re.compile(r"(?:\d{1,3}\.){0,3}\d{1,3}")


def sql_clause_kind() -> Kind:
    return Kind(f"table of clauses: {', '.join(_CLAUSES)}", _sql_clause)


def _sql_clause(value: Any, _context: Context) -> dict[str, str]:
    if isinstance(value, dict) and (later := [name for name in value if name in _LATER]):
        raise BadValue(f"{later[0]} is not available in this version", f"expected {' or '.join(_CLAUSES)}")
    return members(value, {name: partial(_clause, name) for name in _CLAUSES}, ())


def _clause(name: str, value: Any) -> str:
    """A clause as it is: SQL has its own $; line ends are blanks."""
    if not isinstance(value, str) or len(value) > _CLAUSE_LIMIT:
        raise BadValue(f"{show(value)} is no SQL", 'expected "SELECT ...", or "" for none')
    text = re.sub(r"[\r\n\t]+", " ", value).strip()
    if text and not re.search(r"%[kaluedL]", text):
        raise BadValue(f"{name} asks the same for everybody", "expected %k, the list of keys, in it")
    if text and name == "sel_wblist" and "?" not in text:
        raise BadValue(f"{name} asks the same for every user", "expected ?, the users.id of the recipient, in it")
    return text


def ldap_kind() -> Kind:
    return Kind("table: hostname, base, query_filter, bind_dn, bind_password, tls, and more: lookups.md", _ldap)


def _ldap(value: Any, context: Context) -> LdapSettings:
    if isinstance(value, dict) and (later := [name for name in value if name in _LDAP_LATER]):
        raise BadValue(f"{later[0]} of amavis is not available in this version", "see lookups.md for what there is")

    def text(given: Any) -> str:
        return text_of(given, context)

    def word(*known: str) -> Callable[[Any], Any]:
        return lambda given: word_of(given, {name: name for name in known})

    converters: dict[str, Callable[[Any], Any]] = {
        "hostname": lambda given: _hosts(given, context),
        "port": lambda given: integer_of(given, 0, 65535),
        "base": text,
        "scope": word("base", "one", "sub"),
        "query_filter": lambda given: _query_filter(text(given)),
        "deref": word("never", "search", "find", "always"),
        "bind_dn": text,
        "bind_password": _secret,
        "timeout": lambda given: seconds_of(given, 0.1, 600),
        "tls": boolean,
        "verify": word("none", "optional", "require"),
        **dict.fromkeys(("cafile", "capath", "clientcert", "clientkey"), text),
    }
    return LdapSettings(**members(value, converters, ()))


def _hosts(value: Any, context: Context) -> tuple[str, ...]:
    texts = value if isinstance(value, list) else [value]
    found = tuple(each(enumerate(texts), lambda text: text_of(text, context)))
    if not found or not all(found):
        raise BadValue("there is no host", 'expected "ldap.example.com", "host:389" or "ldaps://host/", or several')
    return found


def _query_filter(text: str) -> str:
    if not _FILTER_ITEM.search(text) or text.count("(") != text.count(")"):
        raise BadValue(f"{show(text)} is no filter for addresses", 'expected "(...(mail=%m)...)"')
    return text


def _secret(value: Any) -> str:
    """A password, $ and all; it is never shown."""
    if not isinstance(value, str) or not value.isprintable():
        raise BadValue("this is no password", "expected a string in quotes")
    return value


def nameservers_kind() -> Kind:
    return Kind('list of "address" or "address:port"', _nameservers)


def _nameservers(value: Any, context: Context) -> tuple[tuple[str, int], ...]:
    if not isinstance(value, list):
        raise BadValue(f"{show(value)} is not a list", 'expected ["127.0.0.1", "[::1]:5353"]')
    return tuple(each(enumerate(value), lambda entry: _nameserver(text_of(entry, context))))


def _nameserver(text: str) -> tuple[str, int]:
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([0-9.]+)(?::(\d{1,5}))?|([0-9A-Fa-f:]+)", text)
    try:
        if not match:
            raise ValueError
        address = str(ip_address(match[1] or match[3] or match[5]))
        port = int(match[2] or match[4] or 53)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise BadValue(f"{show(text)} is no name server", 'expected "127.0.0.1", "127.0.0.1:5353" or "[::1]:5353"')
    return address, port


def blocklist(zones: Any, expected: Any, context: Context) -> Blocklist:
    """A blocklist as tables write it: `dnsxl` one zone or several, `expected` answers that count."""
    names = tuple(each(enumerate(zones if isinstance(zones, list) else [zones]), lambda zone: _zone(zone, context)))
    if not names:
        raise BadValue("there is no zone", 'expected "zen.example.org" or a list of zones')
    if expected is None:
        return Blocklist(names)
    if not isinstance(expected, list) or not expected:
        raise BadValue(f"{show(expected)} is not a list of answers", 'expected ["127.0.0.2", "0.4", "10"]')
    return Blocklist(names, tuple(each(enumerate(expected), _expected)))


def _zone(value: Any, context: Context) -> str:
    text = text_of(value, context).lower().rstrip(".")
    if not _ZONE.fullmatch(text.replace("%a", "a")) or len(text) > 200:
        raise BadValue(
            f"{show(text)} is no zone", 'expected a domain such as "zen.example.org"; %a is the address in it'
        )
    return text


def _expected(value: Any) -> str:
    if not isinstance(value, str):
        raise BadValue(f"{show(value)} is no answer", 'expected "127.0.0.2", "0.2", "2" or "/pattern/"')
    if len(value) > 2 and value.startswith("/") and value.endswith("/"):
        try:
            re.compile(value[1:-1])
        except re.error as error:
            raise BadValue(f"{show(value)} is no pattern: {error}", "expected Python's re syntax between slashes")
    elif not _ANSWER.fullmatch(value) or any(int(octet) > 255 for octet in value.split(".")):
        raise BadValue(f"{show(value)} is no answer", 'expected "127.0.0.2", "0.2", "2" or "/pattern/"')
    return value

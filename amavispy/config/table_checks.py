"""Table checks - tables of databases in lookup lists against the settings that connect to these databases."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from amavispy.config.conversion import Draft
from amavispy.config.findings import Finding, fault
from amavispy.config.implied import COLUMNS
from amavispy.config.kinds import nearest, show
from amavispy.config.sources import Path
from amavispy.policy.blocklist import Blocklisted
from amavispy.policy.directory import OF_OTHERS, Field
from amavispy.policy.lookup import LookupList
from amavispy.policy.settings import Settings
from amavispy.tables.ldap_settings import QUERY_FILTER

_OTHER_COLUMNS = ("id", "priority", "policy_id", "email", "fullname", "policy_name")
_NEEDED = {
    "sql": ("lookup_sql_dsn", 'set lookup_sql_dsn = "postgresql://user:password@host/database"'),
    "redis": ("lookup_redis_dsn", 'set lookup_redis_dsn = "redis://host:6379/0"'),
}
_DRIVERS = {"postgresql": "psycopg", "mysql": "pymysql", "sqlite": "sqlite3"}
_KINDS = {"truth": "true or false", "number": "a number", "text": "a text"}


def tables(draft: Draft) -> Iterator[tuple[Path, str, Any]]:
    """Every table that asks a database or DNS: its path, the setting, the table."""
    for path, name, value in _written(draft):
        if isinstance(value, LookupList):
            for index, table in enumerate(value.tables):
                if isinstance(table, Field | Blocklisted):
                    yield (*path, name, index), name, table


def _written(draft: Draft) -> Iterator[tuple[Path, str, Any]]:
    yield from (((), f.name, getattr(draft.base, f.name)) for f in fields(Settings))
    for bank, overrides in draft.overrides.items():
        yield from ((("policy_bank", bank), name, value) for name, value in overrides.items())


def tables_without_database(draft: Draft) -> Iterator[Finding]:
    for path, name, table in tables(draft):
        if name in OF_OTHERS:
            yield fault(path, "this list is asked about viruses, no database knows them", "expected a hash or regexp")
        elif isinstance(table, Field) and table.source in _NEEDED:
            setting, allowed = _NEEDED[table.source]
            if not getattr(draft.server, setting):
                yield fault(path, f"there is no {setting} for this table", allowed)
        elif isinstance(table, Field) and not _has_ldap(draft):
            yield fault(path, "LDAP is not enabled", "set enable_ldap = true and [default_ldap]")


def unknown_columns(draft: Draft) -> Iterator[Finding]:
    """A name outside amavis' schema is a slip, unless the site asks its databases in a way of its own."""
    for path, _, table in tables(draft):
        if not isinstance(table, Field) or (table.source != "redis" and _has_own_schema(draft, table.source)):
            continue
        kinds = _known(table.source)
        kind = kinds.get(table.name.lower())
        if kind is None and table.source != "redis":
            hint = nearest(table.name, _names(table.source))
            what = "attribute" if table.source == "ldap" else "column"
            own = "default_ldap.query_filter" if table.source == "ldap" else "sql_clause.sel_policy"
            problem = f"amavis' schema has no {what} {show(table.name)}{', ' + hint if hint else ''}"
            yield fault(path, problem, f"any is allowed with a {own} of your own")
        elif kind and kind != table.kind:
            problem = f"{show(table.name)} holds {_KINDS[kind]}"
            yield fault(path, problem, f"this setting needs {_KINDS[table.kind]}")


def ldap_without_base(draft: Draft) -> Iterator[Finding]:
    if _has_ldap(draft) and not draft.server.default_ldap.base:
        allowed = 'expected default_ldap = { base = "dc=example,dc=com" }'
        yield fault(("enable_ldap",), "the base of default_ldap is missing", allowed)


def missing_modules(draft: Draft) -> Iterator[Finding]:
    """Python packages that this configuration needs and that are extras of ours."""
    for index, dsn in enumerate(draft.server.lookup_sql_dsn):
        driver = _DRIVERS[dsn.partition("://")[0]]
        yield from _missing(("lookup_sql_dsn", index), ("sqlalchemy", driver), "sql")
    if draft.server.lookup_redis_dsn:
        yield from _missing(("lookup_redis_dsn",), ("redis",), "redis")
    if _has_ldap(draft):
        yield from _missing(("enable_ldap",), ("ldap3",), "ldap")
    for path in _blocklists(draft):
        yield from _missing(path, ("dns",), "dns")


def _missing(path: Path, modules: tuple[str, ...], extra: str) -> Iterator[Finding]:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            yield fault(
                path, f"needs the Python module {module}, which is not installed", f"pip install 'amavispy[{extra}]'"
            )


def _blocklists(draft: Draft) -> Iterator[Path]:
    yield from (path for path, _, table in tables(draft) if isinstance(table, Blocklisted))
    for path, settings in draft.banks():
        for index, rule in enumerate(settings.client_ipaddr_policy):
            if rule.dnsxl is not None and (not path or "client_ipaddr_policy" in draft.overrides[str(path[1])]):
                yield (*path, "client_ipaddr_policy", index)


def _has_ldap(draft: Draft) -> bool:
    return any(settings.enable_ldap for _, settings in draft.banks())


def _has_own_schema(draft: Draft, source: str) -> bool:
    if source == "ldap":
        return draft.server.default_ldap.query_filter != QUERY_FILTER
    return any("sel_policy" in settings.sql_clause for _, settings in draft.banks())


def _known(source: str) -> dict[str, str]:
    found = {(column.ldap if source == "ldap" else column.sql).lower(): column.kind for column in COLUMNS}
    return found if source == "ldap" else {**dict.fromkeys(_OTHER_COLUMNS, ""), **found}


def _names(source: str) -> list[str]:
    return [column.ldap if source == "ldap" else column.sql for column in COLUMNS]

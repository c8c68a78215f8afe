"""Storage - the settings that say where copies and records are kept: methods, data sources, lifetimes, partitions.

Nothing is connected to here.

**Failures:** BadValue.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from amavispy.config.kinds import BadValue, Context, Kind, each, members, octets_of, seconds_of, show, text_of
from amavispy.mail.next_hop import NextHop

CATEGORIES = ("virus", "banned", "unchecked", "spam", "bad_header", "clean", "archive")
_METHODS = '"local:TEMPLATE", "maildir:DIRECTORY", "mbox:FILE", "bsmtp:TEMPLATE", "sql:", "smtp:[ADDRESS]:PORT" or ""'
_PATH = r"(?!/)(?!.*\.\.)(?:[A-Za-z0-9._+/-]|%[mbPnis%])+"
_FILE_METHOD = re.compile(rf"local:{_PATH}|maildir:{_PATH}|mbox:{_PATH}|bsmtp:{_PATH}")
_PARTITION = re.compile(r"|\d{1,9}|(?:%[VjumdyHG])+")  # each of these is a number
_SQL = ("postgresql", "mysql", "sqlite")
_SQL_FORMS = '"postgresql://user:password@host/database", "mysql://..." or "sqlite:////path"'
_REDIS_FORMS = '"redis://:password@host:6379/0" or "unix:///path?db=0"'
_FOREVER = 100 * 365 * 86_400.0


def quarantine_method_kind() -> Kind:
    return Kind(f"{_METHODS} for none", _quarantine_method, is_text=True)


def _quarantine_method(value: Any, context: Context) -> str:
    found = text_of(value, context)
    if found in ("", "sql:") or _FILE_METHOD.fullmatch(found):
        return found
    if found.startswith(("smtp:", "lmtp:")):
        try:
            next_hop = NextHop.parse(found)
        except ValueError as error:
            raise BadValue(f"{show(found)} is no quarantine method", str(error))
        if not next_hop.path and not (next_hop.port and next_hop.host != "*"):
            raise BadValue(f"{show(found)} leads nowhere", "a quarantine needs a host and a port")
        return found
    raise BadValue(f"{show(found)} is no quarantine method", f"expected {_METHODS}; names may hold %m %b %P %n %i %s")


def partition_kind() -> Kind:
    return Kind('"", a number, or dates: "%V" is the ISO week', _partition, is_text=True)


def _partition(value: Any, context: Context) -> str:
    found = text_of(value, context)
    if not _PARTITION.fullmatch(found) or len(found) > 9:
        raise BadValue(f"{show(found)} is no partition", 'expected a number, or %V %j %u %m %d %y %H %G: "%y%V"')
    return found


# --- data sources


def sql_kind() -> Kind:
    return Kind(f"{_SQL_FORMS}, or a list of them", lambda value, context: _sources(value, context, _sql))


def redis_kind() -> Kind:
    return Kind(f"{_REDIS_FORMS}, or a list of them", lambda value, context: _sources(value, context, _redis))


def index_kind() -> Kind:
    return Kind('path of an SQLite file, "postgresql://user:password@host/database", "" for none', _index, is_text=True)


def _sources(value: Any, context: Context, check: Any) -> tuple[str, ...]:
    """One data source or several; the next is used when the one before does not answer."""
    if isinstance(value, list):
        return tuple(each(enumerate(value), lambda entry: check(entry, context)))
    return () if value == "" else (check(value, context),)


def _sql(value: Any, context: Context) -> str:
    found = text_of(value, context)
    scheme, _, rest = found.partition("://")
    if scheme not in _SQL or not rest or not _is_url(found):
        raise BadValue(f"{_hidden(found)} is not a database", f"expected {_SQL_FORMS}")
    if scheme == "sqlite" and not rest.startswith("//"):
        raise BadValue(f"{_hidden(found)} has no absolute path", 'expected "sqlite:////path", with four strokes')
    return found


def _redis(value: Any, context: Context) -> str:
    found = text_of(value, context)
    if found.partition("://")[0] not in ("redis", "rediss", "unix") or not _is_url(found):
        raise BadValue(f"{_hidden(found)} is no Redis server", f"expected {_REDIS_FORMS}")
    return found


def _index(value: Any, context: Context) -> str:
    found = text_of(value, context)
    if not found or (found.startswith("/") and ".." not in found.split("/")):
        return found
    if not found.startswith("postgresql://") or not _is_url(found):
        raise BadValue(f"{_hidden(found)} cannot be an index", 'expected "/path" or "postgresql://..."')
    return found


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.port is None or 0 < parts.port < 65536
    except ValueError:
        return False


def _hidden(text: str) -> str:
    """The text for a message, without the password in it."""
    return show(re.sub(r"://[^/@]*@", "://...@", text))


# --- lifetimes


def lifetimes_kind() -> Kind:
    return Kind('table: category = "30d"', lambda value, _: _by_category(value, lambda v: seconds_of(v, 1, _FOREVER)))


def sizes_kind() -> Kind:
    return Kind('table: category = "10GB"', lambda value, _: _by_category(value, lambda v: octets_of(v, 0, 1 << 60)))


def _by_category(value: Any, convert: Any) -> Mapping[str, Any]:
    return members(value, dict.fromkeys(CATEGORIES, convert), ())

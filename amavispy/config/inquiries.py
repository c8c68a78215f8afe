"""Inquiries - what an [[av_scanners]] entry says of how its scanner is asked and understood.

Converters by key, and the `Inquiry` that the converted values make. Patterns are Python's, searched line by line (`^`
and `$` match at lines). Nothing here knows which type needs which key; `config.structures` does.

**Failures:** BadValue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from amavispy.config.kinds import BadValue, Context, each, integer_of, show, text_of, word_of
from amavispy.policy.inquiry import Condition, Inquiry

_QUERY_LIMIT = 2000
_SERVICE = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/?-]{1,200}")
_PRODUCT = re.compile(r"[!-~]{1,100}")
KEYS = ("query", "infected", "clean", "names", "ends", "service", "method", "product", "sends")


def converters(context: Context) -> Mapping[str, Callable[[Any], Any]]:
    """A converter for each of KEYS."""
    return {
        "query": _query,
        "infected": _condition,
        "clean": _condition,
        "names": _names,
        "ends": lambda v: word_of(text_of(v, context), {w: w for w in ("close", "line")}),
        "service": lambda v: _matching(text_of(v, context), _SERVICE, "the name of an ICAP service"),
        "method": lambda v: word_of(text_of(v, context), {w: w for w in ("RESPMOD", "REQMOD")}),
        "product": lambda v: _matching(text_of(v, context), _PRODUCT, "a product's number"),
        "sends": lambda v: word_of(text_of(v, context), {w: w for w in ("data", "paths")}),
    }


def gathered(found: dict[str, Any]) -> dict[str, Any]:
    """The members of a ScannerSpec out of those of a table: the keys above and further addresses make its inquiry."""
    inside = {key: found[key] for key in KEYS if key in found}
    first, *others = found.get("address") or ("",)
    outside = {key: value for key, value in found.items() if key not in KEYS}
    return {**outside, "address": first, "inquiry": Inquiry(fallbacks=tuple(others), **inside)}


def _query(value: Any) -> str:
    """A text with line ends: `$` stands for itself."""
    if not isinstance(value, str) or len(value) > _QUERY_LIMIT or not ("*" in value or "{}" in value):
        raise BadValue(f"{show(value)} is no query", "expected a text with {} for the directory or {}/* for each file")
    return value


def _condition(value: Any) -> Condition:
    if isinstance(value, list) and value:
        return tuple(each(enumerate(value), lambda status: integer_of(status, 0, 255)))
    return _pattern(value)


def _pattern(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadValue(f"{show(value)} is not a pattern", "expected a regular expression, or a list of exit statuses")
    try:
        re.compile(value, re.MULTILINE)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadValue(f"{show(value)} is not a regular expression: {error}", "expected Python's re syntax")
    return value


def _names(value: Any) -> str:
    pattern = _pattern(value)
    if not re.compile(pattern).groups:
        raise BadValue(f"{show(value)} has no group", "expected a pattern with ( ) around the name")
    return pattern


def _matching(text: str, pattern: re.Pattern[str], expected: str) -> str:
    if not pattern.fullmatch(text):
        raise BadValue(f"{show(text)} cannot be used here", f"expected {expected}")
    return text

"""Banned - named lists of banned rules, and the lookup list that says which of them hold for a recipient.

    [banned_rules]
    NO-PROGRAMS = ['\\.exe$', ['\\.txt$', false]]

    banned_filename_maps = [{ "ann@example.org" = ["NO-PROGRAMS", [['\\.zip$', "DISCARD"]]] }, "DEFAULT"]

A value of the lookup list is a text with names, or a list in which texts are names and lists are rules on the spot.

**Failures:** BadValue with every problem of every entry.
"""

from __future__ import annotations

import re
from typing import Any

from amavispy.config.kinds import BadValue, Context, Kind, each, show, text_of
from amavispy.config.lookups import ValueKind, lookup_list
from amavispy.config.structures import banned_rules_kind
from amavispy.policy.directory import TEXT
from amavispy.policy.settings import BannedRule

_RULES = banned_rules_kind()
_NAME = re.compile(r"[^\s,\"'$]{1,80}")


def banned_rule_lists_kind() -> Kind:
    return Kind("table: name = list of rules", _rule_lists)


def banned_filename_maps_kind() -> Kind:
    return lookup_list(
        ValueKind('names of banned_rules, or ["NAME", [rule, ...]]', _answer, lambda text: text, column=TEXT)
    )


def _rule_lists(value: Any, context: Context) -> dict[str, tuple[BannedRule, ...]]:
    if not isinstance(value, dict):
        raise BadValue(f"{show(value)} is not a table", "expected [banned_rules] with NAME = [rule, ...]")
    lists = each(((name, (name, rules)) for name, rules in value.items()), lambda e: _rule_list(e[0], e[1], context))
    return dict(zip(value, lists, strict=True))


def _rule_list(name: str, rules: Any, context: Context) -> tuple[BannedRule, ...]:
    if not _NAME.fullmatch(name):
        raise BadValue(f"{show(name)} cannot name a list of rules", "expected a word without blanks and commas")
    found: tuple[BannedRule, ...] = _RULES.convert(rules, context)
    return found


def _answer(value: Any, context: Context) -> Any:
    """A text with names as it is; a list as a tuple of names and lists of rules."""
    if isinstance(value, str):
        return text_of(value, context)
    if not isinstance(value, list):
        raise BadValue(f"{show(value)} is no choice of rules", "expected names of banned_rules, or a list of them")
    return tuple(each(enumerate(value), lambda entry: _entry(entry, context)))


def _entry(entry: Any, context: Context) -> Any:
    return text_of(entry, context) if isinstance(entry, str) else _RULES.convert(entry, context)

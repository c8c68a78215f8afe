"""Banned rules - which lists of rules hold for a recipient (specification, chapter 6.8).

In: the settings in force and a recipient's address. Out: lists of BannedRule, to be tried one after the other.
`banned_filename_maps` is asked for all its answers, not for the first; each is a text with names of rule lists, blanks
or commas between them, or a sequence in which texts are names and BannedRules are a list on the spot. Names mean
`banned_rules`; DEFAULT means `banned_filename_re` unless it is defined there.

**Failures:** none; an unknown name, from a table that can change while we run, is logged and left out.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from typing import Any

from amavispy.mail.address import Address
from amavispy.policy.lookup import Constant, Hash, LookupList, RegexpList
from amavispy.policy.settings import BannedRule, Settings

RuleList = tuple[BannedRule, ...]

DEFAULT = "DEFAULT"
_LEVEL_2 = 15  # amavis' log level 2
_NAME = re.compile(r'"((?:[^"\\]|\\.){0,999})"|([^\s,"]+)')
_ESCAPE = re.compile(r"\\(.)")
_log = logging.getLogger("amavispy.policy")


def has_rules(settings: Settings) -> bool:
    """Whether anybody may have rules at all; False costs the least."""
    if settings.banned_filename_re or settings.banned_rules or settings.banned_namepath_re:
        return True
    return any(_lists_in(answer) for answer in answers_in(settings.banned_filename_maps))


def is_same_for_all(settings: Settings) -> bool:
    """Whether every recipient has the same rules; `lists_for` may then be asked once, for anybody."""
    return all(isinstance(table, Constant) for table in settings.banned_filename_maps.tables)


def lists_for(settings: Settings, address: Address) -> tuple[RuleList, ...]:
    """The recipient's lists of rules, in order. The same lists are the same objects, whoever asks."""
    answers = settings.banned_filename_maps.find_all(address)
    return tuple(rules for answer in answers for rules in _meant(answer, settings) if rules)


def all_lists(settings: Settings) -> Iterator[RuleList]:
    """Every list that the settings hold, for whoever compiles them before they are needed."""
    yield settings.banned_filename_re
    yield from settings.banned_rules.values()
    for answer in answers_in(settings.banned_filename_maps):
        yield from _lists_in(answer)


def answers_in(maps: LookupList) -> Iterator[Any]:
    """All answers that the tables in memory could give."""
    for table in maps.tables:
        match table:
            case Constant():
                yield table.value
            case Hash():
                yield from table.mapping.values()
            case RegexpList():
                yield from (value for _, value in table.entries)


def names_in(answer: Any) -> list[str]:
    """The names of rule lists in an answer."""
    if isinstance(answer, str):
        return [_ESCAPE.sub(r"\1", quoted) if quoted else bare for quoted, bare in _NAME.findall(answer)]
    if isinstance(answer, tuple):
        return [name for entry in answer if isinstance(entry, str) for name in names_in(entry)]
    return []


def _lists_in(answer: Any) -> list[RuleList]:
    return [entry for entry in answer if isinstance(entry, tuple)] if isinstance(answer, tuple) else []


def _meant(answer: Any, settings: Settings) -> Iterator[RuleList]:
    if isinstance(answer, tuple):
        for entry in answer:
            yield from _meant(entry, settings) if isinstance(entry, str) else (entry,)
        return
    for name in names_in(answer):
        if name in settings.banned_rules:
            yield settings.banned_rules[name]
        elif name == DEFAULT:
            yield settings.banned_filename_re
        else:
            _log.log(_LEVEL_2, "unknown list of banned rules: %s", name)

"""Banned - which part of a mail a recipient's rules forbid, by type and name.

In: the tree of Parts and a table of rules, compiled once. Out: a `Banned` that tells the part's path as amavis prints
it, or None. It decides nothing: destinies and lovers are the policy's matter.

For every leaf, breadth-first, the keys are those of all its ancestors and its own, root to leaf: declared types, short
types with a dot, names, UNDECIPHERABLE. The first rule that matches any key decides: a true value bans, a false one
ends the search for this part (specification, chapter 6.8). Mail carries the same few keys again and again, so each
node's first matching rule is found once, with one combined pattern that says no to most keys at once.

**Failures:** `BannedRules.compiled` raises re.error for a pattern that is none; the configuration has checked them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from amavispy.mail.verdict import Banned, Part
from amavispy.policy.settings import BannedRule

_NO_RULE = 1 << 30
_COMMENT = re.compile(r"\(\?#\s*(.*?)\s*\)", re.S)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_GROUPED = re.compile(r"\\[1-9]|\(\?P[<=]|\(\?\(|^\(\?[a-zA-Z]+\)")


@dataclass(frozen=True, slots=True)
class BannedRules:
    """A compiled table. `any_rule` matches when some rule does; None when they cannot be combined."""

    rules: tuple[BannedRule, ...]
    patterns: tuple[re.Pattern[str], ...]
    any_rule: re.Pattern[str] | None

    @classmethod
    def compiled(cls, rules: tuple[BannedRule, ...]) -> BannedRules:
        patterns = tuple(re.compile(rule.pattern, re.IGNORECASE) for rule in rules)
        return cls(rules, patterns, _combined(rules))

    def find(self, parts: Sequence[Part]) -> Banned | None:
        """The first part that is banned."""
        return _Search(self, parts).run() if self.rules else None

    def first_match(self, keys: Sequence[str]) -> int:
        """The position of the first rule that matches one of the keys, or a number beyond all rules."""
        if self.any_rule is not None:
            keys = [key for key in keys if self.any_rule.search(key)]
        for position, pattern in enumerate(self.patterns if keys else ()):
            if any(pattern.search(key) for key in keys):
                return position
        return _NO_RULE


def _combined(rules: tuple[BannedRule, ...]) -> re.Pattern[str] | None:
    """All patterns as alternatives; back references and flags of their own would change their meaning together."""
    if any(_GROUPED.search(rule.pattern) for rule in rules):
        return None
    try:
        return re.compile("|".join(f"(?:{rule.pattern})" for rule in rules), re.IGNORECASE)
    except re.error:
        return None


class _Search:
    """One mail against one table."""

    def __init__(self, rules: BannedRules, parts: Sequence[Part]) -> None:
        self.rules = rules
        self.parts = {part.number: part for part in parts}
        self.decided: dict[int, int] = {}  # part number -> first rule matching it or an ancestor

    def run(self) -> Banned | None:
        for part in breadth_first(tuple(self.parts.values())):
            position = min(self.rules.first_match(_keys(part)), self.decided.get(part.parent or 0, _NO_RULE))
            self.decided[part.number] = position
            if part.is_leaf and position != _NO_RULE and self.rules.rules[position].value not in (False, "", "0"):
                return _banned(self.path(part), self.rules.rules[position])
        return None

    def path(self, part: Part | None) -> tuple[Part, ...]:
        """The part and what contains it, root first."""
        nodes: list[Part] = []
        while part is not None:
            nodes.append(part)
            part = self.parts.get(part.parent or 0)
        return tuple(reversed(nodes))


def breadth_first(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts in the order in which amavis walks their tree."""
    children: dict[int, list[Part]] = {}
    for part in parts:
        children.setdefault(part.parent or 0, []).append(part)
    level = children.get(0, [])
    while level:
        yield from level
        level = [child for part in level for child in sorted(children.get(part.number, ()), key=_place)]


def _place(part: Part) -> int:
    """Its place among its siblings, the last number of its location; preambles share their container's."""
    return int(part.location.rpartition("/")[2])


def _keys(part: Part) -> list[str]:
    keys = [*part.types, *(f".{short}" for short in part.short_types), *part.names]
    if "U" in part.attributes:
        keys.append("UNDECIPHERABLE")
    return keys


def _banned(path: tuple[Part, ...], rule: BannedRule) -> Banned:
    comment = _COMMENT.search(rule.pattern)
    leaf = _described(path[-1])
    return Banned(
        path=" | ".join(described for part in path if (described := _described(part))),
        attributes_path=" | ".join(_attributes(part) for part in path),
        rule_key=rule.pattern,
        rule_value="1" if rule.value is True else str(rule.value),
        rule_comment=comment[1] if comment else rule.pattern,
        reason=f"{comment[1]}:{leaf}" if comment else leaf,
    )


def _described(part: Part) -> str:
    """`application/zip,.zip,x.zip`: what logs, replies and the BANNED header show of a part."""
    return ",".join(_shown(key) for key in (*part.types, *(f".{short}" for short in part.short_types), *part.names))


def _attributes(part: Part) -> str:
    """`P=p002,L=1/2,M=application/zip,T=zip,N=x.zip,A=U`."""
    fields = [f"P=p{part.number:03d}", f"L={part.location}"]
    for letter, values in (("M", part.types), ("T", part.short_types), ("N", part.names), ("A", part.attributes)):
        fields += [f"{letter}={_shown(value)}" for value in values]
    return ",".join(fields)


def _shown(key: str) -> str:
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02X}", key)


class BannedTables:
    """Compiled tables by their rules. `prepare` compiles before the workers are forked; a few more may come later."""

    _REMEMBERED = 200

    def __init__(self) -> None:
        self._compiled: dict[int, tuple[tuple[BannedRule, ...], BannedRules]] = {}

    def prepare(self, rules: tuple[BannedRule, ...]) -> BannedRules:
        """The compiled table; by identity, which is cheap and safe because the rules are kept with it."""
        found = self._compiled.get(id(rules))
        if found is None:
            if len(self._compiled) >= self._REMEMBERED:
                self._compiled.clear()
            found = self._compiled[id(rules)] = (rules, BannedRules.compiled(rules))
        return found[1]

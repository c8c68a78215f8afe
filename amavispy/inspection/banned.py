"""Banned - which part of a mail each recipient's rules forbid, by type, name, or place in the mail.

In: the tree of Parts, the settings in force and the recipients. Out: one `Banned` a recipient, telling the part's path
as amavis prints it, or None. It decides nothing: destinies and lovers are the policy's matter.

For every leaf, breadth-first, the keys are those of all its ancestors and its own, root to leaf: declared types, short
types with a dot, names, UNDECIPHERABLE. The first rule that matches any key decides: a true value bans, a false one
ends the search for this part (specification, chapter 6.8). A leaf that no rule of the recipient has an opinion on is
shown to banned_namepath_re, as one text that describes the whole path.

A name that clients may know in another form (`name_forms`) is a reading of its own: the part is banned if it is in any
reading, and a rule that allows one reading says nothing of the others.

Mail carries the same few types again and again, so what matches a type is remembered, and recipients with the same
rules share one search.

**Failures:** compiling raises re.error for a pattern that is none; the configuration has checked them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from amavispy.inspection.name_forms import forms
from amavispy.mail.verdict import Banned, Part
from amavispy.policy.banned_rules import RuleList, all_lists, is_same_for_all, lists_for
from amavispy.policy.recipient import RecipientPolicy
from amavispy.policy.settings import BannedRule, Settings

_NO_RULE = 1 << 30
_REMEMBERED = 500
_LEVEL_1 = logging.INFO
_LEVEL_3 = logging.DEBUG

_COMMENT = re.compile(r"\(\?#\s*(.*?)\s*\)", re.S)
_UNSHOWABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_WIDE_BLANK = re.compile(r"[ \t]{6,}")
_GROUPED = re.compile(r"\\[1-9]|\(\?P[<=]|\(\?\(|^\(\?[a-zA-Z]+\)")
_SEPARATORS = {ord("\t"): " ", ord("\n"): " "}
_log = logging.getLogger("amavispy.banned")

_NAMELESS: tuple[tuple[str, ...], ...] = ((),)
_NOWHERE = (_NO_RULE,)

Positions = tuple[int, ...]  # of the first rule that matches, in each reading


@dataclass(frozen=True, slots=True)
class BannedRules:
    """A compiled table. `any_rules` together match whatever some rule does; None when they cannot be combined."""

    rules: RuleList
    patterns: tuple[re.Pattern[str], ...]
    any_rules: tuple[re.Pattern[str], ...] | None
    types: dict[str, int] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def compiled(cls, rules: RuleList, flags: int = re.IGNORECASE) -> BannedRules:
        patterns = tuple(re.compile(rule.pattern, flags) for rule in rules)
        return cls(rules, patterns, _combined(rules, flags))

    @classmethod
    def joined(cls, tables: Sequence[BannedRules]) -> BannedRules:
        """Several tables as one, tried in order; nothing is compiled again."""
        combined: list[re.Pattern[str]] | None = []
        for table in tables:
            combined = None if combined is None or table.any_rules is None else [*combined, *table.any_rules]
        return cls(
            tuple(rule for table in tables for rule in table.rules),
            tuple(pattern for table in tables for pattern in table.patterns),
            None if combined is None else tuple(combined),
        )

    def of_name(self, key: str) -> int:
        """The position of the first rule that matches the key, or a number beyond all rules."""
        if self.any_rules is not None and not any(pattern.search(key) for pattern in self.any_rules):
            return _NO_RULE
        return next((n for n, pattern in enumerate(self.patterns) if pattern.search(key)), _NO_RULE)

    def of_type(self, key: str) -> int:
        """The same for a key that comes again."""
        known = self.types.get(key)
        if known is None:
            if len(self.types) >= _REMEMBERED:
                self.types.clear()
            known = self.types[key] = self.of_name(key)
        return known


def _combined(rules: RuleList, flags: int) -> tuple[re.Pattern[str], ...] | None:
    """All patterns as alternatives; back references and flags of their own would change their meaning together."""
    if any(_GROUPED.search(rule.pattern) for rule in rules):
        return None
    try:
        return (re.compile("|".join(f"(?:{rule.pattern})" for rule in rules), flags),) if rules else ()
    except re.error:
        return None


class _Node:
    """A part and what rules look at in it. Most parts have one reading; each odd form of a name adds one."""

    __slots__ = ("name_readings", "parent", "part", "types")

    def __init__(self, part: Part, parent: _Node | None) -> None:
        self.part = part
        self.parent = parent
        self.types = [*part.types, *["." + short for short in part.short_types]]
        if "U" in part.attributes:
            self.types.append("UNDECIPHERABLE")
        self.name_readings = _readings(part.names) if part.names else _NAMELESS

    @property
    def path(self) -> list[_Node]:
        """The node and what contains it, root first."""
        nodes: list[_Node] = []
        node: _Node | None = self
        while node is not None:
            nodes.append(node)
            node = node.parent
        return nodes[::-1]


def _readings(names: tuple[str, ...]) -> Sequence[tuple[str, ...]]:
    """The names as given, then with each of the forms they may be known by."""
    odd = [forms(name) for name in names]
    readings = [names]
    for number in range(max(map(len, odd), default=0)):
        readings.append(tuple(_at((name, *others), number + 1, 1) for name, others in zip(names, odd, strict=True)))
    return readings


def _at(forms_of_one: tuple[str, ...], number: int, otherwise: int) -> str:
    """This form, another one when there are not so many, the name itself when there is no other."""
    count = len(forms_of_one)
    return forms_of_one[number if number < count else otherwise if otherwise < count else 0]


class _Tree:
    """The parts of one mail, made ready for any number of searches."""

    def __init__(self, parts: Sequence[Part], namepath: BannedRules | None) -> None:
        nodes: dict[int, _Node] = {}
        for part in breadth_first(parts):
            nodes[part.number] = _Node(part, nodes.get(part.parent or 0))
        self.nodes = list(nodes.values())
        self._namepath = namepath
        self._by_path: dict[int, BannedRule | None] = {}

    def rule_of_path(self, node: _Node) -> BannedRule | None:
        """What banned_namepath_re says of a leaf, for all recipients alike."""
        rules, number = self._namepath, node.part.number
        if rules is None:
            return None
        if number not in self._by_path:
            self._by_path[number] = _deciding(rules, [rules.of_name(text) for text in _path_texts(node)])
        return self._by_path[number]


class _Search:
    """One tree against the rules of some recipients."""

    def __init__(self, rules: BannedRules, tree: _Tree, addresses: Sequence[str]) -> None:
        self.rules = rules
        self.tree = tree
        self.addresses = addresses
        self.names: dict[str, int] = {}

    def run(self) -> Banned | None:
        """The first part that is banned; a later one whose rule says DISCARD still silences the bounce."""
        first: Banned | None = None
        reached: dict[int, Positions] = {}
        is_logged = _log.isEnabledFor(_LEVEL_1)
        for node in self.tree.nodes:
            positions = self._positions(node)
            if node.parent:
                positions = _merged(positions, reached[node.parent.part.number])
            reached[node.part.number] = positions
            if not node.part.is_leaf:
                continue
            rule = None if positions == _NOWHERE else _deciding(self.rules, positions)
            rule = rule or self.tree.rule_of_path(node)
            bans = rule is not None and _is_true(rule.value)
            if is_logged:
                self._tell(node, rule, bans)
            if rule is None or not bans:
                continue
            if first is None:
                first = _banned(node.path, rule)
            elif str(rule.value).startswith("DISCARD") and not first.rule_value.startswith("DISCARD"):
                first = replace(first, rule_value=str(rule.value))
        return first

    def _positions(self, node: _Node) -> Positions:
        """The first rule that matches the node alone, in each of its readings."""
        first, known = _NO_RULE, self.rules.types
        for key in node.types:
            position = known[key] if key in known else self.rules.of_type(key)
            if position < first:
                first = position
        if node.name_readings is _NAMELESS:
            return _NOWHERE if first == _NO_RULE else (first,)
        return tuple([min([first, *map(self._of_name, names)]) for names in node.name_readings])

    def _of_name(self, name: str) -> int:
        known = self.names.get(name)
        if known is None:
            known = self.names[name] = self.rules.of_name(name)
        return known

    def _tell(self, node: _Node, rule: BannedRule | None, bans: bool) -> None:
        """`p.path BANNED:1 a@b: "P=p003,L=1,M=... | P=p002,...", matching_key="..."`."""
        level = _LEVEL_1 if bans else _LEVEL_3
        if not _log.isEnabledFor(level):
            return
        verdict = f" BANNED:{_written(rule.value)}" if rule and bans else ""
        key = f', matching_key="{rule.pattern}"' if rule else ""
        path = _attributes_path(node.path)
        for address in self.addresses:
            _log.log(level, 'p.path%s %s: "%s"%s', verdict, address, path, key)


def _merged(own: Positions, above: Positions) -> Positions:
    """The first rule that matches a node or what contains it, in each reading of either."""
    if len(own) == len(above) == 1:
        return min(own, above)
    count = max(len(own), len(above))
    return tuple([min(_reading(own, n), _reading(above, n)) for n in range(count)])


def _reading(positions: Positions, number: int) -> int:
    if number < len(positions):
        return positions[number]
    return positions[0]


def _deciding(rules: BannedRules, positions: Iterable[int]) -> BannedRule | None:
    """The rule that bans in some reading, otherwise one that allows, None when no rule has an opinion."""
    found = [rules.rules[position] for position in positions if position != _NO_RULE]
    return next((rule for rule in found if _is_true(rule.value)), found[0]) if found else None


def _is_true(value: str | bool) -> bool:
    return value not in (False, "", "0")


def breadth_first(parts: Sequence[Part]) -> Iterator[Part]:
    """Parts in the order in which amavis walks their tree."""
    children: dict[int, list[Part]] = {}
    for part in parts:
        children.setdefault(part.parent or 0, []).append(part)
    level = children.get(0, [])
    while level:
        yield from level
        families = [children[part.number] for part in level if part.number in children]
        level = [child for family in families for child in sorted(family, key=_place)]


def _place(part: Part) -> int:
    """Its place among its siblings, the last number of its location; preambles share their container's."""
    return int(part.location.rpartition("/")[2])


# --- what is told of a banned part


def _banned(path: list[_Node], rule: BannedRule) -> Banned:
    comments = " ".join(_COMMENT.findall(rule.pattern))
    leaf = _WIDE_BLANK.sub(" ... ", _described(path[-1].part))
    return Banned(
        path=" | ".join(described for node in path if (described := _described(node.part))),
        attributes_path=_attributes_path(path),
        rule_key=rule.pattern,
        rule_value=_written(rule.value),
        rule_comment=comments or rule.pattern,
        reason=f"{comments}:{leaf}" if comments else leaf,
    )


def _written(value: str | bool) -> str:
    return "1" if value is True else str(value)


def _described(part: Part) -> str:
    """`application/zip,.zip,x.zip`: what logs, replies and the BANNED header show of a part."""
    return ",".join(_shown(key) for key in (*part.types, *(f".{short}" for short in part.short_types), *part.names))


def _attributes_path(path: list[_Node]) -> str:
    return " | ".join(",".join(map(_shown, _attributes(node.part, node.part.names))) for node in path)


def _path_texts(node: _Node) -> list[str]:
    """The path as banned_namepath_re sees it: a line a node, tabs between fields. One text for each reading."""
    path = node.path
    count = max(len(above.name_readings) for above in path)
    texts = []
    for number in range(count):
        lines = []
        for above in path:
            names = above.name_readings[number if number < len(above.name_readings) else 0]
            lines.append("\t".join(field.translate(_SEPARATORS) for field in _attributes(above.part, names)))
        texts.append("\n".join(lines))
    return texts


def _attributes(part: Part, names: tuple[str, ...]) -> Iterator[str]:
    """P=p002 L=1/2 M=application/zip T=zip N=x.zip A=U"""
    yield f"P=p{part.number:03d}"
    yield f"L={part.location}"
    for letter, values in (("M", part.types), ("T", part.short_types), ("N", names), ("A", part.attributes)):
        yield from (f"{letter}={value}" for value in values if value)


def _shown(key: str) -> str:
    """Nothing that ends a line or turns the direction of what follows."""
    return _UNSHOWABLE.sub(_escaped, key)


def _escaped(match: re.Match[str]) -> str:
    point = ord(match[0])
    return f"\\x{point:02X}" if point < 256 else f"\\x{{{point:04X}}}"


class BannedTables:
    """Compiled tables, by the rules they were made of. `prepare` compiles before the workers are forked."""

    _TABLES = 1000

    def __init__(self) -> None:
        self._compiled: dict[tuple[int, ...], tuple[object, BannedRules]] = {}
        self._for_all: dict[int, tuple[Settings, tuple[RuleList, ...] | None]] = {}

    def prepare(self, settings: Settings) -> None:
        """Compile everything these settings hold."""
        for rules in all_lists(settings):
            self._table((rules,))
        self._namepath(settings)

    def find(
        self, parts: Sequence[Part], settings: Settings, recipients: Sequence[RecipientPolicy]
    ) -> tuple[Banned | None, ...]:
        """One entry a recipient; None as well for those who bypass the check."""
        if not parts or not recipients:
            return (None,) * len(recipients)
        groups: dict[tuple[int, ...], list[int]] = {}
        tables: dict[tuple[int, ...], BannedRules] = {}
        shared = self._shared(settings, recipients)
        for number, recipient in enumerate(recipients):
            if not recipient.bypass.banned:
                lists = shared if shared is not None else lists_for(settings, recipient.address)
                key = tuple(map(id, lists))
                groups.setdefault(key, []).append(number)
                if key not in tables:
                    tables[key] = self._table(lists)
        found: list[Banned | None] = [None] * len(recipients)
        tree = _Tree(parts, self._namepath(settings))
        for key, numbers in groups.items():
            addresses = [recipients[number].recipient.address for number in numbers]
            banned = _Search(tables[key], tree, addresses).run()
            for number in numbers:
                found[number] = banned
        return tuple(found)

    def _shared(self, settings: Settings, recipients: Sequence[RecipientPolicy]) -> tuple[RuleList, ...] | None:
        """The lists of everybody, None when they depend on the recipient."""
        known = self._for_all.get(id(settings))
        if known is None:
            if len(self._for_all) >= self._TABLES:
                self._for_all.clear()
            lists = lists_for(settings, recipients[0].address) if is_same_for_all(settings) else None
            known = self._for_all[id(settings)] = (settings, lists)
        return known[1]

    def _namepath(self, settings: Settings) -> BannedRules | None:
        rules = settings.banned_namepath_re
        return self._table((rules,), re.IGNORECASE | re.MULTILINE) if rules else None

    def _table(self, lists: Sequence[RuleList], flags: int = re.IGNORECASE) -> BannedRules:
        """By identity, which is cheap, and safe because the lists are kept beside their table."""
        key = (int(flags), *map(id, lists))
        found = self._compiled.get(key)
        if found is None:
            if len(lists) == 1:
                table = BannedRules.compiled(lists[0], flags)
            else:
                table = BannedRules.joined([self._table((rules,), flags) for rules in lists])
            if len(self._compiled) >= self._TABLES:
                self._compiled.clear()
            found = self._compiled[key] = (lists, table)
        return found[1]

"""Lookups - lookup lists and network lists as a file writes them, and the table files they read at load.

A lookup list is a constant, or a list of tables in order: a constant; `{ key = value }`; `["..."]` an access list;
`{ regexp = [["pattern", value], ...] }`; `{ file = "/path", kind = "hash" | "array" | "regexp" }`; a column of a
database, `{ sql = "spam_lover" }`, `{ ldap = "amavisSpamLover" }`, `{ redis = "spam_lover" }`; domains in a blocklist,
`{ dnsxl = "dbl.example.org", expected = ["127.0.1.2"] }`. What a value may be depends on the setting.

A network list is a list of addresses and networks; `"$mynetworks"` stands for another network setting,
`{ file = "/path", kind = "cidr" }` for the entries of a file.

A hash file has lines `key value`, the value is `true` when left out; an array file one entry a line; a regexp file
lines `/pattern/ value`; a cidr file one network a line. `#` starts a comment line.

**Failures:** BadValue.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any

from amavispy.config.databases import blocklist
from amavispy.config.implied import field_of
from amavispy.config.kinds import BadValue, Context, Kind, Problem, boolean, each, number_of, octets_of, show, text_of
from amavispy.policy import directory
from amavispy.policy.blocklist import Blocklisted
from amavispy.policy.lookup import AccessList, Constant, Hash, IpTable, LookupList, RegexpList, Table

_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_FILE_KINDS = ("hash", "array", "regexp")
_REGEXP_LINE = re.compile(r"/(?P<pattern>.*)/(?:\s+(?P<value>.*))?")
_ENTRY = re.compile(r"!*(?:\.|\.?[^\s@!.][^\s@]*|[^\s@!](?:[^@]*[^\s@])?@[^\s@]*|\"[^\"]*\"@[^\s@]+)")
_KEY_LIMIT = 320


@dataclass(frozen=True, slots=True)
class ValueKind:
    """What the tables of a setting answer. `convert` reads a value of TOML, `parse` one of a table file's texts.

    `column`: the kind of a database's column that may answer (`policy.directory`), "" where no database can.
    """

    form: str
    convert: Callable[[Any, Context], Any]
    parse: Callable[[str], Any]
    is_truth: bool = False
    column: str = ""


def _parse_truth(text: str) -> Any:
    """A truth value of a file: amavis' files use 1 and 0 or nothing."""
    return {"": True, "1": True, "true": True, "0": False, "false": False}.get(text.lower(), text)


def _parse_number(text: str) -> Any:
    try:
        return float(text)
    except ValueError:
        return text


TRUTH = ValueKind("true or false", boolean, _parse_truth, is_truth=True, column=directory.TRUTH)
SCORE = ValueKind("number", lambda value, _: number_of(value, -1e6, 1e6), _parse_number, column=directory.NUMBER)
SIZE = ValueKind(
    'octets or "10MB"',
    lambda value, _: octets_of(value, 0, 1 << 50),
    lambda t: int(t) if t.isdigit() else t,
    column=directory.NUMBER,
)
TEXT = ValueKind("text", text_of, lambda text: text, column=directory.TEXT)


def _score_or_false(value: Any, _context: Context) -> Any:
    return value if value is False else number_of(value, -1e6, 1e6)


def _banks_or_true(value: Any, context: Context) -> Any:
    return value if isinstance(value, bool) else text_of(value, context)


VIRUS_SCORE = ValueKind("number, or false for none", _score_or_false, _parse_number)
VIRUS_BANKS = ValueKind("bank names with commas, or true for VIRUS", _banks_or_true, _parse_truth, is_truth=True)


def lookup_list(values: ValueKind) -> Kind:
    """A setting that is a lookup list of such values."""
    form = f"lookup list of {values.form}"

    def convert(value: Any, context: Context) -> LookupList:
        if isinstance(value, list):
            return LookupList.of(tuple(each(enumerate(value), lambda table: _table(table, values, context))))
        if isinstance(value, dict):
            raise BadValue("a table stands here alone", f"expected a list of tables: [{{...}}]; {form}")
        return LookupList.constant(values.convert(value, context))

    return Kind(form, convert)


def nested(values: ValueKind) -> ValueKind:
    """Lookup lists as the answers of another one: by recipient a list of tables of senders."""
    inner = lookup_list(values)

    def unreadable(text: str) -> Any:
        raise BadValue(f"{show(text)} is no lookup list", "a table file cannot hold lists: write them here")

    return ValueKind(f"list of sender tables ({values.form})", inner.convert, unreadable)


def _table(value: Any, values: ValueKind, context: Context) -> Table:
    if isinstance(value, list):
        return _access_list(value, values, context)
    if isinstance(value, dict):
        return _table_of_keys(value, values, context)
    if values.is_truth and isinstance(value, str):
        raise BadValue(
            f"{show(value)} stands in the list of tables", f"an access list has its own brackets: [[{show(value)}]]"
        )
    return Constant(values.convert(value, context))


def _access_list(entries: list[Any], values: ValueKind, context: Context) -> Table:
    if not values.is_truth:
        raise BadValue(
            "an access list answers only yes or no", f"this setting needs a {values.form}: write {{ key = value }}"
        )
    return AccessList(tuple(each(enumerate(entries), lambda entry: _entry(text_of(entry, context)))))


def _entry(text: str) -> str:
    if len(text) > _KEY_LIMIT or not _ENTRY.fullmatch(text):
        raise BadValue(
            f"{show(text)} is not an entry of an access list", 'expected "user@domain", "domain", ".domain" or "."'
        )
    return text


def _table_of_keys(value: dict[str, Any], values: ValueKind, context: Context) -> Table:
    for source in directory.SOURCES:
        if source in value:
            _alone(value, (source,))
            return _column(source, value[source], values)
    if "dnsxl" in value:
        return _blocklisted(value, values, context)
    if "regexp" in value:
        _alone(value, ("regexp",))
        (found,) = each([("regexp", value["regexp"])], lambda rules: _regexps(rules, values, context))
        return RegexpList(found)
    if "file" in value:
        _alone(value, ("file", "kind"))
        return _file(value, values, context)
    return _hash({context.expand(key): entry for key, entry in value.items()}, lambda v: values.convert(v, context))


def _column(source: str, name: Any, values: ValueKind) -> Table:
    if not values.column:
        raise BadValue(f"a table of {source} cannot answer here", f"this setting needs {values.form}: write it here")
    if not isinstance(name, str) or not _COLUMN.fullmatch(name):
        raise BadValue(f"{show(name)} is not the name of a column", f'expected {{ {source} = "NAME" }}')
    return field_of(source, name, values.column)


def _blocklisted(value: dict[str, Any], values: ValueKind, context: Context) -> Table:
    _alone(value, ("dnsxl", "expected"))
    if values.column != directory.TRUTH:
        raise BadValue("a blocklist answers only yes or nothing", f"this setting needs {values.form}")
    return Blocklisted(blocklist(value["dnsxl"], value.get("expected"), context))


def _alone(value: dict[str, Any], allowed: tuple[str, ...]) -> None:
    problems = [
        Problem((key,), "unknown key in this table", f"known: {', '.join(allowed)}")
        for key in value
        if key not in allowed
    ]
    if problems:
        raise BadValue.joined(problems)


def _hash(entries: Mapping[str, Any], convert: Callable[[Any], Any]) -> Table:
    return Hash(
        dict(zip(entries, each(((key, (key, value)) for key, value in entries.items()), _pair(convert)), strict=True))
    )


def _pair(convert: Callable[[Any], Any]) -> Callable[[tuple[str, Any]], Any]:
    def check(pair: tuple[str, Any]) -> Any:
        key, value = pair
        if not key or (key.count("@") > 1 and not key.startswith('"')) or key.startswith("!") or len(key) > _KEY_LIMIT:
            raise BadValue(
                f"{show(key)} can never match", 'expected "user@domain", "user@", "domain", ".domain" or "."'
            )
        return convert(value)

    return check


def regexp(value: Any) -> str:
    """A pattern that Python's re accepts; variables are not replaced, $ is the pattern's own."""
    if not isinstance(value, str):
        raise BadValue(f"{show(value)} is not a pattern", "expected a regular expression in quotes")
    try:
        re.compile(value, re.IGNORECASE)
    except (re.error, OverflowError, RecursionError) as error:
        raise BadValue(f"{show(value)} is not a regular expression: {error}", "expected Python's re syntax")
    return value


def pattern_and_value(item: Any, convert: Callable[[Any], Any], alone: Any) -> tuple[str, Any]:
    """`"pattern"` or `["pattern", value]`; `alone` is the value of a pattern without one, None when it needs one."""
    if isinstance(item, str) and alone is not None:
        return regexp(item), alone
    if not isinstance(item, list) or len(item) != 2:
        allowed = '["pattern", value]' if alone is None else '"pattern" or ["pattern", value]'
        raise BadValue(f"{show(item)} is not a rule", f"expected {allowed}")
    pattern, value = each(enumerate((regexp, convert)), lambda f: f(item[0] if f is regexp else item[1]))
    return pattern, value


def _regexps(rules: Any, values: ValueKind, context: Context) -> tuple[tuple[str, Any], ...]:
    if not isinstance(rules, list):
        raise BadValue(f"{show(rules)} is not a list", 'expected a list of ["pattern", value]')
    alone = True if values.is_truth else None
    return tuple(
        each(enumerate(rules), lambda rule: pattern_and_value(rule, lambda v: values.convert(v, context), alone))
    )


def _file(value: dict[str, Any], values: ValueKind, context: Context) -> Table:
    kind = value.get("kind", "hash")
    if kind == "cidr":
        raise BadValue(
            "a cidr table holds networks, not addresses", "it may stand in mynetworks, inet_acl and networks"
        )
    if kind not in _FILE_KINDS:
        raise BadValue(f"{show(kind)} is not a kind of file", f"expected {', '.join(show(k) for k in _FILE_KINDS)}")
    path = text_of(value["file"], context)
    lines = _lines(context.read(path))
    try:
        return _READERS[kind](lines, values, context)
    except BadValue as bad:
        raise BadValue.joined(_in_file(path, p) for p in bad.problems)


def _in_file(path: str, problem: Problem) -> Problem:
    """A problem found in a table file: its first step is the line."""
    line = f":{problem.path[0]}" if problem.path else ""
    return Problem((), f"{path}{line}: {problem.text}", problem.allowed)


def _lines(text: str) -> list[tuple[int, str]]:
    """Numbered lines without comments and empty ones."""
    numbered = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in numbered if line and line[0] != "#"]


def _hash_file(lines: list[tuple[int, str]], values: ValueKind, context: Context) -> Table:
    def convert(line: str) -> tuple[str, Any]:
        key, *rest = line.split(None, 1)
        value = values.convert(values.parse(rest[0] if rest else ""), context)
        return key, _pair(lambda v: v)((key, value))

    return Hash(dict(each(lines, convert)))


def _array_file(lines: list[tuple[int, str]], values: ValueKind, _context: Context) -> Table:
    if not values.is_truth:
        raise BadValue("an access list answers only yes or no", 'expected a file of kind "hash" or "regexp"')
    return AccessList(tuple(each(lines, _entry)))


def _regexp_file(lines: list[tuple[int, str]], values: ValueKind, context: Context) -> Table:
    def convert(line: str) -> tuple[str, Any]:
        match = _REGEXP_LINE.fullmatch(line)
        if not match:
            raise BadValue(f"{show(line)} is not a rule", "expected /pattern/ value")
        return regexp(match["pattern"]), values.convert(values.parse(match["value"] or ""), context)

    return RegexpList(tuple(each(lines, convert)))


_READERS: Mapping[str, Callable[[list[tuple[int, str]], ValueKind, Context], Table]] = {
    "hash": _hash_file,
    "array": _array_file,
    "regexp": _regexp_file,
}


def networks(value: Any, context: Context) -> IpTable:
    """A network list; one that only refers to another ("$mynetworks") needs no brackets."""
    malformed: tuple[Problem, ...] = ()
    try:
        return IpTable.of(network_texts(value, context))
    except BadValue as bad:
        malformed = bad.problems
    except ValueError:
        pass
    raise BadValue.joined((*malformed, *_bad_networks(value, context)))


def network_texts(value: Any, context: Context) -> list[str]:
    """Every entry of a network list, references and files replaced by what they hold, nothing judged yet."""
    if isinstance(value, str) and value.startswith("$"):
        value = [value]
    if not isinstance(value, list):
        raise BadValue(f"{show(value)} is not a list of networks", 'expected ["192.0.2.0/24", ...] or "$mynetworks"')
    return list(chain.from_iterable(each(enumerate(value), lambda entry: _network_entry(entry, context))))


def _network_entry(entry: Any, context: Context) -> Iterable[str]:
    if isinstance(entry, dict):
        return [text for _, text in _network_file(entry, context)]
    if not isinstance(entry, str):
        raise BadValue(f"{show(entry)} is not a network", 'expected an address or a network in quotes: "192.0.2.0/24"')
    return _referred(entry, context) if entry.startswith("$") else (entry,)


def _referred(reference: str, context: Context) -> list[str]:
    name = reference[1:].lower()
    if _needs_itself(name, context):
        raise BadValue(f"the list {reference} needs itself", "expected lists that end somewhere")
    referred = context.networks(name)
    try:
        return network_texts(referred, context)
    except BadValue:
        raise BadValue(f"the list {reference} is faulty", "see the fault there")


def _needs_itself(name: str, context: Context) -> bool:
    """Whether following the references in a list leads back to it. Raises BadValue when there is no such list."""
    seen: set[str] = set()
    waiting = _references(context.networks(name))
    while waiting:
        reference = waiting.pop()
        if reference == name:
            return True
        if reference not in seen:
            seen.add(reference)
            with suppress(BadValue):  # an unknown list is told where it is named
                waiting += _references(context.networks(reference))
    return False


def _references(value: Any) -> list[str]:
    entries = value if isinstance(value, list) else [value]
    return [entry[1:].lower() for entry in entries if isinstance(entry, str) and entry.startswith("$")]


def _network_file(entry: dict[str, Any], context: Context) -> list[tuple[int, str]]:
    _alone(entry, ("file", "kind"))
    if "file" not in entry or entry.get("kind", "cidr") != "cidr":
        raise BadValue("this table holds no networks", 'expected { file = "/path", kind = "cidr" }')
    lines = _lines(context.read(text_of(entry["file"], context)))
    return [(number, line.split(None, 1)[0]) for number, line in lines]


def _bad_networks(value: Any, context: Context) -> list[Problem]:
    """Every text that is no network, where it stands; the slow way, only when something is wrong."""
    entries = enumerate(value if isinstance(value, list) else [])
    return [Problem((index,), p.text, p.allowed) for index, entry in entries for p in _in_entry(entry, context)]


def _in_entry(entry: Any, context: Context) -> list[Problem]:
    """The texts of one entry that are no networks; what is wrong with the entry itself was told before."""
    try:
        if isinstance(entry, dict):
            lines = _network_file(entry, context)
            path = text_of(entry["file"], context)
            return [_in_file(path, Problem((number,), *said)) for number, text in lines if (said := _judge(text))]
        texts = network_texts([entry], context)
    except BadValue:
        return []
    judged = [Problem((), *said) for text in texts if (said := _judge(text))]
    is_reference = entry.startswith("$")
    return [Problem((), f"the list {entry} is faulty", "see the fault there")] if judged and is_reference else judged


def _judge(text: str) -> tuple[str, str] | None:
    try:
        IpTable.of((text,))
    except ValueError as error:
        problem = str(error) if len(text) < 60 else f"{show(text)} is no network"
        return problem, 'such as "192.0.2.1", "10.0.0.0/8", "2001:db8::/32", "!10.1.0.0/16"'
    return None


def networks_kind() -> Kind:
    return Kind("list of networks", networks)

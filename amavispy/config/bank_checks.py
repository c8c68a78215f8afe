"""Bank checks - policy banks against the rules that lead to them, networks and lookup lists against themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields
from itertools import islice
from typing import Any

from amavispy.config.conversion import Draft
from amavispy.config.findings import Finding, fault, warning
from amavispy.config.kinds import nearest
from amavispy.config.sources import Path
from amavispy.config.spans import Cover, Span, dead_entries, span_of, taken_whole
from amavispy.mail.disposition import Destiny
from amavispy.policy.banned_rules import DEFAULT, answers_in, names_in
from amavispy.policy.lookup import Constant, IpTable, LookupList
from amavispy.policy.settings import ClientRule, Settings
from amavispy.policy.virus_names import banks_in

_BY_RULE = ("MYUSERS",)
_ALL_ANSWERS = ("banned_filename_maps",)
_SHOWN = 20  # a table of a hundred thousand networks must not lead to as many warnings
_DESTINIES = tuple(f.name for f in fields(Settings) if f.name.endswith("_destiny"))


def client_rules(draft: Draft) -> Iterator[tuple[Path, tuple[ClientRule, ...]]]:
    """Every client_ipaddr_policy that is written somewhere."""
    yield ("client_ipaddr_policy",), draft.base.client_ipaddr_policy
    for name, overrides in draft.overrides.items():
        if "client_ipaddr_policy" in overrides:
            yield ("policy_bank", name, "client_ipaddr_policy"), overrides["client_ipaddr_policy"]


def references(draft: Draft) -> Iterator[tuple[Path, str]]:
    """Every name of a bank in a rule, with its place."""
    for key, names in draft.server.interface_policy.items():
        yield from ((("interface_policy", key), name) for name in names)
    for path, rules in client_rules(draft):
        yield from (((*path, index, "banks"), name) for index, rule in enumerate(rules) for name in rule.banks)
    for path, name, value in _written(draft):
        if name == "virus_name_to_policy_bank_maps":
            yield from (((*path, name), bank) for answer in answers_in(value) for bank in banks_in(answer))


def unknown_banks(draft: Draft) -> Iterator[Finding]:
    known = ", ".join(islice(draft.overrides, 12)) or "none"
    for path, name in references(draft):
        if name not in draft.overrides:
            hint = nearest(name, draft.overrides)
            yield fault(path, f'there is no policy bank "{name}"{", " + hint if hint else ""}', f"known: {known}")


def unreachable_banks(draft: Draft) -> Iterator[Finding]:
    """Only an AM.PDP client may ask for any bank by name (SMTP_AUTH of amavisd-milter)."""
    reached = {name for _, name in references(draft)} | set(_BY_RULE)
    answers_requests = any(settings.protocol == "AM.PDP" for _, settings in draft.banks())
    for name in draft.overrides:
        if name in reached or (answers_requests and name.startswith("SMTP_AUTH")):
            continue
        way = "only an AM.PDP request can ask for this bank" if answers_requests else "nothing leads to this bank"
        yield warning(("policy_bank", name), way, "name it in interface_policy or client_ipaddr_policy")


def bounces_without_next_hop(draft: Draft) -> Iterator[Finding]:
    for path, settings in draft.banks():
        own = draft.overrides[str(path[1])] if path else {"notify_method"}
        bouncing = [name for name in _DESTINIES if getattr(settings, name) is Destiny.BOUNCE]
        concerned = [name for name in ("notify_method", *bouncing) if name in own]
        if not settings.notify_method and bouncing and concerned:
            yield fault(
                (*path, concerned[0]),
                f"no notify_method, but bounces by {', '.join(bouncing)}",
                "a bounce needs a next hop",
            )


def unknown_banned_rules(draft: Draft) -> Iterator[Finding]:
    """A misspelt name would ban nothing, and nobody would notice."""
    told: set[str] = set()
    for path, settings in draft.banks():
        names = (name for answer in answers_in(settings.banned_filename_maps) for name in names_in(answer))
        for name in dict.fromkeys(names):
            if name != DEFAULT and name not in settings.banned_rules and name not in told:
                told.add(name)
                hint = nearest(name, [DEFAULT, *settings.banned_rules])
                known = ", ".join(islice([DEFAULT, *settings.banned_rules], 12))
                problem = f'there is no list of banned_rules "{name}"{", " + hint if hint else ""}'
                yield fault((*path, "banned_filename_maps"), problem, f"known: {known}")


def quarantine_without_database(draft: Draft) -> Iterator[Finding]:
    """`sql:` keeps mail in the database of storage_sql_dsn."""
    for path, name, value in _written(draft):
        if name.endswith("_quarantine_method") and value == "sql:" and not draft.server.storage_sql_dsn:
            yield fault((*path, name), "there is no database to keep mail in", "set storage_sql_dsn")


def events_without_redis(draft: Draft) -> Iterator[Finding]:
    for path, name, value in _written(draft):
        if name == "redis_logging_key" and value and not draft.server.storage_redis_dsn:
            yield fault((*path, name), "there is no Redis server for this list", "set storage_redis_dsn")


def tables_never_asked(draft: Draft) -> Iterator[Finding]:
    """Behind a constant no table of a lookup list is ever asked, unless the list is asked for all its answers."""
    for path, name, value in _written(draft):
        if isinstance(value, LookupList) and name not in _ALL_ANSWERS:
            index = next((i for i, table in enumerate(value.tables[:-1]) if isinstance(table, Constant)), None)
            if index is not None:
                yield warning(
                    (*path, name, index + 1),
                    "this table is never asked, a constant stands before it",
                    "put constants last",
                )


def _written(draft: Draft) -> Iterator[tuple[Path, str, Any]]:
    yield from (((), f.name, getattr(draft.base, f.name)) for f in fields(Settings))
    for bank, overrides in draft.overrides.items():
        yield from ((("policy_bank", bank), name, value) for name, value in overrides.items())


def networks_in_vain(draft: Draft) -> Iterator[Finding]:
    """Host bits and dead entries in network lists; each list for itself."""
    for path, name, value in _written(draft):
        if isinstance(value, IpTable) and draft.merged.is_given((*path, name)):
            yield from _judged((*path, name), value, draft)
    for path, rules in client_rules(draft):
        for index, rule in enumerate(rules):
            yield from _judged((*path, index, "networks"), rule.networks, draft)


def _judged(path: Path, table: IpTable, draft: Draft) -> Iterator[Finding]:
    raw = _raw(draft.merged.values, path)
    if not isinstance(raw, list):
        return
    is_direct = all(isinstance(entry, str) and not entry.startswith("$") for entry in raw)
    spans = [span_of(text) for text in table.texts]
    yield from _limited(_in_list(path, spans, is_direct))


def _in_list(path: Path, spans: list[Span], is_direct: bool) -> Iterator[Finding]:
    for index, span in enumerate(spans):
        if span.has_host_bits:
            place = (*path, index) if is_direct else path
            yield warning(place, f'"{span.text}" has host bits set', f"it means {span.network()}")
    for index, by in dead_entries(spans):
        place = (*path, index) if is_direct else path
        yield warning(
            place, f'"{spans[index].text}" never matches, "{by}" before it covers it', "put it first or remove it"
        )


def _limited(found: Iterable[Finding]) -> Iterator[Finding]:
    """The first few, and how many more there are."""
    iterator = iter(found)
    yield from islice(iterator, _SHOWN)
    last = next(iterator, None)
    if last:
        more = 1 + sum(1 for _ in iterator)
        yield warning(last.path, f"{more} more entries of this list have host bits set or never match")


def _raw(values: Any, path: Path) -> Any:
    """What was written at a path, None when nothing was."""
    for step in path:
        try:
            values = values[step]
        except (KeyError, IndexError, TypeError):
            return None
    return values


def rules_in_vain(draft: Draft) -> Iterator[Finding]:
    """Networks of client_ipaddr_policy that an earlier rule has taken; the first match counts, unless `also` is set."""
    for path, rules in client_rules(draft):
        seen = Cover()
        for index, rule in enumerate(rules):
            spans = [span_of(text) for text in rule.networks.texts]
            if not rule.also:
                yield from _taken((*path, index, "networks"), spans, seen, draft)
                for span in taken_whole(spans):
                    seen.add(span)


def _taken(path: Path, spans: list[Span], seen: Cover, draft: Draft) -> Iterator[Finding]:
    """Entries that are written here are judged one by one; those of $mynetworks or a file only all together."""
    raw = _raw(draft.merged.values, path)
    is_direct = isinstance(raw, list) and all(isinstance(e, str) and not e.startswith("$") for e in raw)
    covered = [(i, by) for i, span in enumerate(spans) if not span.excludes and (by := seen.covering(span)) is not None]
    if is_direct:
        found = (
            warning((*path, i), f'"{spans[i].text}" never matches, "{by}" of an earlier rule covers it', _ORDER)
            for i, by in covered
        )
        yield from _limited(found)
    elif covered and len(covered) == sum(not span.excludes for span in spans):
        yield warning(path, "none of these networks ever matches, earlier rules cover all of them", _ORDER)


_ORDER = "put this rule first or give it also = true"

"""Explain - which banks a client gets, why each was loaded, what it changed, and what holds in the end.

Loads banks exactly as a session does, through the rules of `bank`, and keeps an account of it as plain values that JSON
can carry. Knows no files and no terminal: `cli.explain` reads the configuration and prints.

**Failures:** `connection_for` raises ValueError saying what was asked for and what there is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from ipaddress import ip_address
from typing import Any

from amavispy.mail.disposition import Destiny
from amavispy.mail.envelope import Connection
from amavispy.mail.next_hop import NextHop
from amavispy.policy.bank import Banks, PolicyBank, changes, client_matches
from amavispy.policy.blocklist import Blocklist, Blocklisted
from amavispy.policy.directory import OF_OTHERS, OF_SENDERS, Field
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.lookup import AccessList, Constant, Hash, IpTable, LookupList, RegexpList
from amavispy.policy.recipient import address_for
from amavispy.policy.settings import BannedRule, ClientRule, ScannerSpec, Settings

_ORDINALS = {1: "st", 2: "nd", 3: "rd"}
_EVERY_ADDRESS = ("*", "0.0.0.0", "::")
_UNITS = ((3600, "h"), (60, "m"))
# These lists are asked about other things than recipients, so a recipient does not answer them.
_NOT_OF_RECIPIENTS = OF_SENDERS | OF_OTHERS
_ALL_ANSWERS = ("banned_filename_maps",)


@dataclass(frozen=True, slots=True)
class Question:
    """A client to be: the connection it comes in on, its address (None: unknown), and the envelope where it matters."""

    connection: Connection
    client: str | None = None
    sender: str = ""
    recipient: str = ""
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One bank loaded: its name, a sentence why, and what it set, in configuration form."""

    name: str
    why: str
    sets: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Explanation:
    """The steps in order, the bank they end with, and every setting: name -> {"value", "from"}."""

    steps: tuple[Step, ...]
    bank: PolicyBank
    settings: Mapping[str, Mapping[str, Any]]

    def as_json(self) -> dict[str, Any]:
        banks = [{"name": step.name, "why": step.why, "sets": dict(step.sets)} for step in self.steps]
        return {"banks": banks, "settings": {name: dict(setting) for name, setting in self.settings.items()}}


def explain(banks: Banks, question: Question) -> Explanation:
    """The account of what this client gets. With a recipient, lookup lists show what they answer for it."""
    bank = banks.base
    steps: list[Step] = []
    for stage in (_by_interface, _by_client, _by_names, _by_sender):
        loads = list(stage(banks, bank, question))
        for name, why in loads:
            loaded = bank.overlaid_with(banks.named[name]) if name in banks.named else bank
            if loaded is not bank:
                bank = loaded
                sets = {key: written(value, key) for key, value in changes(banks.named[name]).items()}
                steps.append(Step(name, why, sets))
    return Explanation(tuple(steps), bank, _effective(banks, bank, question.recipient))


_Loads = Iterator[tuple[str, str]]  # name of a bank, why


def _by_interface(banks: Banks, _: PolicyBank, question: Question) -> _Loads:
    for key, names in banks.interface_matches(question.connection):
        for name in names:
            yield name, f'interface_policy "{key}": listen socket {question.connection.listener}'


def _by_client(_: Banks, bank: PolicyBank, question: Question) -> _Loads:
    for match in client_matches(bank, question.client):
        client = question.client or "the unknown client"
        also = ", also after an earlier match" if match.rule.also else ""
        why = f'{client} matches "{match.rule.networks.matching(question.client)}"{also}'
        for name in match.rule.banks:
            yield name, f"client_ipaddr_policy {_ordinal(match.number)} rule: {why}"


def _by_names(banks: Banks, _: PolicyBank, question: Question) -> _Loads:
    for name in banks.single_names(question.names):
        yield name, "policy_bank: the AM.PDP client asks for it"


def _by_sender(banks: Banks, bank: PolicyBank, question: Question) -> _Loads:
    if banks.for_sender(bank, question.sender) is not bank:
        yield "MYUSERS", f"MYUSERS: the mail originates here and its sender {question.sender} is local"


def _effective(banks: Banks, bank: PolicyBank, recipient: str) -> dict[str, dict[str, Any]]:
    settings = bank.settings
    address = address_for(recipient, settings) if recipient else None
    if address and banks.directory is not None:
        (address,), _ = banks.directory.know((address,), (), settings)
    shown = {}
    for name in (setting.name for setting in fields(Settings)):
        value = getattr(settings, name)
        if address and isinstance(value, LookupList) and _is_answered(name, value, banks):
            value = value.find_all(address) if name in _ALL_ANSWERS else value.find(address)
        origin = bank.origins.get(name) or banks.base_origins.get(name, "default")
        shown[name] = {"value": written(value, name), "from": origin}
    return shown


def _is_answered(name: str, value: LookupList, banks: Banks) -> bool:
    """Whether a recipient answers this list; without a directory nobody knows what a database would say."""
    asks = any(isinstance(table, Field | Blocklisted) for table in value.tables)
    return name not in _NOT_OF_RECIPIENTS and (banks.directory is not None or not asks)


def connection_for(socket: str, listeners: Sequence[Connection]) -> Connection:
    """The connection that `10026`, `[::1]:10026`, `eth0:10026`, a path or SOCK means, among the listen sockets.

    `listeners` are connections as their listen sockets would make them; of several that fit the first is taken.
    """
    found = next(_candidates(socket, listeners), None)
    if found is None:
        known = ", ".join(connection.listener for connection in listeners)
        raise ValueError(f"{socket} is not one of listen_sockets; there are: {known or 'none'}")
    return found


def _candidates(socket: str, listeners: Sequence[Connection]) -> Iterator[Connection]:
    if socket == "SOCK":
        yield from (listener for listener in listeners if listener.listener.startswith("/"))
        return
    yield from (listener for listener in listeners if listener.listener == socket)
    where, _, port = socket.rpartition(":")
    if socket.startswith("/") or not (port.isascii() and port.isdigit()):
        return
    same_port = [listener for listener in listeners if listener.local_port == int(port)]
    if not where:
        yield from same_port
        return
    address = _address(where)
    if address is None:
        yield from (replace(listener, interface=where) for listener in same_port)
        return
    yield from (listener for listener in same_port if listener.local == address)
    yield from (replace(listener, local=address) for listener in same_port if listener.local in (None, *_EVERY_ADDRESS))


def _address(text: str) -> str | None:
    """The address in its usual form, or None for the name of an interface."""
    try:
        return str(ip_address(text.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def written(value: Any, name: str = "") -> Any:
    """A setting's value as a configuration file writes it, in types that JSON has. `name` tells times from numbers."""
    match value:
        case Destiny():
            return f"D_{value.name}"
        case Enum():
            return value.name.lower()
        case float() if name.endswith("timeout"):
            return _duration(value)
        case NextHop():
            return str(value)
        case IpTable():
            return list(value.texts)
        case LookupList():
            return value.fixed if value.fixed is not None else [_table(table) for table in value.tables]
        case BannedRule():
            return value.pattern if value.value is True else [value.pattern, value.value]
        case ClientRule():
            told = [member.name for member in fields(value) if getattr(value, member.name) is not None]
            return {name: written(getattr(value, name), name) for name in told}
        case Blocklist():
            return {"zones": list(value.zones), "expected": list(value.expected)}
        case ScannerSpec():
            return _scanner(value)
        case Inquiry():
            return {
                m.name: written(getattr(value, m.name)) for m in fields(value) if getattr(value, m.name) != m.default
            }
        case tuple() if len(value) == 1 and isinstance(value[0], NextHop):
            return str(value[0])
        case tuple() | list():
            return [written(item) for item in value]
        case frozenset():
            return sorted(value)
        case dict():
            return {key: written(item) for key, item in value.items()}
    return value


def _scanner(spec: ScannerSpec) -> dict[str, Any]:
    """A scanner with those members that say something; that it has a password is told, which one is not."""
    always = ("name", "type", "timeout", "on_failure")
    told = [m.name for m in fields(spec) if m.name in always or getattr(spec, m.name) != m.default]
    shown = {name: written(getattr(spec, name), name) for name in told}
    if spec.statuses:
        shown["statuses"] = {str(status): score for status, score in spec.statuses}
    inquiry: dict[str, Any] = shown.pop("inquiry", {})
    if others := inquiry.pop("fallbacks", ()):
        shown["address"] = [spec.address, *others]
    return {**shown, **inquiry} | ({"password": "..."} if spec.password else {})


def _table(table: Any) -> Any:
    """A table of a lookup list; tables with I/O are named only."""
    match table:
        case Constant():
            return written(table.value)
        case Hash():
            return {key: written(value) for key, value in table.mapping.items()}
        case AccessList():
            return list(table.entries)
        case RegexpList():
            return {"regexp": [[pattern, written(value)] for pattern, value in table.entries]}
        case Field():
            return {table.source: table.name}
        case Blocklisted():
            return {"dnsxl": list(table.blocklist.zones), "expected": list(table.blocklist.expected)}
    return str(table)


def _duration(seconds: float) -> str:
    """8m for 480 seconds; seconds where no larger unit fits."""
    for size, unit in _UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _ordinal(number: int) -> str:
    ending = "th" if number % 100 in (11, 12, 13) else _ORDINALS.get(number % 10, "th")
    return f"{number}{ending}"

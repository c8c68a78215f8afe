"""Bank - policy banks: named overrides of settings, loaded one over the other (specification, chapter 4).

A PolicyBank is a value: the settings that hold at one moment, the names of the banks that made them, and for every
overridden setting the bank that set it. Loading returns a new one; nothing is ever "currently installed". `Banks` knows
all banks and the rules of chapter 4.3, in this order: interface, client, names asked for (AM.PDP), MYUSERS.

`Banks` remembers what it made, by the path of names, in bounded tables; so a message costs a few dictionary probes.
Hand it only banks that it made itself.

A directory (databases, DNS), where there is one, is asked whether a sender is local and a client is in a blocklist.

**Failures:** NamedBank raises ValueError for a setting that no bank can override. Loading never fails: an undefined
name is ignored, and the log says so. A directory that does not answer raises TemporaryFailure.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import reduce
from itertools import islice
from types import MappingProxyType
from typing import Any

from amavispy.mail.envelope import Connection
from amavispy.policy.directory import Directory
from amavispy.policy.recipient import address_for, is_local
from amavispy.policy.settings import ClientRule, Settings

_log = logging.getLogger("amavispy.policy")
_BANKABLE = frozenset(setting.name for setting in fields(Settings))
_NONE: Mapping[str, str] = MappingProxyType({})
_REMEMBERED = 1000  # banks; a client that names banks of its own (AM.PDP) must not fill our memory
_NAMES_ASKED_FOR = 100


@dataclass(frozen=True, slots=True)
class NamedBank:
    """One [policy_bank.NAME]: setting name -> value. Raises ValueError for a setting that is not bank-able."""

    name: str
    overrides: Mapping[str, Any]

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.overrides) - _BANKABLE):
            raise ValueError(f'policy bank "{self.name}": unknown setting {", ".join(unknown)}')


@dataclass(frozen=True, slots=True)
class PolicyBank:
    """The settings in force. `path`: banks loaded, in order; `origins`: setting -> bank, absent for the base bank's."""

    settings: Settings
    path: tuple[str, ...] = ()
    origins: Mapping[str, str] = field(default_factory=lambda: _NONE, repr=False)

    @property
    def name(self) -> str:
        """The path as logs show it: "AM.PDP-SOCK/MYNETS"."""
        return "/".join(self.path)

    def overlaid_with(self, bank: NamedBank) -> PolicyBank:
        """This bank with the other's overrides on top; itself when that bank was the last one loaded."""
        if self.path and self.path[-1] == bank.name:
            return self
        overrides = changes(bank)
        origins = {**self.origins, **dict.fromkeys(overrides, bank.name)}
        return PolicyBank(replace(self.settings, **overrides), (*self.path, bank.name), MappingProxyType(origins))


def changes(bank: NamedBank) -> Mapping[str, Any]:
    """What loading the bank sets. MYNETS is the administrator's own mail, unless the bank itself says otherwise."""
    return {"originating": True, **bank.overrides} if bank.name == "MYNETS" else bank.overrides


@dataclass(frozen=True, slots=True)
class ClientMatch:
    """A [[client_ipaddr_policy]] rule that holds for a client: its number from 1, and the entry that matched."""

    number: int
    rule: ClientRule


class Banks:
    """All banks of a configuration and the rules that load them.

    `interface_policy`: "10026", "192.0.2.1:25", "[::1]:25", "eth0:25", a socket's path or "SOCK" -> names of banks.
    `base_origins`: setting -> where in the configuration its base value stands; for explanations only. `directory` is
    set by wiring.
    """

    def __init__(
        self,
        base: Settings,
        named: Mapping[str, NamedBank],
        interface_policy: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
        base_origins: Mapping[str, str] = _NONE,
    ) -> None:
        self.base = PolicyBank(base)
        self.named = dict(named)
        self.interface_policy = dict(interface_policy)
        self.base_origins = base_origins
        self.directory: Directory | None = None
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...]], PolicyBank] = {}

    def for_interface(self, connection: Connection) -> PolicyBank:
        """The bank of a new connection. With PROXY headers ask again once the real addresses are known."""
        names = [name for _, names in self.interface_matches(connection) for name in names]
        return self._loaded(self.base, names)

    def for_client(self, bank: PolicyBank, address: str | None) -> PolicyBank:
        """The bank for the original client. None, the unknown client, matches ::/0 and 0/0 only."""
        names = [name for match in client_matches(bank, address, self.directory) for name in match.rule.banks]
        return self._loaded(bank, names)

    def for_names(self, bank: PolicyBank, names: Iterable[str]) -> PolicyBank:
        """Banks that an AM.PDP client asks for; every text may be a comma list. Undefined names are ignored."""
        return self._loaded(bank, self.single_names(names))

    def for_sender(self, bank: PolicyBank, sender: str) -> PolicyBank:
        """MYUSERS, if it is defined, for a local sender of mail that originates here."""
        if not sender or "MYUSERS" not in self.named or not bank.settings.originating:
            return bank
        address = address_for(sender, bank.settings)
        if self.directory is not None and bank.settings.local_domains_maps.fixed is None:
            (address,), _ = self.directory.know((address,), (), bank.settings)
        return self._loaded(bank, ("MYUSERS",)) if is_local(address, bank.settings) else bank

    def restore(self, path: Sequence[str]) -> PolicyBank:
        """The bank with this path again, after a journey between processes; what a reload removed is left out."""
        return self._loaded(self.base, path)

    def interface_matches(self, connection: Connection) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Entries of interface_policy that hold for the connection, general before particular: (key, bank names)."""
        for key in dict.fromkeys(_interface_keys(connection)):
            if key in self.interface_policy:
                yield key, self.interface_policy[key]

    def single_names(self, names: Iterable[str]) -> list[str]:
        """The names in texts that may be comma lists. Nobody needs a hundred, so more are not read."""
        single = (text for listed in names for text in ([listed] if listed in self.named else listed.split(",")))
        return [text.strip() for text in islice(single, _NAMES_ASKED_FOR)]

    def _loaded(self, bank: PolicyBank, names: Iterable[str]) -> PolicyBank:
        """The bank with the named ones over it, one after the other, remembered."""
        defined = tuple([name for name in names if self._is_defined(name)])
        if not defined:
            return bank
        known = self._known.get((bank.path, defined))
        if known is None:
            known = reduce(PolicyBank.overlaid_with, (self.named[name] for name in defined), bank)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[bank.path, defined] = known
        return known

    def _is_defined(self, name: str) -> bool:
        if name in self.named:
            return True
        _log.debug('policy bank "%s" does not exist, ignored', name)
        return False


def client_matches(bank: PolicyBank, address: str | None, directory: Directory | None = None) -> Iterator[ClientMatch]:
    """The rules of client_ipaddr_policy that hold: the first match, and later ones that say `also`.

    A table whose deciding entry excludes the address is passed over; the search goes on with the next rule.
    """
    has_matched = False
    for number, rule in enumerate(bank.settings.client_ipaddr_policy, 1):
        if (not has_matched or rule.also) and _holds(rule, address, directory):
            has_matched = True
            yield ClientMatch(number, rule)


def _holds(rule: ClientRule, address: str | None, directory: Directory | None) -> bool:
    """An entry of the networks that excludes the address spares it the blocklist, too."""
    found = rule.networks.find(address)
    if found is None and rule.dnsxl is not None and directory is not None:
        return directory.is_listed(rule.dnsxl, address)
    return bool(found)


def _interface_keys(connection: Connection) -> Iterator[str]:
    """Keys of interface_policy for a connection, chapter 4.3: what comes later is loaded later and wins."""
    if connection.listener.startswith("/"):
        yield "SOCK"
        yield connection.listener
        return
    local, port = connection.local, connection.local_port
    if port:
        yield f"{port}"
    if port and local:
        yield f"[{local}]:{port}" if ":" in local else f"{local}:{port}"
    if port and connection.interface:
        yield f"{connection.interface}:{port}"
    yield connection.listener

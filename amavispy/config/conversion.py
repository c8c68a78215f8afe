"""Conversion - the merged tree becomes settings: every value through its kind, every fault collected.

In goes what was merged, out comes a `Draft`: the server's settings, the base bank's, the overrides of every bank. What
has a fault keeps its default in the draft, and its name stands in `faulty`, so that the cross checks in `config.checks`
do not draw conclusions from it.

**Failures:** none are raised; faults are in `Draft.faults`.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from amavispy.config.amavis_names import what_became_of
from amavispy.config.faults import Fault
from amavispy.config.kinds import BadValue, Context, nearest, show
from amavispy.config.merge import Merged, texts_of
from amavispy.config.model import ServerSettings
from amavispy.config.schema import ALL_SETTINGS, BANK_SETTINGS, SERVER_SETTINGS, Setting
from amavispy.config.sockets import bank_name, joined
from amavispy.config.sources import Path
from amavispy.config.variables import Variables
from amavispy.policy.settings import ClientRule, Settings

_NETWORK_LISTS = ("mynetworks", "inet_acl")
_DEFAULT_TEXTS = texts_of({name: setting.default for name, setting in ALL_SETTINGS.items()})


@dataclass(frozen=True)
class Draft:
    """A converted configuration that was not cross-checked yet.

    `overrides`: bank -> setting -> value. `socket_places`: for every listen socket the path of the entry it came from.
    `faulty`: names of settings, of whatever bank, that have faults.
    """

    merged: Merged
    server: ServerSettings
    base: Settings
    overrides: Mapping[str, Mapping[str, Any]]
    socket_places: tuple[Path, ...] = ()
    faulty: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = field(default=(), repr=False)

    def banks(self) -> Iterator[tuple[Path, Settings]]:
        """The base bank and every named one over it, each with its path in the configuration."""
        yield (), self.base
        for name, overrides in self.overrides.items():
            yield ("policy_bank", name), replace(self.base, **overrides)


def convert(merged: Merged, read: Callable[[str], str]) -> Draft:
    """The draft of a merged configuration; `read` gives the text of a table file or raises BadValue."""
    return _Conversion(merged, read).draft()


class _Conversion:
    def __init__(self, merged: Merged, read: Callable[[str], str]) -> None:
        self._merged = merged
        self._read = read
        self._faults: list[Fault] = []
        self._faulty: set[str] = set()
        self._values = {name: value for name, value in merged.values.items() if name != "policy_bank"}
        self._texts = {**_DEFAULT_TEXTS, **texts_of(self._values)}
        self._texts["mydomain"] = self._texts["mydomain"] or self._derived_domain()

    def draft(self) -> Draft:
        context = self._context(self._texts, self._values)
        self._unknown_keys()
        server = self._settings(SERVER_SETTINGS, self._values, (), context)
        base = self._settings(BANK_SETTINGS, self._values, (), context)
        server["mydomain"] = server.get("mydomain") or self._texts["mydomain"]
        sockets = joined(
            server.get("listen_sockets", ()), server.get("inet_socket_bind", ServerSettings().inet_socket_bind)
        )
        overrides = dict(self._banks(context))
        if "MYNETS" in overrides and "client_ipaddr_policy" not in self._values:
            base["client_ipaddr_policy"] = (ClientRule(base.get("mynetworks", Settings().mynetworks), ("MYNETS",)),)
        return Draft(
            self._merged,
            ServerSettings(**{**server, "listen_sockets": tuple(socket for _, socket in sockets)}),
            Settings(**base),
            overrides,
            tuple(("listen_sockets", index) for index, _ in sockets),
            frozenset(self._faulty),
            tuple(self._faults),
        )

    def _derived_domain(self) -> str:
        """mydomain when nobody sets it: myhostname without its first label."""
        name = self._texts["myhostname"]
        return name.partition(".")[2] or "localhost" if isinstance(name, str) else "localhost"

    def _context(self, texts: Mapping[str, Any], values: Mapping[str, Any]) -> Context:
        def networks(name: str) -> Any:
            if name not in _NETWORK_LISTS:
                raise BadValue(
                    f"${name} is not a list of networks", f"known: {', '.join(f'${n}' for n in _NETWORK_LISTS)}"
                )
            return values.get(name, BANK_SETTINGS[name].default)

        return Context(Variables(texts).expand, networks, self._read)

    def _fault(self, path: Path, problem: str, allowed: str = "") -> None:
        self._faults.append(self._merged.fault(path, problem, allowed))

    def _unknown_keys(self) -> None:
        for name in self._values:
            if name not in ALL_SETTINGS:
                self._fault((name,), *_about_unknown(name, [*ALL_SETTINGS, "policy_bank"]))

    def _settings(
        self, table: Mapping[str, Setting], values: Mapping[str, Any], path: Path, context: Context
    ) -> dict[str, Any]:
        """What the values become, and defaults that depend on other settings; other defaults are left out."""
        found = {}
        for name, setting in table.items():
            if name in values or (not path and _depends(setting.default)):
                try:
                    found[name] = setting.kind.convert(values.get(name, setting.default), context)
                except BadValue as bad:
                    self._report(bad, (*path, name), is_given=name in values)
        return found

    def _report(self, bad: BadValue, path: Path, *, is_given: bool) -> None:
        """A default is only at fault through a variable in it, and that one is reported itself."""
        self._faulty.add(str(path[-1]))
        if is_given:
            for problem in bad.problems:
                self._fault((*path, *problem.path), problem.text, problem.allowed)

    def _banks(self, base: Context) -> Iterator[tuple[str, Mapping[str, Any]]]:
        banks = self._merged.values.get("policy_bank", {})
        if not isinstance(banks, dict):
            self._fault(("policy_bank",), f"{show(banks)} is not a table", "expected [policy_bank.NAME]")
            return
        for name, values in banks.items():
            path: Path = ("policy_bank", name)
            if not isinstance(values, dict):
                hint = nearest(name, ALL_SETTINGS)
                self._fault(
                    path, f"{show(values)} is not a table{', ' + hint if hint else ''}", "expected [policy_bank.NAME]"
                )
            elif self._has_good_name(name):
                yield name, self._bank(path, values, base)

    def _has_good_name(self, name: str) -> bool:
        try:
            bank_name(name)
        except BadValue as bad:
            self._fault(("policy_bank", name), bad.problems[0].text, bad.problems[0].allowed)
            return False
        return True

    def _bank(self, path: Path, values: dict[str, Any], base: Context) -> dict[str, Any]:
        for name in values:
            if name in SERVER_SETTINGS:
                self._fault(
                    (*path, name), "this setting exists once, no policy bank can change it", "set it at top level"
                )
            elif name not in BANK_SETTINGS:
                self._fault((*path, name), *_about_unknown(name, BANK_SETTINGS))
        texts = texts_of(values)
        is_plain = not texts and not any(name in values for name in _NETWORK_LISTS)
        context = base if is_plain else self._context(ChainMap(texts, self._texts), ChainMap(values, self._values))
        return self._settings(BANK_SETTINGS, values, path, context)


def _depends(default: Any) -> bool:
    """Whether a default has to be converted: it names other settings, or it is a list of sockets."""
    return default == [10024] or (isinstance(default, str) and "$" in default and "${" not in default)


def _about_unknown(name: str, known: Any) -> tuple[str, str]:
    if became := what_became_of(name):
        return became, ""
    return "unknown setting", nearest(name, known)

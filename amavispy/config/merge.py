"""Merge - several documents become one, and everything still knows where it was written.

What comes later wins. Policy banks and interface_policy merge key by key; lists of tables (scanners,
client_ipaddr_policy) grow, so that a fragment can add one, except that an empty list empties them and --set replaces
them. All else is replaced as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from amavispy.config.faults import Fault
from amavispy.config.schema import ALL_SETTINGS
from amavispy.config.sources import Document, Path

_MERGED_BY_KEY = {"policy_bank": 2, "interface_policy": 1}


class Merged:
    """`values` is the merged tree. Paths into it can be traced back to file and line."""

    def __init__(self, documents: list[Document]) -> None:
        self.values: dict[str, Any] = {}
        self._origins: dict[Path, tuple[int, Path]] = {}
        self._documents = documents
        for number, document in enumerate(documents):
            for key, value in document.values.items():
                self._add((key,), value, self.values, number, _MERGED_BY_KEY.get(key, 0))

    def _add(self, path: Path, value: Any, into: dict[str, Any], number: int, depth: int) -> None:
        """Put a value at its path; tables are entered `depth` levels deep."""
        key = str(path[-1])
        if depth and isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            self._origins[path] = (number, path)
            for name, inner in value.items():
                self._add((*path, name), inner, into[key], number, depth - 1)
        elif _grows(key, value) and self._documents[number].is_file:
            self._extend(path, value, into, number)
        else:
            into[key] = value
            self._origins[path] = (number, path)
            if _can_grow(key):
                self._forget_elements(path)

    def _extend(self, path: Path, tables: list[Any], into: dict[str, Any], number: int) -> None:
        key = str(path[-1])
        present = into.get(key)
        present = list(present) if isinstance(present, list) else []
        into[key] = [*present, *tables]
        self._origins.setdefault(path, (number, path))
        for index in range(len(tables)):
            self._origins[(*path, len(present) + index)] = (number, (*path, index))

    def _forget_elements(self, path: Path) -> None:
        for known in [p for p in self._origins if p[:-1] == path and isinstance(p[-1], int)]:
            del self._origins[known]

    def is_given(self, path: Path) -> bool:
        """Whether some document writes this itself."""
        return path in self._origins

    def fault(self, path: Path, problem: str, allowed: str = "", *, is_warning: bool = False) -> Fault:
        """A fault at a path, with the place it was written at; a default that nobody wrote has no place."""
        written = path
        while written and written not in self._origins:
            written = written[:-1]
        if not written:
            return Fault("default", 0, key_text(path), problem, allowed, is_warning)
        number, origin = self._origins[written]
        document = self._documents[number]
        line = document.line((*origin, *path[len(written) :]))
        return Fault(document.name, line, key_text(path), problem, allowed, is_warning)

    def sorted(self, faults: Iterable[Fault]) -> tuple[Fault, ...]:
        """Faults in the order of sources and lines."""
        order = {document.name: number for number, document in reversed([*enumerate(self._documents)])}
        return tuple(sorted(faults, key=lambda fault: (order.get(fault.source, len(order)), fault.line)))

    def places(self, names: Iterable[str]) -> dict[str, str]:
        """`file:line` for those of these top level keys that somebody wrote."""
        found = {name: self.fault((name,), "") for name in names if (name,) in self._origins}
        return {name: f"{f.source}:{f.line}" if f.line else f.source for name, f in found.items()}


def _can_grow(key: str) -> bool:
    return key in ALL_SETTINGS and ALL_SETTINGS[key].kind.appends


def _grows(key: str, value: Any) -> bool:
    return _can_grow(key) and isinstance(value, list) and bool(value) and all(isinstance(v, dict) for v in value)


def key_text(path: Path) -> str:
    """A path for people: policy_bank.X.av_scanners[2].name, elements counted from 1."""
    text = ""
    for step in path:
        text += f"[{step + 1}]" if isinstance(step, int) else f".{_quoted(step)}" if text else _quoted(step)
    return text


def _quoted(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else f'"{key}"'


def texts_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of settings that are texts: what $NAME can stand for."""
    return {name: values[name] for name in values if name in ALL_SETTINGS and ALL_SETTINGS[name].kind.is_text}

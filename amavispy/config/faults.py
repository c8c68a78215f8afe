"""Faults - what is wrong with a configuration, said so that it can be mended.

A `Fault` names the file, the line, the key, what is wrong and what is allowed. A configuration with faults is not used
at all; all of them are collected before anybody is told. Warnings are faults that do not stop the daemon.

**Failures:** `ConfigError` is the only exception that leaves `amavispy.config`; the command line prints its faults and
exits, a reload logs them and keeps the old configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_ESCAPED = {i: f"\\x{i:02X}" for i in [*range(32), *range(127, 160)]}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `source` is the file as it was named, or the option; `line` counts from 1, 0 unknown."""

    source: str
    line: int
    key: str
    problem: str
    allowed: str = ""
    is_warning: bool = False

    def __str__(self) -> str:
        """`file:line: key: what is wrong; what is allowed`, on one line whatever the file contained."""
        where = f"{self.source}:{self.line}" if self.line else self.source
        said = f"{self.problem}; {self.allowed}" if self.allowed else self.problem
        parts = (where, "warning" if self.is_warning else "", self.key, said)
        text = ": ".join(part for part in parts if part).translate(_ESCAPED)
        return text.encode("utf-8", "backslashreplace").decode()


class ConfigError(Exception):
    """The configuration cannot be used. `faults` has every reason, in the order of files and lines."""

    def __init__(self, faults: Sequence[Fault], warnings: Sequence[Fault] = ()) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)
        self.warnings = tuple(warnings)

"""Loader - `load_config`: sources become one frozen Config, or every reason why they cannot.

    read_documents -> Merged -> convert -> Draft -> findings -> Config

The same for start, check and reload: nothing is remembered between two loads.

**Failures:** ConfigError with all faults, in the order of files and lines. When a file cannot be read or is no TOML,
the settings are not judged: what is missing from them would only lead to consequences.
"""

from __future__ import annotations

from dataclasses import replace

from amavispy.config.checks import findings
from amavispy.config.conversion import Draft, convert
from amavispy.config.faults import ConfigError, Fault
from amavispy.config.implied import with_base_clauses, with_implied_tables
from amavispy.config.kinds import BadValue
from amavispy.config.merge import Merged
from amavispy.config.model import Config
from amavispy.config.schema import BANK_SETTINGS
from amavispy.config.sources import TABLE_LIMIT, Sources, read_documents, read_text
from amavispy.policy.bank import Banks, NamedBank


def load_config(sources: Sources) -> Config:
    """The configuration these sources make. Raises ConfigError."""
    unreadable: list[Fault] = []
    complaints: list[Fault] = []
    documents = read_documents(sources, unreadable, complaints)
    if unreadable:
        raise ConfigError([*unreadable, *complaints])
    merged = Merged(documents)
    tables = _Tables(sources.checks_ownership)
    draft = convert(merged, tables.read)
    found = [merged.fault(f.path, f.problem, f.allowed, is_warning=not f.is_fault) for f in findings(draft)]
    faults = [*draft.faults, *(fault for fault in found if not fault.is_warning), *complaints]
    warnings = [fault for fault in found if fault.is_warning]
    warnings = [*merged.sorted(warnings), *(replace(fault, is_warning=True) for fault in tables.complaints)]
    if faults:
        raise ConfigError(merged.sorted(faults), warnings)
    return _config(draft, warnings, [*(d.name for d in documents if d.is_file), *tables.texts])


def _config(draft: Draft, warnings: list[Fault], files: list[str]) -> Config:
    overrides = with_base_clauses(draft.base, draft.overrides)
    named = {name: NamedBank(name, changes) for name, changes in overrides.items()}
    base = with_implied_tables(draft.base, draft.server, overrides)
    origins = draft.merged.places(BANK_SETTINGS)
    banks = Banks(base, named, draft.server.interface_policy, origins)
    return Config(draft.server, banks, tuple(warnings), tuple(files))


class _Tables:
    """The table files of one load, each read once. Who may write them is worth a warning only: others may keep them."""

    def __init__(self, checks_ownership: bool) -> None:
        self.texts: dict[str, str] = {}
        self.complaints: list[Fault] = []
        self._checks_ownership = checks_ownership

    def read(self, path: str) -> str:
        """The text of a table file. Raises BadValue."""
        if path not in self.texts:
            self.texts[path] = self._read(path)
        return self.texts[path]

    def _read(self, path: str) -> str:
        if not path.startswith("/"):
            raise BadValue(f'"{path}" is not an absolute path', 'expected "/..."')
        faults: list[Fault] = []
        text = read_text(path, TABLE_LIMIT, faults, self.complaints if self._checks_ownership else None)
        if text is None:
            raise BadValue(f"{faults[0]}")
        return text

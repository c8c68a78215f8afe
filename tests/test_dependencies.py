"""What the package imports is what setup.py installs; nothing more is needed and nothing is there for nobody."""

from __future__ import annotations

import ast
import re
import sys

import pytest

from tests.running import ROOT

# import name: distribution, where they differ
NAMES = {
    "daemon": "python-daemon",
    "magic": "python-magic",
    "libarchive": "libarchive-c",
    "yara_x": "yara-x",
    "dns": "dnspython",
    "sqlalchemy": "SQLAlchemy",
    "pymysql": "PyMySQL",
    "jinja2": "Jinja2",
}
CALLED_BY_NAME = {"psycopg", "PyMySQL"}  # SQLAlchemy imports its drivers by the name in the DSN


def imported() -> set[str]:
    """Every module from outside the standard library that amavispy imports, anywhere."""
    found = set()
    for path in (ROOT / "amavispy").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found - sys.stdlib_module_names - {"amavispy"}


def declared() -> set[str]:
    text = (ROOT / "setup.py").read_text()
    text = text[: text.index('"test": [')]
    return set(re.findall(r'"([A-Za-z][\w-]*)(?:\[\w+\])?>=', text)) - {"3"}


@pytest.mark.parametrize("module", sorted(imported()))
def test_what_is_imported_is_declared(module: str) -> None:
    assert NAMES.get(module, module) in declared()


def test_what_is_declared_is_imported() -> None:
    used = {NAMES.get(module, module) for module in imported()}
    assert declared() - used <= CALLED_BY_NAME

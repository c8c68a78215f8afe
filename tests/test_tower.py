"""The import tower that docs/ARCHITECTURE.md draws is the one the code keeps, imports inside functions included."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "amavispy"
MODULES = sorted(PACKAGE.rglob("*.py"))


def floors() -> list[set[str]]:
    text = (ROOT / "docs/ARCHITECTURE.md").read_text()
    block = re.search(r"```tower\n(.*?)```", text, re.S)
    assert block, "docs/ARCHITECTURE.md has a block fenced as `tower`"
    return [set(line.split()) for line in block[1].splitlines()]


def room_of(module: str) -> str:
    """`amavispy.policy.bank` lives in `policy`."""
    return module.split(".")[1] if "." in module else ""


def imports_of(path: Path) -> list[tuple[int, str]]:
    """Every amavispy module that a file imports, wherever the import stands; not those for type checkers only."""
    tree = ast.parse(path.read_text())
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            found.append((node.lineno, node.module or ""))
    return [(line, name) for line, name in found if name.startswith("amavispy.")]


def test_every_room_stands_on_a_floor() -> None:
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith(("__", "py."))}
    assert rooms == set().union(*floors())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_downwards_only(path: Path) -> None:
    height = {room: level for level, names in enumerate(reversed(floors())) for room in names}
    own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own.startswith("__"):
        return
    wrong = [
        f"{path.name}:{line}: {own} imports {name}"
        for line, name in imports_of(path)
        if room_of(name) != own and height[room_of(name)] >= height[own]
    ]
    assert not wrong


def test_the_contract_is_the_one_that_import_linter_checks() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    block = re.search(r"layers = \[(.*?)\]", text, re.S)
    assert block
    layers = [set(re.findall(r"amavispy\.(\w+)", line)) for line in block[1].strip().splitlines()]
    assert layers == floors()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_interfaces_knows_netifaces(path: Path) -> None:
    assert path.name == "interfaces.py" or "netifaces" not in path.read_text().replace("netifaces in", "")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_functions_and_modules_stay_small(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [f"{f.name}: {f.end_lineno - f.lineno + 1} lines" for f in functions if (f.end_lineno or 0) - f.lineno >= 40]
    assert not long
    assert text.count("\n") <= 450
    assert ast.get_docstring(tree), "a module opens with its manual page"


def test_the_way_of_a_message_fits_on_one_screen() -> None:
    tree = ast.parse((PACKAGE / "pipeline.py").read_text())
    process = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "process")
    assert (process.end_lineno or 0) - process.lineno + 1 <= 20


def test_importing_the_package_has_no_side_effects() -> None:
    code = "import sys, amavispy; print(sorted(m for m in sys.modules if m.startswith('amavispy.')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

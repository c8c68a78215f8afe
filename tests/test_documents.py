"""The documents tell the truth: their commands run, their links lead somewhere, their lists are complete."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from amavispy.config.model import ServerSettings
from amavispy.policy.settings import Settings
from tests.running import AMAVISPY, ROOT

DOCUMENTS = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md")])


def commands_of(document: str) -> list[str]:
    """The lines of a document's shell blocks that call amavispy."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / document).read_text(), re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("amavispy ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    missing = [target for target in targets if "://" not in target and not (path.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("command", commands_of("README.md"))
def test_the_commands_of_readme_run(command: str) -> None:
    done = subprocess.run([AMAVISPY, *command.split()[1:]], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip()


def test_readme_begins_with_what_it_is_and_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text()
    assert text.index("make run") < text.index("make test") < 1500


def test_every_setting_is_described() -> None:
    text = (ROOT / "docs/settings.md").read_text()
    names = [field.name for cls in (Settings, ServerSettings) for field in fields(cls)]
    missing = [name for name in names if f"`{name}`" not in text and name != "debug_to_stderr"]
    assert not missing


def test_every_command_has_a_help_text_and_a_place_in_the_documents() -> None:
    listed = subprocess.run([AMAVISPY, "--help"], capture_output=True, text=True, check=True, timeout=60).stdout
    names = re.findall(r"^  ([a-z-]+) {2,}", listed[listed.index("Commands:") :], re.M)
    documents = "\n".join(path.read_text() for path in DOCUMENTS) + (ROOT / "Makefile").read_text()
    assert len(names) >= 10
    for name in names:
        done = subprocess.run([AMAVISPY, name, "--help"], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert f"amavispy {name}" in documents or f"{name}`" in documents, f"{name} is in no document"


def test_a_wrong_command_line_gets_a_hint_and_no_traceback() -> None:
    done = subprocess.run([AMAVISPY, "explain", "--frobnicate"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Traceback" not in done.stderr


def test_postfix_takes_our_master_cf(tmp_path: Path) -> None:
    """postconf reads the services of etc/postfix/master.cf as Postfix would."""
    (tmp_path / "main.cf").write_text("compatibility_level = 3.6\n")
    (tmp_path / "master.cf").write_text((ROOT / "etc/postfix/master.cf").read_text())
    done = subprocess.run(["postconf", "-c", tmp_path, "-M"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "smtp-amavis" in done.stdout
    assert "127.0.0.1:10025" in done.stdout


def test_the_package_imports_on_this_python() -> None:
    done = subprocess.run([sys.executable, "-m", "amavispy", "--version"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert "amavispy" in done.stdout

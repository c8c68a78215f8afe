"""The schema, the dataclasses and the printed files say the same about every setting."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from click.testing import CliRunner

from amavispy.cli.settings import settings
from amavispy.config.amavis_names import what_became_of
from amavispy.config.model import ServerSettings
from amavispy.config.schema import ALL_SETTINGS, BANK, BANK_SETTINGS, SERVER, SERVER_SETTINGS
from amavispy.policy.settings import Settings
from tests.config.loading import load

ROOT = Path(__file__).parent.parent.parent
DERIVED = {"x_header_line": "amavispy at localhost"}  # the class has "", a configuration names its domain


def test_every_setting_of_the_server_is_in_the_schema_and_no_other() -> None:
    assert {f.name for f in fields(ServerSettings)} == SERVER_SETTINGS.keys()


def test_every_setting_of_banks_is_in_the_schema_and_no_other() -> None:
    assert {f.name for f in fields(Settings)} == BANK_SETTINGS.keys()


def test_every_setting_stands_in_one_group_only() -> None:
    names = [setting.name for group in (*SERVER, *BANK) for setting in group.settings]
    assert len(names) == len(set(names))
    assert [group.is_bankable for group in (*SERVER, *BANK)] == [False] * len(SERVER) + [True] * len(BANK)


@pytest.mark.parametrize("name", sorted(ALL_SETTINGS))
def test_a_setting_is_described_in_one_sentence(name: str) -> None:
    about = ALL_SETTINGS[name].about
    assert about[0].isupper() or about[0].isdigit()
    assert about.endswith(".")
    assert "\n" not in about


@pytest.mark.parametrize("name", sorted(ALL_SETTINGS))
def test_writing_the_default_changes_nothing(name: str, tmp_path: Path) -> None:
    line = next(line for line in printed("--toml").splitlines() if line.startswith(f"#{name} = "))
    plain, written = load(tmp_path), load(tmp_path, line[1:])
    assert written.server == plain.server == ServerSettings()
    assert written.banks.base.settings == plain.banks.base.settings


def test_the_defaults_of_the_schema_are_those_of_the_classes(tmp_path: Path) -> None:
    everything = re.sub(r"(?m)^#(?=\w+ = )", "", printed("--toml"))
    config = load(tmp_path, everything)
    assert config.server == ServerSettings()
    found = {f.name: getattr(config.banks.base.settings, f.name) for f in fields(Settings)}
    assert found == {f.name: DERIVED.get(f.name, getattr(Settings(), f.name)) for f in fields(Settings)}


def test_the_commented_configuration_is_the_printed_one() -> None:
    assert (ROOT / "etc" / "amavispy.toml").read_text() == printed("--toml")


def test_the_documentation_of_settings_is_the_printed_one() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == printed()


def test_no_setting_is_said_to_be_absent() -> None:
    assert [name for name in ALL_SETTINGS if what_became_of(name)] == []


def printed(*arguments: str) -> str:
    return CliRunner().invoke(settings, arguments).output

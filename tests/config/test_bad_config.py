"""Every tests/bad_config/NAME.toml is told exactly what stands in NAME.txt: all faults with file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from amavispy.cli.check import check

CASES = Path(__file__).parent.parent / "bad_config"
NAMES = sorted(path.stem for path in CASES.glob("*.toml"))


@pytest.mark.parametrize("name", NAMES)
def test_the_administrator_is_told_exactly_this(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    arguments = ["-c", "../config/sound.toml", "-c", f"{name}.toml", "-X", "no_conf_file_writable_check"]
    result = CliRunner().invoke(check, arguments)
    assert f"exit {result.exit_code}\n{result.output}" == (CASES / f"{name}.txt").read_text()


def test_every_case_has_its_text_and_every_text_its_case() -> None:
    assert sorted(path.stem for path in CASES.glob("*.txt")) == NAMES
    assert len(NAMES) >= 40


def test_what_all_cases_stand_on_is_sound() -> None:
    sound = str(CASES.parent / "config" / "sound.toml")
    result = CliRunner().invoke(check, ["-c", sound, "-X", "no_conf_file_writable_check"])
    assert result.output == "configuration ok: 1 file, 0 policy banks, 2 listen sockets, 0 warnings\n"

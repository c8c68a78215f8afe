"""Whatever stands in a configuration, the answer is a Config or a list of faults, never a traceback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from amavispy.cli.settings import toml
from amavispy.config.faults import ConfigError, Fault
from amavispy.config.loader import load_config
from amavispy.config.schema import ALL_SETTINGS, BANK_SETTINGS
from amavispy.config.sources import Option, Sources

ODD_VALUES = (
    "",
    " ",
    "$",
    "$MYHOME",
    "$nothing",
    "$mynetworks",
    "a" * 5000,
    "\x00",
    "é",
    "[",
    "!",
    "::",
    "/",
    "D_PASS",
    "10024",
    "smtp:[",
    "\u0662",
    "1e999",
    0,
    -1,
    10**400,
    1.5,
    float("nan"),
    float("inf"),
    True,
    False,
    [],
    {},
    [[]],
    [{}],
    [[[]]],
    [{"": ""}],
    [{"a": []}],
    [{"regexp": 1}],
    [{"regexp": [[]]}],
    [{"regexp": [["(", 1]]}],
    [{"file": 1}],
    [{"file": "/dev/null", "kind": []}],
    [{"file": "/dev/null"}],
    [{"file": "/", "kind": "cidr"}],
    [{"name": [], "type": {}}],
    [{"networks": [{}], "banks": [[]]}],
    [{"networks": ["$inet_acl", ""], "banks": ""}],
    [1, "x", [2], {"y": 3}],
    {"": {}},
    {"10024": ["", []]},
    {"SOCK": "A"},
    {"a": {"b": [1]}},
)


def judge(*options: Option) -> None:
    """Load it. Anything but a ConfigError fails the test; so does a fault that spreads over several lines."""
    lines = [str(fault) for fault in _faults(options)]
    assert all(line.isprintable() or not line.isascii() for line in lines)


def _faults(options: tuple[Option, ...]) -> tuple[Fault, ...]:
    try:
        return load_config(Sources((), (), options, checks_ownership=False)).warnings
    except ConfigError as error:
        return error.faults


@pytest.mark.parametrize("name", [*ALL_SETTINGS, "policy_bank", "no_such_setting"])
def test_odd_values_are_faults_at_worst(name: str) -> None:
    for value in ODD_VALUES:
        judge(Option("-x", name, value))


@pytest.mark.parametrize("name", sorted(BANK_SETTINGS))
def test_odd_values_in_a_bank_are_faults_at_worst(name: str) -> None:
    for value in ODD_VALUES:
        judge(Option("-x", "policy_bank", {"A": {name: value}}))


_SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(ODD_VALUES[:18]))
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@hypothesis_settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*ALL_SETTINGS, "policy_bank"]), _VALUES, max_size=5))
def test_any_values_together_are_faults_at_worst(values: dict[str, Any]) -> None:
    judge(*(Option("-x", name, value) for name, value in values.items()))


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=200))
def test_any_octets_are_faults_at_worst(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "main.toml").write_bytes(octets)
    with pytest.raises(ConfigError) if not _is_toml(octets) else _Nothing():
        load_config(Sources((str(tmp_path / "main.toml"),), checks_ownership=False))


class _Nothing:
    """Like `pytest.raises`, for documents that may be anything; a ConfigError is as good as a Config."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is None or issubclass(kind, ConfigError)


def _is_toml(octets: bytes) -> bool:
    import tomllib

    try:
        tomllib.loads(octets.decode())
    except ValueError:
        return False
    return True


def test_every_default_can_be_written_as_toml() -> None:
    assert all(toml(setting.default) for setting in ALL_SETTINGS.values())

"""check - `amavispy check`: say everything that is wrong with the configuration, and start nothing.

One line a fault or warning, `file:line: key: what is wrong; what is allowed`, or the same as JSON. Exit status 0 when
the daemon would start, 1 when it would not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from amavispy.cli.options import config_options
from amavispy.config.faults import ConfigError, Fault
from amavispy.config.loader import load_config
from amavispy.config.model import Config
from amavispy.config.sources import Sources


@click.command("check")
@config_options
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(sources: Sources, as_json: bool) -> None:
    """Check the configuration and list every fault."""
    try:
        config = load_config(sources)
    except ConfigError as error:
        click.echo(_json(error.warnings, error.faults) if as_json else faults_text(error))
        sys.exit(1)
    click.echo(_json(config.warnings, (), _counts(config)) if as_json else _text(config))


def faults_text(error: ConfigError) -> str:
    """All faults, warnings, and the sentence under them; for every command that cannot start because of them."""
    said = [str(fault) for fault in (*error.faults, *error.warnings)]
    return "\n".join([*said, f"{_number(len(error.faults), 'faults')} in the configuration, nothing was started"])


def _text(config: Config) -> str:
    counts = ", ".join(_number(number, name) for name, number in _counts(config).items())
    return "\n".join([*(str(warning) for warning in config.warnings), f"configuration ok: {counts}"])


def _number(number: int, things: str) -> str:
    """`1 policy bank`, `2 policy banks`."""
    words = things.replace("_", " ")
    return f"{number} {words.removesuffix('s') if number == 1 else words}"


def _counts(config: Config) -> dict[str, int]:
    return {
        "files": len(config.files),
        "policy_banks": len(config.banks.named),
        "listen_sockets": len(config.server.listen_sockets),
        "warnings": len(config.warnings),
    }


def _json(warnings: Sequence[Fault], faults: Sequence[Fault], counts: dict[str, int] | None = None) -> str:
    answer: dict[str, Any] = {"ok": not faults, **(counts or {})}
    answer |= {"faults": [_parts(fault) for fault in faults], "warnings": [_parts(warning) for warning in warnings]}
    return json.dumps(answer, indent=2)


def _parts(fault: Fault) -> dict[str, Any]:
    names = ("source", "line", "key", "problem", "allowed")
    return {name: getattr(fault, name) for name in names}

"""check - `amavispy check`: say everything that is wrong with the configuration, and start nothing.

One line a fault or warning, `file:line: key: what is wrong; what is allowed`, or the same as JSON. Exit status 0 when the
daemon would start, 1 when it would not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
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
        click.echo(_json((), error.faults) if as_json else faults_text(error.faults))
        sys.exit(1)
    click.echo(_json(config.warnings, (), _counts(config)) if as_json else _text(config))


def faults_text(faults: Sequence[Fault]) -> str:
    """All faults and the sentence under them; for every command that cannot start because of them."""
    count = f"{len(faults)} fault{'s' if len(faults) != 1 else ''}"
    return "\n".join([*(str(fault) for fault in faults), f"{count} in the configuration, nothing was started"])


def _text(config: Config) -> str:
    counts = ", ".join(f"{number} {name.replace('_', ' ')}" for name, number in _counts(config).items())
    return "\n".join([*(str(warning) for warning in config.warnings), f"configuration ok: {counts}"])


def _counts(config: Config) -> dict[str, int]:
    return {
        "files": len(config.files),
        "policy_banks": len(config.banks.named),
        "listen_sockets": len(config.server.listen_sockets),
        "warnings": len(config.warnings),
    }


def _json(warnings: Sequence[Fault], faults: Sequence[Fault], counts: dict[str, int] | None = None) -> str:
    answer: dict[str, Any] = {"ok": not faults, **(counts or {})}
    answer |= {"faults": [asdict(fault) for fault in faults], "warning_list": [asdict(warning) for warning in warnings]}
    return json.dumps(answer, indent=2)

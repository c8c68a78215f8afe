"""explain - `amavispy explain`: show which policy banks a client gets, in order, why, and what follows.

Reads the configuration and nothing else: no daemon, no directories, no privileges; who may write the files is a matter
for `amavispy check`. Prints plain text, tables on a terminal, or JSON.

**Failures:** exit status 1 and all faults when the configuration has some, 2 for a socket that is not listened on or a
client that is no address.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import click

from amavispy.cli.clients import client_address, connection_on
from amavispy.cli.options import config_options
from amavispy.config.faults import ConfigError
from amavispy.config.loader import load_config
from amavispy.config.model import Config
from amavispy.config.sources import Sources
from amavispy.policy.explain import Explanation, Question
from amavispy.policy.explain import explain as explanation_of

_WIDTH = 60  # of a value in text; JSON shows all of it


@click.command("explain")
@config_options
@click.option(
    "--socket", required=True, metavar="SOCKET", help='Port, "address:port", "interface:port", a path, or SOCK.'
)
@click.option("--client", metavar="ADDRESS", help="The original client's IP address; unknown when left out.")
@click.option("--sender", default="", metavar="ADDRESS", help="MAIL FROM; may lead to MYUSERS.")
@click.option("--recipient", default="", metavar="ADDRESS", help="Show what lookup lists answer for this recipient.")
@click.option("--policy-bank", "names", multiple=True, metavar="NAMES", help="Banks that an AM.PDP request asks for.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def explain(sources: Sources, socket: str, client: str | None, as_json: bool, **envelope: Any) -> None:
    """Show which policy banks a client gets, why, and what follows."""
    config = _loaded(sources)
    question = Question(connection_on(socket, config), client_address(client), **envelope)
    explanation = explanation_of(config.banks, question)
    if as_json:
        click.echo(json.dumps(explanation.as_json(), indent=2))
    elif sys.stdout.isatty():
        print_tables(explanation, question)
    else:
        click.echo("\n".join(_lines(explanation, question)))


def _loaded(sources: Sources) -> Config:
    try:
        return load_config(replace(sources, checks_ownership=False))
    except ConfigError as error:
        click.echo("\n".join(str(fault) for fault in error.faults), err=True)
        sys.exit(1)


def _lines(explanation: Explanation, question: Question) -> Iterator[str]:
    yield _headline(question)
    for number, step in enumerate(explanation.steps, 1):
        yield f"\n{number}. {step.name}\n   {step.why}"
        yield from (f"     {name} = {_shown(value)}" for name, value in step.sets.items())
    if not explanation.steps:
        yield "\nNo policy bank is loaded; the base bank holds."
    yield f"\nSettings of {explanation.bank.name or 'the base bank'}"
    rows = list(_rows(explanation))
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    yield from (f"  {name:<{widths[0]}} = {value:<{widths[1]}}  {origin}" for name, value, origin in rows)


def _headline(question: Question) -> str:
    client = question.client or "the unknown client"
    sender = f", mail from <{question.sender}>" if question.sender else ""
    recipient = f", to <{question.recipient}>" if question.recipient else ""
    return f"{client} on {question.connection.listener}{sender}{recipient}"


def _rows(explanation: Explanation) -> Iterator[tuple[str, str, str]]:
    """Name, value and origin of every setting."""
    for name, setting in explanation.settings.items():
        yield name, _shown(setting["value"]), setting["from"]


def _shown(value: Any) -> str:
    """A value on one line, cut when it is long."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) <= _WIDTH:
        return text
    count = f" ({len(value)} in all)" if isinstance(value, list | dict) else ""
    return f"{text[: _WIDTH - len(count) - 3]}...{count}"


def print_tables(explanation: Explanation, question: Question) -> None:
    """The same for a terminal."""
    from rich.console import Console  # on terminals only: its import takes longer than the rest of the command
    from rich.text import Text

    console = Console()
    console.print(Text(_headline(question), style="bold"))
    loaded = ((s.name, s.why, "\n".join(f"{k} = {_shown(v)}" for k, v in s.sets.items())) for s in explanation.steps)
    console.print(_table(("policy bank", "why", "sets"), loaded))
    console.print(_table(("setting", "value", "from"), _rows(explanation)))


def _table(titles: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for number, title in enumerate(titles):
        table.add_column(title, no_wrap=number == 0, overflow="fold")
    for row in rows:
        style = "dim" if row[-1] == "default" else ""
        table.add_row(*(Text(cell) for cell in row), style=style)
    return table

"""quarantine_view - kept mails as people and programs read them: a table on a terminal, lines, or JSON objects.

**Failures:** none.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import click

from amavispy.delivery.quarantine_index import KeptMail

_TITLES = ("mail_id", "received", "category", "score", "size", "sender", "recipients", "subject")
_SHOWN = 3  # recipients in a line


def fields_of(mail: KeptMail) -> dict[str, Any]:
    """A kept mail as a JSON object."""
    return {
        "mail_id": mail.mail_id,
        "received": _when(mail.received_at, "%Y-%m-%dT%H:%M:%S%z"),
        "category": mail.category,
        "sender": mail.sender,
        "recipients": [
            {
                "address": r.address,
                "blocked": r.is_blocked,
                "released": None if r.released_at is None else _when(r.released_at, "%Y-%m-%dT%H:%M:%S%z"),
            }
            for r in mail.recipients
        ],
        "from": mail.from_addr,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "size": mail.size,
        "score": mail.score,
        "host": mail.host,
        "partition_tag": mail.tag,
        "copies": [{"type": c.kind, "location": c.location, "archive": c.is_archive} for c in mail.copies],
    }


def print_object(fields: dict[str, Any]) -> None:
    """One JSON object on one line."""
    click.echo(json.dumps(fields, ensure_ascii=False))


def print_mails(mails: Sequence[KeptMail]) -> None:
    """A table on a terminal, otherwise lines with tabs between the columns."""
    rows = [_row(mail) for mail in mails]
    if sys.stdout.isatty():
        _print_table(rows)
    else:
        for row in rows:
            click.echo("\t".join(row))


def print_mail(mail: KeptMail) -> None:
    """Everything that the index knows of one mail."""
    lines = [
        ("mail_id", mail.mail_id),
        ("received", f"{_when(mail.received_at, '%Y-%m-%d %H:%M:%S %z')} by {mail.host or 'unknown'}"),
        ("category", mail.category),
        ("sender", f"<{mail.sender}>"),
        *(("recipient", _recipient(mail, number)) for number in range(len(mail.recipients))),
        ("from", mail.from_addr),
        ("subject", mail.subject),
        ("message_id", mail.message_id),
        ("size", str(mail.size)),
        ("score", _score(mail.score)),
        *(("copy", f"{copy.kind} {copy.location}{' (archive)' if copy.is_archive else ''}") for copy in mail.copies),
    ]
    for name, value in lines:
        click.echo(f"{name + ':':<12} {value}")


def _row(mail: KeptMail) -> tuple[str, ...]:
    recipients = [r.address for r in mail.recipients[:_SHOWN]]
    more = len(mail.recipients) - len(recipients)
    to = ",".join(recipients) + (f" and {more} more" if more else "")
    when = _when(mail.received_at, "%Y-%m-%d %H:%M:%S")
    return (
        mail.mail_id, when, mail.category, _score(mail.score), str(mail.size), f"<{mail.sender}>", to, mail.subject,
    )  # fmt: skip


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    from rich.console import Console  # on terminals only: its import takes longer than the rest of the command
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold")
    for title in _TITLES:
        is_key, is_number = title in ("mail_id", "received"), title in ("score", "size")
        table.add_column(title, no_wrap=is_key, overflow="fold", justify="right" if is_number else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    Console().print(table)


def _recipient(mail: KeptMail, number: int) -> str:
    recipient = mail.recipients[number]
    released = recipient.released_at
    state = "did not get it" if recipient.is_blocked else "got it"
    if released is not None:
        state = f"released {_when(released, '%Y-%m-%d %H:%M:%S')}"
    return f"<{recipient.address}> {state}"


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}".rstrip("0").rstrip(".")


def _when(seconds: int, form: str) -> str:
    return time.strftime(form, time.localtime(seconds))

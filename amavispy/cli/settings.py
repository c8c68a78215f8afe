"""settings - `amavispy settings`: describe every setting, as docs/settings.md or as the commented etc/amavispy.toml.

Both are printed from `config.schema`; tests compare the committed files with this output.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from amavispy.config.schema import BANK, SERVER, Group, Setting

_MARKDOWN_HEAD = """\
# Settings

Printed by `amavispy settings`; edit `amavispy/config/schema.py` instead of this file.

The configuration is TOML: `/etc/amavispy/amavispy.toml`, then `conf.d/*.toml` beside it in the order of their names.
What comes later wins; policy banks and `interface_policy` merge key by key; the lists of tables `av_scanners`,
`av_scanners_backup`, `spam_scanners` and `client_ipaddr_policy` grow, and an empty list empties them. `amavispy check`
names every fault with file and line.

Texts may hold variables: `$MYHOME`, `$myhostname` or any other setting that is a text, by its name, whatever the case.
`$$` before a letter is a dollar sign. Regular expressions hold no variables.

A lookup list is a constant, or a list of tables that are asked in order; the first defined answer counts:

| table | answers |
|---|---|
| `true`, `6.31`, `"text"` | always this |
| `{ "user@example.com" = true, ".com" = false }` | by the best key: `user@domain`, `user@`, `domain`, `.domain`, `.` |
| `["!spammer@example.com", ".example.com"]` | true by the first entry that matches, false behind `!` |
| `{ regexp = [["pattern", value], ...] }` | by the first pattern found in the address (Python's `re`, any case) |
| `{ file = "/path", kind = "hash" }` | as a hash, from lines `key value`, `true` without value |
| `{ file = "/path", kind = "array" }` | as an access list, from one entry a line |
| `{ file = "/path", kind = "regexp" }` | as a regexp list, from lines `/pattern/ value` |

A list of networks holds `"192.0.2.1"`, `"10.0.0.0/8"`, `"2001:db8::/32"`, any of them behind `!` to exclude it, a
reference `"$mynetworks"`, or `{ file = "/path", kind = "cidr" }`. The first entry that matches counts.

Settings marked *bank* may also stand in a `[policy_bank.NAME]`.
"""

_TOML_HEAD = """\
# amavispy's configuration: every setting, commented out at its default.
# Printed by `amavispy settings --toml`. docs/settings.md has the forms of values; `amavispy check` names every fault.
# Settings under "policy banks too" may stand here for everybody, or in a [policy_bank.NAME] for some.
# Tables ([policy_bank.NAME], [interface_policy], [[av_scanners]]) must stand behind all settings of the top level.
"""

_TOML_TAIL = """
# Policy banks and the rules that lead to them.
#
# [interface_policy]
# 10026 = "ORIGINATING"
# SOCK = "AM.PDP-SOCK"
#
# [[client_ipaddr_policy]]
# networks = "$mynetworks"
# banks = ["MYNETS"]
#
# [policy_bank.MYNETS]
# originating = true
#
# ["policy_bank"."AM.PDP-SOCK"]
# protocol = "AM.PDP"
#
# [[av_scanners]]
# name = "ClamAV-clamd"
# type = "clamd"
# address = "/run/clamav/clamd.ctl"
#
# [[spam_scanners]]
# name = "SpamAssassin"
# type = "spamd"
# address = "127.0.0.1:783"
"""


@click.command("settings")
@click.option("--toml", "as_toml", is_flag=True, help="Print the commented configuration file instead.")
def settings(as_toml: bool) -> None:
    """Describe every setting."""
    click.echo("".join(toml_lines() if as_toml else markdown_lines()), nl=False)


def markdown_lines() -> Iterator[str]:
    """docs/settings.md."""
    yield _MARKDOWN_HEAD
    for group in (*SERVER, *BANK):
        yield f"\n## {group.title}\n\n| setting | default | form | | description |\n|---|---|---|---|---|\n"
        yield from (_row(setting, group) for setting in group.settings)


def _row(setting: Setting, group: Group) -> str:
    cells = (
        f"`{setting.name}`",
        f"`{toml(setting.default)}`",
        setting.kind.form,
        "bank" if group.is_bankable else "",
        setting.about,
    )
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def toml_lines() -> Iterator[str]:
    """etc/amavispy.toml."""
    yield _TOML_HEAD
    for group in (*SERVER, *BANK):
        yield f"\n\n# -- {group.title}{' (policy banks too)' if group.is_bankable else ''}\n"
        for setting in group.settings:
            yield f"\n# {setting.about}\n# {setting.kind.form}\n#{setting.name} = {toml(setting.default)}\n"
    yield _TOML_TAIL


def toml(value: Any) -> str:
    """A default as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(toml(item) for item in value)}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {toml(item)}' for key, item in value.items())} }}" if value else "{}"
    if isinstance(value, str):
        return f"'{value}'" if "\\" in value else f'"{value}"'
    return str(value)

"""options - the options of every command that reads the configuration, with amavis' letters.

`@config_options` hands the command a `Sources`. What is given here wins over the files: --set over them, and the
lettered options over that.

**Failures:** none here; `load_config` tells what is wrong with the values, as it does for those of files.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import click

from amavispy.config.sources import DEFAULT_FILE, Option, Sources

_Command = TypeVar("_Command", bound=Callable[..., Any])
_NO_CHECK = "no_conf_file_writable_check"

# parameter: (letter, setting)
_LETTERED = {
    "user": ("-u", "daemon_user"),
    "group": ("-g", "daemon_group"),
    "myhome": ("-H", "myhome"),
    "tempbase": ("-T", "tempbase"),
    "quarantinedir": ("-Q", "quarantinedir"),
    "pid_file": ("-P", "pid_file"),
    "listen": ("-p", "listen_sockets"),
    "max_servers": ("-m", "max_servers"),
    "level": ("-d", "log_level"),
}

_DECLARED = (
    click.option("-c", "--config", "files", metavar="FILE", multiple=True,
                 help=f"Configuration [{DEFAULT_FILE}]; repeatable."),
    click.option("--set", "overrides", metavar="KEY=VALUE", multiple=True,
                 help="Override a setting, VALUE in TOML; repeatable."),
    click.option("-u", "--user", metavar="USER", help="User to run as."),
    click.option("-g", "--group", metavar="GROUP", help="Group to run as."),
    click.option("-H", "--myhome", metavar="DIR", help="$MYHOME."),
    click.option("-T", "--tempbase", metavar="DIR", help="$TEMPBASE."),
    click.option("-Q", "--quarantinedir", metavar="DIR", help="$QUARANTINEDIR."),
    click.option("-P", "--pid-file", metavar="FILE", help="File for the process id; empty for none."),
    click.option("-p", "--listen", metavar="SOCKET", multiple=True, help="Listen here instead; repeatable."),
    click.option("-m", "--max-servers", type=int, metavar="NUMBER", help="Number of workers."),
    click.option("-d", "--level", type=int, metavar="LEVEL", help="Log level."),
    click.option("-X", "exemptions", type=click.Choice([_NO_CHECK]), multiple=True, metavar=_NO_CHECK,
                 help="Do not check who may write the configuration files."),
)  # fmt: skip


def config_options(command: _Command) -> Callable[..., Any]:
    """Add the options; the command gets them as its keyword argument `sources`."""

    @wraps(command)
    def wrapped(files: tuple[str, ...], overrides: tuple[str, ...], exemptions: tuple[str, ...], **others: Any) -> Any:
        options = tuple(_options(others))
        rest = {name: value for name, value in others.items() if name not in _LETTERED}
        sources = Sources(files or (DEFAULT_FILE,), overrides, options, _NO_CHECK not in exemptions)
        return command(sources=sources, **rest)

    for declare in reversed(_DECLARED):
        wrapped = declare(wrapped)
    return wrapped


def _options(given: dict[str, Any]) -> list[Option]:
    """The lettered options that were given."""
    found = []
    for name, (letter, setting) in _LETTERED.items():
        value = given[name]
        if value is not None and value != ():
            found.append(Option(letter, setting, list(value) if isinstance(value, tuple) else value))
    return found

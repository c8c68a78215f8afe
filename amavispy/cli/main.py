"""main - the command `amavispy`: finds the subcommand, loads only its module, turns errors into exit statuses.

Exit statuses: 0 done; 1 it failed, or the configuration has faults; 2 the command line is wrong; 3 not running.
"""

from __future__ import annotations

import importlib
import sys

import click

from amavispy import __version__

# name: (module, what --help says); a subcommand's module is imported when it is called
_COMMANDS = {
    "foreground": ("daemon", "Run the daemon without detaching, for systemd, supervisors and containers."),
    "start": ("daemon", "Start the daemon in the background and wait until it is ready."),
    "stop": ("daemon", "Stop the running daemon and wait until it is gone."),
    "restart": ("daemon", "Stop the daemon if it runs, then start it."),
    "reload": ("daemon", "Let the running daemon take the changed configuration."),
    "debug": ("daemon", "Run in the foreground and log to the terminal."),
    "status": ("daemon", "Show what every process is doing."),
    "check": ("check", "Check the configuration and list every fault."),
    "explain": ("explain", "Show which policy banks a client gets, why, and what follows."),
    "scan": ("scan", "Inspect mails in files as the daemon would."),
    "quarantine": ("quarantine", "List, show, release, report, delete and expire kept mail."),
    "db": ("db", "Make, migrate and purge the SQL tables of records and quarantine."),
    "settings": ("settings", "Describe every setting."),
    "secret-id": ("secret_id", "Print the secret that allows the release of a quarantined mail."),
    "demo": ("demo", "Try the filter on four mails, without touching the system."),
}


class _Commands(click.Group):
    """A group that imports a subcommand only when it is needed."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"amavispy.cli.{_COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, _: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-V", "--version", prog_name="amavispy")
def amavispy() -> None:
    """A mail content filter between the MTA and the mailboxes."""


def main() -> None:
    """The entry point of the command `amavispy`."""
    sys.exit(amavispy(prog_name="amavispy"))

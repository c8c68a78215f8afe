"""secret_id - prints the secret that allows the release of a mail, for `amavisd-release FILE SECRET`."""

from __future__ import annotations

import sys

import click

from amavispy.cli.options import config_options
from amavispy.config.faults import ConfigError
from amavispy.config.loader import load_config
from amavispy.config.sources import Sources
from amavispy.mail.ids import IdIssuer


@click.command("secret-id")
@config_options
@click.argument("mail_id")
def secret_id(sources: Sources, mail_id: str) -> None:
    """Print the secret_id of MAIL_ID. Needs to read release_key_file, so be root or the daemon's user."""
    try:
        path = load_config(sources).server.release_key_file
        with open(path, "rb") as file:
            click.echo(IdIssuer(file.read(4096)).secret_of(mail_id))
    except ConfigError as error:
        for fault in error.faults:
            click.echo(fault, err=True)
        sys.exit(1)
    except (OSError, ValueError) as error:
        raise click.ClickException(f"{path}: {error}") from error

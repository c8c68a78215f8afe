"""quarantine - `amavispy quarantine`: list, show, release, report, delete and expire kept mail.

Works on the quarantine itself, whether the daemon runs or not. Started by root it becomes the daemon's user first, so
that nothing it touches is closed to the daemon afterwards. Mails are named by their mail_id; `-` reads names from
standard input, so what `list` prints can be handed on.

Exit statuses: 0 all done, 1 something could not be done, 2 the command line is wrong.
"""

from __future__ import annotations

import importlib
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, NoReturn

import click

from amavispy.cli.options import config_options
from amavispy.cli.quarantine_view import fields_of, print_mail, print_mails, print_object
from amavispy.config.faults import ConfigError
from amavispy.config.sources import Sources
from amavispy.config.storage import CATEGORIES
from amavispy.delivery.index_database import IndexFailure
from amavispy.delivery.quarantine import StoreFailure
from amavispy.delivery.quarantine_desk import QuarantineDesk
from amavispy.delivery.quarantine_index import KeptMail, Query
from amavispy.delivery.quarantined import NotReleasable
from amavispy.delivery.release import Errand
from amavispy.mail.header_text import printable
from amavispy.policy.settings import Settings
from amavispy.server import privileges
from amavispy.wiring import Keeping, make_keeping

_FAILURES = (IndexFailure, StoreFailure, NotReleasable, OSError)
_AGO = re.compile(r"(\d{1,6})\s*([smhdw])", re.I)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_ADDRESS = re.compile(r"<?([^\s<>\x00-\x1f\x7f]{1,320})>?")
_LINE_LIMIT = 2000
# What click and rich import when they first print a bar or a table.
_LATE = ("click._termui_impl", "rich.console", "rich.table", "rich.text", "rich.cells")


def moment(value: str) -> int:
    """A time: "2026-11-22", "2026-11-22 10:00", or how long ago: "2h", "3d"; in seconds since the epoch."""
    if match := _AGO.fullmatch(value.strip()):
        return int(time.time()) - int(match[1]) * _SECONDS[match[2].lower()]
    try:
        return int(datetime.fromisoformat(value).astimezone().timestamp())
    except (ValueError, OverflowError):
        expected = 'expected "2026-11-22", "2026-11-22 10:00", or "3d" for three days ago'
        raise click.BadParameter(f"{value} is no time; {expected}")


def _address(value: str) -> str:
    """A mail address, in angle brackets or not; "" is none."""
    match = _ADDRESS.fullmatch(value.strip())
    if value and (not match or "@" not in match[1]):
        raise click.BadParameter(f"{value} is no mail address")
    return match[1] if match else ""


@click.group("quarantine")
def quarantine() -> None:
    """List, show, release, report, delete and expire kept mail."""


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    declared = (
        click.option("--since", type=moment, help='Received then or later: "2026-11-22", "2h" ago, "3d" ago.'),
        click.option("--until", type=moment, help="Received before then."),
        click.option("--sender", default="", metavar="ADDRESS", help="Envelope sender; * stands for anything."),
        click.option("--recipient", default="", metavar="ADDRESS", help="Recipient; * stands for anything."),
        click.option("--subject", default="", metavar="TEXT", help="Found anywhere in the subject."),
        click.option("--category", default="", type=click.Choice(["", *CATEGORIES]), metavar="CATEGORY",
                     help=f"One of {', '.join(CATEGORIES)}."),
        click.option("--limit", type=click.IntRange(0), default=100, show_default=True, help="At most; 0 for all."),
    )  # fmt: skip
    for declare in reversed(declared):
        command = declare(command)
    return command


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")
_mail_ids = click.argument("mail_ids", nargs=-1, required=True, metavar="MAIL_ID...")


@quarantine.command("list")
@config_options
@_filters
@_as_json
def list_(sources: Sources, as_json: bool, **filters: Any) -> None:
    """List kept mail, newest first."""
    with _keeping(sources) as keeping:
        mails = keeping.desk.find(Query(**filters))
    if as_json:
        for mail in mails:
            print_object(fields_of(mail))
    else:
        print_mails(mails)


@quarantine.command()
@config_options
@click.argument("mail_id")
@click.option("--raw", is_flag=True, help="Print the mail itself, as it came in.")
@_as_json
def show(sources: Sources, mail_id: str, raw: bool, as_json: bool) -> None:
    """Show one kept mail: what is known of it and its header, or the mail itself."""
    with _keeping(sources) as keeping:
        if raw:
            sys.stdout.buffer.write(keeping.desk.open(mail_id).original)
            return
        mail = keeping.desk.get(mail_id)
        if as_json:
            print_object(fields_of(mail))
            return
        print_mail(mail)
        header, _, _ = keeping.desk.open(mail_id).octets.partition(b"\r\n\r\n")
        click.echo()
        for line in header.decode("utf-8", "surrogateescape").split("\r\n"):
            click.echo(printable(line, _LINE_LIMIT))


def _sending(name: str, text: str, *, needs_recipient: bool = False) -> None:
    """`release`, `requeue` and `report` differ in where the mail goes."""

    @quarantine.command(name, help=text)
    @config_options
    @_mail_ids
    @click.option(
        "--to",
        "recipients",
        type=_address,
        multiple=True,
        required=needs_recipient,
        metavar="ADDRESS",
        help="Send it there instead of to those who did not get it; repeatable.",
    )
    @click.option("--by", default="", type=_address, metavar="ADDRESS", help="Who asks for it.")
    @click.option("--policy-bank", "banks", default="", metavar="NAMES", help="Whose release settings hold.")
    @_as_json
    def send(sources: Sources, mail_ids: tuple[str, ...], as_json: bool, banks: str, **more: Any) -> None:
        errand = {"kind": name, "recipients": more["recipients"], "requested_by": more["by"]}
        with _keeping(sources) as keeping:
            loaded = keeping.config.banks.for_names(keeping.config.banks.base, [banks] if banks else [])
            outcomes = [_send(keeping.desk, loaded.settings, mail_id, errand, as_json) for mail_id in _named(mail_ids)]
        sys.exit(0 if all(outcomes) else 1)


def _send(desk: QuarantineDesk, settings: Settings, mail_id: str, errand: dict[str, Any], as_json: bool) -> bool:
    """Whether everybody got it."""
    try:
        answers = desk.send(Errand(mail_id=mail_id, **errand), settings)
    except _FAILURES as error:
        _tell(as_json, {"mail_id": mail_id, "ok": False, "error": str(error)}, f"{mail_id}: {error}", is_error=True)
        return False
    for recipient, reply in answers:
        fields = {"mail_id": mail_id, "recipient": recipient, "ok": reply.is_success, "code": reply.code}
        text = f"{mail_id} <{printable(recipient, 320)}>: {reply}"
        _tell(as_json, {**fields, "reply": str(reply)}, text, is_error=not reply.is_success)
    if not answers:
        text = f"{mail_id}: everybody got it; name a recipient with --to"
        _tell(as_json, {"mail_id": mail_id, "ok": True, "recipient": None}, text)
    return all(reply.is_success for _, reply in answers)


_sending("release", "Release mail to its recipients, or to others.")
_sending("requeue", "Send mail to its recipients once more through the filter.")
_sending("report", "Report mail to an abuse desk (ARF).", needs_recipient=True)


@quarantine.command()
@config_options
@_mail_ids
@_as_json
def delete(sources: Sources, mail_ids: tuple[str, ...], as_json: bool) -> None:
    """Delete kept mail: every copy and what is known of it."""
    with _keeping(sources) as keeping:
        outcomes = [_delete(keeping.desk, mail_id, as_json) for mail_id in _named(mail_ids)]
    sys.exit(0 if all(outcomes) else 1)


@quarantine.command()
@config_options
@click.option("--dry-run", is_flag=True, help="Only list what would be deleted.")
@_as_json
def expire(sources: Sources, dry_run: bool, as_json: bool) -> None:
    """Delete mail beyond quarantine_lifetimes and quarantine_size_limits."""
    with _keeping(sources) as keeping:
        server, desk = keeping.config.server, keeping.desk
        mails = desk.expired(server.quarantine_lifetimes, server.quarantine_size_limits, time.time())
        if dry_run:
            for mail in mails:
                _tell(as_json, fields_of(mail), f"{mail.mail_id} {mail.category} {mail.size}")
            return
        with _progress(mails, "Deleting") as each:
            outcomes = [_delete(desk, mail.mail_id, as_json, known=mail) for mail in each]
    if not as_json:
        click.echo(f"{sum(outcomes)} mails deleted")
    sys.exit(0 if all(outcomes) else 1)


def _delete(desk: QuarantineDesk, mail_id: str, as_json: bool, *, known: KeptMail | None = None) -> bool:
    """Whether it is gone; copies that lie elsewhere are told. Of `known` ones nothing else is."""
    try:
        deleted = desk.delete(known or desk.get(mail_id))
    except _FAILURES as error:
        _tell(as_json, {"mail_id": mail_id, "ok": False, "error": str(error)}, f"{mail_id}: {error}", is_error=True)
        return False
    left = [copy.location for copy in deleted.left]
    text = f"{mail_id}: deleted" + (f", but a copy stays in {', '.join(left)}" if left else "")
    if as_json or left or not known:
        _tell(as_json, {"mail_id": mail_id, "ok": True, "left": left}, text)
    return True


@quarantine.command()
@config_options
def reindex(sources: Sources) -> None:
    """Make the index again from the copies, those of amavisd too."""
    with _keeping(sources) as keeping:
        copies = keeping.desk.copies()
        with click.progressbar(length=len(copies), label="Reading", file=sys.stderr) as bar:
            for _ in keeping.desk.reindex(copies):
                bar.update(1)
        count = len(keeping.desk.find(Query()))
    click.echo(f"{len(copies)} copies read, {count} mails in the index")


# --- around every command


@contextmanager
def _keeping(sources: Sources) -> Iterator[Keeping]:
    """The quarantine, as the daemon's user; whatever goes wrong with it becomes a line and exit status 1."""
    try:
        keeping = make_keeping(sources)
        server = keeping.config.server
        for module in _LATE if sys.stdout.isatty() else _LATE[:1]:
            importlib.import_module(module)  # the daemon's user may not be able to read it
        privileges.drop(server.daemon_user, server.daemon_group)
        yield keeping
    except ConfigError as error:
        _fail("\n".join(str(fault) for fault in error.faults))
    except (privileges.PrivilegeError, *_FAILURES) as error:
        _fail(str(error))


def _named(mail_ids: Iterable[str]) -> Iterator[str]:
    """The mail_ids, each once; those of standard input where it says `-`. What follows a mail_id there is ignored."""
    seen = set()
    for mail_id in mail_ids:
        names = (line.split()[0] for line in sys.stdin if line.split()) if mail_id == "-" else (mail_id,)
        for name in names:
            if name not in seen:
                seen.add(name)
                yield name


@contextmanager
def _progress(mails: Iterable[KeptMail], label: str) -> Iterator[Iterable[KeptMail]]:
    with click.progressbar(list(mails), label=label, file=sys.stderr) as bar:
        yield bar


def _tell(as_json: bool, fields: dict[str, Any], text: str, *, is_error: bool = False) -> None:
    if as_json:
        print_object(fields)
    else:
        click.echo(text, err=is_error)


def _fail(text: str) -> NoReturn:
    click.echo(text, err=True)
    sys.exit(1)

"""scan - `amavispy scan FILE...`: what the daemon would find in mails, and what would become of them.

Reads mails from files ("-" is standard input, LF line ends become CRLF), inspects and judges them exactly as the daemon
with this configuration would, for the given client and envelope, and prints a tree of parts with what was found, or
JSON Lines with --json: one object a mail, in the order given. Nothing is delivered, kept or quarantined, no daemon and
no privileges are needed; scanners that the configuration names are asked.

Without -c and without the usual configuration file the defaults hold, with the usual banned rules and YARA.

**Failures:** exit status 0 when every mail would pass clean, 1 when something was found or would be blocked, 2 for a
file that cannot be read, a wrong command line, or a faulty configuration. Messages go to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import click

from amavispy.cli.clients import client_address, connection_on
from amavispy.cli.options import config_options
from amavispy.cli.scan_report import Report, for_people, print_tree
from amavispy.config.faults import ConfigError
from amavispy.config.sources import DEFAULT_FILE, Sources
from amavispy.deadline import Deadline
from amavispy.mail.disposition import Disposition
from amavispy.mail.envelope import Client, Connection, Envelope, Recipient
from amavispy.mail.message import Content, Ids, Message
from amavispy.mail.reply import Reply, TemporaryFailure
from amavispy.mail.verdict import Verdict
from amavispy.policy.bank import PolicyBank
from amavispy.policy.decide import decide
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.virus_names import banks_of
from amavispy.wiring import Inspection, make_inspection

_MANY = 5  # files, from which on a terminal shows how far we are
_NOWHERE = Connection("")


@click.command("scan")
@config_options
@click.argument("names", metavar="FILE...", nargs=-1, required=True)
@click.option("--sender", default="", metavar="ADDRESS", help="MAIL FROM; the null sender when left out.")
@click.option("--recipient", "recipients", multiple=True, metavar="ADDRESS", help="RCPT TO; repeatable.")
@click.option("--socket", default="", metavar="SOCKET", help='Port, "address:port", "interface:port", a path, or SOCK.')
@click.option("--client", metavar="ADDRESS", help="The original client's IP address; unknown when left out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON Lines.")
def scan(
    sources: Sources,
    names: tuple[str, ...],
    sender: str,
    recipients: tuple[str, ...],
    socket: str,
    client: str | None,
    as_json: bool,
) -> None:
    """Inspect mails in files as the daemon would, and say what would become of them."""
    inspection = _inspection(sources)
    config = inspection.config
    connection = connection_on(socket, config) if socket else _NOWHERE
    to = recipients or (f"postmaster@{config.server.mydomain}",)
    envelope = Envelope(sender, tuple(map(Recipient, to)), Client(client_address(client)))
    scanner = _Scanner(inspection, connection, envelope)
    status = 0
    with _output(len(names), as_json) as (show, advance):
        for number, name in enumerate(names, 1):
            report = _scanned(scanner, name, number)
            if report:
                show(report)
            status = max(status, 2 if report is None else 0 if report.is_clean else 1)
            advance()
    sys.exit(status)


def _inspection(sources: Sources) -> Inspection:
    is_given = click.get_current_context().params.get("files")
    if not is_given and not os.path.exists(DEFAULT_FILE):
        sources = replace(sources, files=())
    try:
        return make_inspection(sources, debug=any(option.option == "-d" for option in sources.options))
    except ConfigError as error:
        click.echo("\n".join(str(fault) for fault in error.faults), err=True)
        sys.exit(2)


def _scanned(scanner: _Scanner, name: str, number: int) -> Report | None:
    """The report on one file, None after having said why there is none."""
    try:
        return scanner.report(name, _octets(name), number)
    except OSError as error:
        _complain(name, error.strerror or str(error))
    except Exception as error:  # one mail that shows a bug must not keep us from the others
        _complain(name, f"cannot be inspected: {type(error).__name__}: {error}")
    return None


def _complain(name: str, why: str) -> None:
    click.echo(f"{for_people(name)}: {for_people(why)}", err=True)


def _octets(name: str) -> bytes:
    """A mail as it would come in: with CRLF line ends."""
    if name == "-":
        octets = sys.stdin.buffer.read()
    else:
        with open(name, "rb") as file:
            octets = file.read()
    if octets.count(b"\n") == octets.count(b"\r\n"):
        return octets
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


@dataclass(frozen=True, slots=True)
class _Scanner:
    """Takes mails through inspection and decision, as `pipeline` does, and no further."""

    inspection: Inspection
    connection: Connection
    envelope: Envelope

    def report(self, name: str, octets: bytes, number: int) -> Report:
        now = datetime.now().astimezone()
        ids = Ids(f"scan-{number:02d}", f"scan{number:08d}")
        message = Message(self.envelope, Content(octets), ids, self.connection, "ESMTP", now)
        verdict = Verdict()
        try:
            bank, verdict = self._inspected(message)
            return Report(name, message, verdict, self._decided(message, verdict, bank), None)
        except TemporaryFailure as failure:
            return Report(name, message, verdict, Disposition(()), failure.reply)
        except TimeoutError as late:
            if late.errno is not None:  # a file or a network that timed out, not the message
                raise
            return Report(name, message, verdict, Disposition(()), Reply(451, "4.5.0", f"Error in processing: {late}"))

    def _inspected(self, message: Message) -> tuple[PolicyBank, Verdict]:
        banks = self.inspection.config.banks
        bank = banks.for_interface(self.connection) if self.connection.listener else banks.base
        bank = banks.for_sender(banks.for_client(bank, self.envelope.client.policy_address), self.envelope.sender)
        policies = recipient_policies(self.envelope, bank.settings, message.content)
        deadline = Deadline.after(bank.settings.child_timeout)
        return bank, self.inspection.inspector.inspect(message, bank, policies, deadline)

    def _decided(self, message: Message, verdict: Verdict, bank: PolicyBank) -> Disposition:
        if names := banks_of(verdict.virus_names, bank.settings.virus_name_to_policy_bank_maps):
            bank = self.inspection.config.banks.for_names(bank, names)
        policies = recipient_policies(self.envelope, bank.settings, message.content)
        is_smtp = bank.settings.protocol != "AM.PDP"
        return decide(message, verdict, bank, policies, can_split=is_smtp, adds_received=is_smtp)


@contextmanager
def _output(count: int, as_json: bool) -> Iterator[tuple[Callable[[Report], None], Callable[[], None]]]:
    """How a report is shown, and what to call after each file."""
    is_rich = sys.stdout.isatty() and not as_json
    is_told = count >= _MANY and sys.stderr.isatty() and (is_rich or not sys.stdout.isatty())
    if not is_rich and not is_told:
        yield (_show_json if as_json else _show_text), lambda: None
        return
    from rich.console import Console  # on terminals only: its import takes longer than many a scan
    from rich.progress import Progress

    console: Any = Console(stderr=not is_rich)
    with Progress(console=console, transient=True, disable=not is_told, redirect_stdout=False) as progress:
        task = progress.add_task("scanning", total=count)
        show = (lambda report: print_tree(console, report)) if is_rich else _show_json if as_json else _show_text
        yield show, lambda: progress.advance(task)


def _show_json(report: Report) -> None:
    click.echo(report.json_line())


def _show_text(report: Report) -> None:
    text = "\n".join(report.lines())
    click.echo(text.encode(sys.stdout.encoding or "utf-8", "backslashreplace"))

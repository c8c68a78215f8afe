"""Journal - the log: one line a mail, timings, and everything that any part of the program has to say.

Diagnostics come through Python's `logging` ("amavispy..."); the Journal's handler gives them the "(log_id) " of the
mail in work, amavis' "(!)" and "(!!)" marks and the syslog priority. What is below the level of the bank in force costs
one comparison: `task` sets the loggers' own level. amavis' levels: -2 is ERROR, -1 WARNING, 0 NOTICE (25), 1 INFO,
2 is 15, 3 and more DEBUG.

In: Message, bank, Verdict and Outcome. Out: lines to a transport. It must not know how a mail is processed.

Failures: `record` and `refused` never raise: at that point the mail is delivered or answered. What goes wrong in them
is logged as an error.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol

from amavispy.journal.entry import entries, escaped
from amavispy.journal.facts import Facts
from amavispy.journal.timings import Timings
from amavispy.journal.transports import DEBUG, ERR, INFO, NOTICE, WARNING, Transport
from amavispy.mail.envelope import Envelope
from amavispy.mail.message import Message
from amavispy.mail.outcome import Outcome
from amavispy.mail.reply import Reply
from amavispy.mail.verdict import Verdict
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings

_PYTHON_LEVELS = {-2: 40, -1: 30, 0: 25, 1: 20, 2: 15}
_ROOT = "amavispy"


class Recorder(Protocol):
    """Something that keeps a record of every mail, beside the log."""

    def record(self, facts: Facts) -> None:
        """Keep it. What may fail is logged there and not raised."""

    def reopen(self) -> None:
        """Start anew, after a rotation."""


class Journal:
    """Writes to one transport. `settings` are the base bank's: level, identity and facility outside of any task.

    `recorders` are told of every mail behind its entry.
    """

    def __init__(self, transport: Transport, settings: Settings, recorders: Sequence[Recorder] = ()) -> None:
        self._transport = transport
        self._recorders = recorders
        self._base = settings
        self._settings = settings
        self._head = ""
        self._logger = logging.getLogger(_ROOT)

    def install(self) -> None:
        """Receive what the loggers below "amavispy" say, instead of any Journal before."""
        for handler in [h for h in self._logger.handlers if isinstance(h, _Handler)]:
            self._logger.removeHandler(handler)
        self._logger.addHandler(_Handler(self))
        self._logger.propagate = False
        self._set_level()

    def reopen(self) -> None:
        """Start a new file or socket, after a rotation."""
        self._transport.reopen()
        for recorder in self._recorders:
            recorder.reopen()

    def task(self, log_id: str, bank: PolicyBank) -> _Task:
        """A context in which every line bears the log id and the bank's level, identity and facility hold."""
        return _Task(self, log_id, bank.settings)

    def begin(self, message: Message, bank: PolicyBank) -> None:
        """At level 1: which mail is checked now, under which banks."""
        if bank.settings.log_level >= 1:
            envelope = message.envelope
            banks = f"{bank.name} " if bank.path else ""
            client = f"[{envelope.client.address}] " if envelope.client.address else ""
            to = ",".join([f"<{recipient.address}>" for recipient in envelope.recipients])
            self.write(1, f"Checking: {message.ids.mail_id} {banks}{client}<{envelope.sender}> -> {to}")

    def record(self, message: Message, bank: PolicyBank, verdict: Verdict, outcome: Outcome, timings: Timings) -> None:
        """The mail's entry at level 0, its timings at level 2, and its records. Never raises."""
        try:
            level = bank.settings.log_level
            if level >= 0:
                for line in entries(message, bank, verdict, outcome, timings.milliseconds):
                    self.write(0, line)
            if level >= 2:
                self.write(2, f"size: {message.content.size}, {timings.report()}")
            self._tell(message, bank, verdict, outcome, timings)
        except Exception:  # the mail is delivered: nothing may make the client send it again
            self._logger.exception("journal: cannot record %s", message.ids.mail_id)

    def _tell(self, message: Message, bank: PolicyBank, verdict: Verdict, outcome: Outcome, timings: Timings) -> None:
        if self._recorders:
            facts = Facts(message, bank, verdict, outcome, timings)
            for recorder in self._recorders:
                recorder.record(facts)

    def refused(self, envelope: Envelope, reply: Reply) -> None:
        """A mail that never became a message or could not be processed: who, to whom and what the client heard."""
        to = ",".join(f"<{recipient.address}>" for recipient in envelope.recipients)
        self.write(-1, f"Refused <{envelope.sender}> -> {to}, {reply}")

    def write(self, level: int, text: str) -> None:
        """One line at amavis' level, whatever the level in force; the caller has compared."""
        settings = self._settings
        mark = "" if level >= 0 else "(!)" if level == -1 else "(!!)"
        self._transport.write(
            self._head, f"{mark}{escaped(text)}", _priority(level), settings.syslog_ident, settings.syslog_facility
        )

    def enter(self, head: str, settings: Settings) -> None:
        """Begin a task (`task` is the way to call this)."""
        self._head = head
        self._settings = settings
        self._set_level()

    def leave(self) -> None:
        """Back to the base bank's settings."""
        self.enter("", self._base)

    def _set_level(self) -> None:
        """Only when it differs: changing a logger's level empties the caches of all of them."""
        wanted = _PYTHON_LEVELS.get(self._settings.log_level, 10 if self._settings.log_level > 2 else 40)
        if self._logger.level != wanted:
            self._logger.setLevel(wanted)


class _Task:
    __slots__ = ("_head", "_journal", "_settings")

    def __init__(self, journal: Journal, log_id: str, settings: Settings) -> None:
        self._journal = journal
        self._head = f"({log_id}) "
        self._settings = settings

    def __enter__(self) -> None:
        self._journal.enter(self._head, self._settings)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._journal.leave()


class _Handler(logging.Handler):
    """Takes records of the standard library to the journal; a traceback follows line by line."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = _amavis_level(record.levelno)
            self._journal.write(level, record.getMessage())
            if record.exc_info:
                for line in logging.Formatter().formatException(record.exc_info).splitlines():
                    self._journal.write(level, line)
        except Exception:  # logging must never break what it tells about (logging.Handler's own contract)
            self.handleError(record)


def _amavis_level(levelno: int) -> int:
    if levelno >= 40:
        return -2
    if levelno >= 30:
        return -1
    return 0 if levelno >= 25 else 1 if levelno >= 20 else 2 if levelno >= 15 else 3


def _priority(level: int) -> int:
    if level >= 3:
        return DEBUG
    if level >= 1:
        return INFO
    return NOTICE if level == 0 else WARNING if level == -1 else ERR

"""Spam program - what an external classifier thinks of a mail: bogofilter, DSPAM, CRM114, or any with an exit status.

The program reads the mail from standard input, lines ended by LF as programs expect, under the pseudo header fields of
`spam_input` and without fields that look like an answer of its own. Its output is read by
`protocols.classifier_output`; with `statuses` its exit status alone is the answer.

The program is started as it was configured: nothing of a mail is ever an argument, and there is no shell.

**Failures:** none after the start: a SpamScan without score and with `error`: an unknown answer or exit status, a
signal, no answer in time (then it is killed). At the start ValueError for a program that is not there.
"""

from __future__ import annotations

import os
import re
import select

from amavispy.inspection.programs import ProgramError, Run, check_command, memory_file
from amavispy.inspection.spam_input import weighed, with_pseudo_header
from amavispy.inspection.wire import lost
from amavispy.inspection.workload import Mail
from amavispy.mail.verdict import SpamAdvice, SpamScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.classifier_output import ClassifierError, judgement

# A sender who writes such a field himself could answer in the program's place, should it pass the field on.
_FORGED = re.compile(rb"^X-(?:DSPAM|CRM114|Bogosity)[^:\n]*:[^\n]*\n(?:[ \t][^\n]*\n)*", re.M | re.I)


class ProgramScanner:
    """One classifier."""

    def __init__(self, spec: ScannerSpec) -> None:
        check_command(spec.command)
        self.spec = spec

    def start(self, mail: Mail, ends_at: float) -> ProgramWork:
        """The program runs when this returns."""
        work = ProgramWork(self.spec, ends_at)
        work.begin(what_programs_get(mail, self.spec))
        return work


def what_programs_get(mail: Mail, spec: ScannerSpec) -> list[bytes]:
    """The pseudo header, the header and the body, cut to size, with LF line ends."""
    pseudo, text, end = with_pseudo_header(mail, spec)
    start = min(mail.content.body_start, len(text))
    header, body = (part.replace(b"\r\n", b"\n") for part in (text[:start], text[start:]))
    return [pseudo.replace(b"\r\n", b"\n"), _FORGED.sub(b"", header), body, end[-1:]]


class ProgramWork:
    """One run."""

    __slots__ = ("_error", "_run", "_scan", "_spec", "ends_at")

    def __init__(self, spec: ScannerSpec, ends_at: float) -> None:
        self.ends_at = ends_at
        self._spec = spec
        self._run: Run | None = None
        self._scan: SpamScan | None = None
        self._error = ""

    @property
    def interest(self) -> int:
        return select.POLLIN if self._run else 0

    def fileno(self) -> int:
        assert self._run
        return self._run.fileno()

    def begin(self, pieces: list[bytes]) -> None:
        try:
            descriptor = memory_file(pieces)
        except OSError as error:
            self._error = str(lost(error))
            return
        try:
            self._run = Run(self._spec.command, descriptor, cpu_seconds=self._spec.timeout)
        except ProgramError as error:
            self._error = str(error)
        finally:
            os.close(descriptor)

    def work_here(self) -> None:
        """Nothing: the program works there."""

    def advance(self) -> None:
        run = self._run
        if run is None:
            return
        try:
            run.advance()
        except OSError as error:
            self._end(str(lost(error)))
            return
        if run.status is not None:
            self._judge(run, run.status)
            self.close()

    def expire(self) -> None:
        if self._run:
            self._end("no answer in time")

    def close(self) -> None:
        if self._run:
            self._run.close()
            self._run = None

    def result(self) -> tuple[SpamScan, ...]:
        failed = SpamScan(self._spec.name, error=self._error or "no answer", on_failure=self._spec.on_failure)
        return (self._scan or failed,)

    def _judge(self, run: Run, status: int) -> None:
        try:
            self._scan = scan_of(self._spec, run.output, status)
        except ClassifierError as error:
            said = run.errors[:200].decode("utf-8", "replace").strip()
            self._error = f"{_ending(status)}, {error}" + (f": {_printable(said)}" if said else "")

    def _end(self, error: str) -> None:
        self._error = error
        self.close()


def scan_of(spec: ScannerSpec, output: bytes, status: int) -> SpamScan:
    """What the output and exit status of a program mean. ClassifierError when they mean nothing."""
    if spec.statuses:
        by_status = dict(spec.statuses)
        if status not in by_status:
            raise ClassifierError("not one of its statuses")
        score, suffix, advice = by_status[status], f".{status}", None
    else:
        told = judgement(output)
        if status and status not in told.statuses:
            raise ClassifierError("though it gave an answer")
        score, suffix, advice = told.score, told.suffix, SpamAdvice(add=told.fields, is_for_local=True)
    score, tests = weighed(score, ((f"{spec.name}{suffix}", score),), spec)
    return SpamScan(spec.name, score, tests, on_failure=spec.on_failure, advice=advice)


def _ending(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"ended by signal {-status}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text)

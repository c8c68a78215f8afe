"""Command scanner - a virus scanner that is a program, started for each mail.

Its arguments say what it is to scan: `{}` is the directory of the parts, `{}/*` every file; `*`, alone or behind `=`,
every bare name (the directory is where it runs). There is no shell. Files that do not fit into one command line go in
several, one after the other. Its answer is what it prints, at most 200 KiB of it, and its exit status; patterns or
statuses judge that (`protocols.line_daemon.Reading`).

**Failures:** none after the start: what goes wrong is the VirusScan's `error`. At the start ValueError for a program
that is not there.
"""

from __future__ import annotations

import os
import re
import select
from collections import deque
from collections.abc import Iterator, Sequence

from amavispy.inspection.findings import Findings
from amavispy.inspection.part_files import PartFiles, Written
from amavispy.inspection.programs import ProgramError, Run, check_command
from amavispy.inspection.wire import Lost, lost
from amavispy.inspection.workload import Mail
from amavispy.mail.verdict import VirusScan
from amavispy.policy.settings import ScannerSpec
from amavispy.protocols.line_daemon import OUTPUT_LIMIT, Reading
from amavispy.protocols.scanner_talk import SOMEWHERE

_BARE = re.compile(r"(?<![^=])\*$")
_BATCH = 16_384  # octets of file names in one command line


class CommandScanner:
    """A program that scans files."""

    def __init__(self, spec: ScannerSpec, files: PartFiles) -> None:
        check_command(spec.command)
        self.spec = spec
        self.reading = Reading.of(spec.inquiry.infected, spec.inquiry.clean, spec.inquiry.names)
        self._files = files

    def start(self, mail: Mail, ends_at: float) -> CommandWork:
        """The first command runs when this returns."""
        work = CommandWork(self, ends_at)
        try:
            written = self._files.of(mail)
        except Lost as error:
            work.fail(f"can't write parts: {error}")
        else:
            work.begin(written.directory, deque(commands(self.spec.command, written)))
        return work


class CommandWork:
    """The scan of one mail: one command after the other."""

    __slots__ = ("_commands", "_directory", "_findings", "_run", "_scanner", "ends_at")

    def __init__(self, scanner: CommandScanner, ends_at: float) -> None:
        self.ends_at = ends_at
        self._scanner = scanner
        self._directory = ""
        self._commands: deque[list[str]] = deque()
        self._findings = Findings()
        self._run: Run | None = None

    @property
    def interest(self) -> int:
        return select.POLLIN if self._run else 0

    def fileno(self) -> int:
        assert self._run
        return self._run.fileno()

    def begin(self, directory: str, commands: deque[list[str]]) -> None:
        self._directory, self._commands = directory, commands
        self._start_next()

    def fail(self, error: str) -> None:
        self._findings.failed(error)

    def work_here(self) -> None:
        """Nothing: the program works."""

    def advance(self) -> None:
        run = self._run
        if run is None:
            return
        try:
            run.advance()
        except OSError as error:
            self.close()
            self._findings.failed(str(lost(error)))
            return
        if run.status is not None:
            self.close()
            for answer in self._scanner.reading.answers(
                (run.output + run.errors)[:OUTPUT_LIMIT], SOMEWHERE, status=run.status
            ):
                self._findings.note(answer)
            self._start_next()

    def expire(self) -> None:
        """It has had its time: it is killed, with everything it started."""
        if self._run:
            self.close()
            self._findings.failed("no answer in time")

    def close(self) -> None:
        if self._run:
            self._run.close()
            self._run = None

    def result(self) -> VirusScan:
        return self._findings.scan(self._scanner.spec)

    def _start_next(self) -> None:
        if not self._commands or self._findings.error:
            return
        try:
            self._run = started(self._commands.popleft(), self._directory, self._scanner.spec.timeout)
        except ProgramError as error:
            self._findings.failed(str(error))
        except OSError as error:
            self._findings.failed(str(lost(error)))


def started(command: Sequence[str], directory: str, seconds: float) -> Run:
    """The program, running in this directory, with nothing to read. It inherits ours: there is one thread only."""
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        return Run(command, nothing, cpu_seconds=seconds)
    finally:
        os.fchdir(before)
        os.close(before)
        os.close(nothing)


def commands(template: Sequence[str], written: Written) -> Iterator[list[str]]:
    """The command lines that scan all files."""
    if not any("{}/*" in word or _BARE.search(word) for word in template[1:]):
        yield [word.replace("{}", written.directory) for word in template]
        return
    for names in _batches(written):
        yield [filled for word in template for filled in _filled(word, written.directory, names)]


def _batches(written: Written) -> Iterator[list[str]]:
    size = max(1, _BATCH // (len(written.directory) + 16))
    for at in range(0, len(written.names), size):
        yield list(written.names[at : at + size])


def _filled(word: str, directory: str, names: Sequence[str]) -> list[str]:
    if "{}/*" in word:
        return [word.replace("{}/*", f"{directory}/{name}") for name in names]
    if _BARE.search(word):
        return [_BARE.sub(name, word) for name in names]
    return [word.replace("{}", directory)]

"""Part files - the mail and its parts as files, for scanners that are told a path.

One private directory a worker, made below tempbase when it is first needed, not for every mail: `p000` is the mail,
`p001` and so on are its decoded parts, by number. They are there as long as the mail is scanned. The group may read
them, so that a scanner daemon of another user can when that user is in our group.

A directory carries a lock that dies with its worker; whoever makes one removes those that nobody holds any more.

**Failures:** `Lost`, worded for the log, when they cannot be written. The worker's alarm passes through.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from amavispy.inspection.wire import lost
from amavispy.inspection.workload import Mail, everything
from amavispy.mail.message import Octets

_log = logging.getLogger("amavispy.scanning")
_PREFIX = "parts-"


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a mail: `names` in the directory."""

    directory: str
    names: tuple[str, ...]


class PartFiles:
    """The files of the mail that is being scanned. Made before the fork, used in the worker."""

    def __init__(self, tempbase: str) -> None:
        self._tempbase = tempbase
        self._directory = ""
        self._lock = -1
        self._owner = 0
        self._has_files = False
        self._mail: Mail | None = None
        self._written: Written | None = None

    def of(self, mail: Mail) -> Written:
        """The files of this mail; several scanners share them."""
        if self._written is None or self._mail is not mail:
            self.clear()
            try:
                self._make_directory()
                self._mail, self._has_files = mail, True
                self._written = Written(self._directory, tuple(self._write(mail)))
            except OSError as error:
                raise lost(error) from error
        return self._written

    def clear(self) -> None:
        """Remove the files; also those of a mail whose writing failed. A directory that resists is given up."""
        if not self._has_files:
            return
        self._mail = self._written = None
        try:
            _empty(self._directory)
        except OSError as error:
            reason = lost(error)  # the alarm goes on, and the files go before the next mail
            os.close(self._lock)  # the next worker that makes a directory removes this one
            self._owner = 0
            _log.warning("%s: %s", self._directory, reason)
        self._has_files = False

    def _make_directory(self) -> None:
        if self._owner == os.getpid():
            if os.path.isdir(self._directory):
                return
            os.close(self._lock)
        _remove_abandoned(self._tempbase)
        while True:
            directory = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=self._tempbase)
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.isdir(directory):  # else somebody took it for abandoned before it was locked
                break
            os.close(descriptor)
        os.fchmod(descriptor, 0o750)
        self._directory, self._lock, self._owner = directory, descriptor, os.getpid()

    def _write(self, mail: Mail) -> Iterator[str]:
        for scannable in everything(mail):
            name = f"p{scannable.number:03d}"
            _write_file(f"{self._directory}/{name}", scannable.octets)
            yield name


def _write_file(path: str, octets: Octets | memoryview) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        os.fchmod(descriptor, 0o640)
        written = 0
        with memoryview(octets) as view:
            while written < len(view):
                with view[written:] as rest:
                    written += os.write(descriptor, rest)
    finally:
        os.close(descriptor)


def _empty(directory: str) -> None:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):  # a scanner unpacked something there
                shutil.rmtree(entry.path)
            else:
                os.unlink(entry.path)


def _remove_abandoned(tempbase: str) -> None:
    """Directories whose workers are gone."""
    with os.scandir(tempbase) as entries:
        found = [e.path for e in entries if e.name.startswith(_PREFIX) and e.is_dir(follow_symlinks=False)]
    for path in found:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            lost(error)  # the alarm goes on; another's directory is another's business
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
        except BlockingIOError:
            pass
        finally:
            os.close(descriptor)

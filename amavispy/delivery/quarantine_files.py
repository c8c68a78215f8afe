"""Quarantine files - durable copies in the file system: single files, a Maildir, an mbox, BSMTP.

A copy is there or not, never half: written under a temporary name, synced, linked to its name without overwriting
anything, the directory synced. Mode 0640; ".gz" compresses. An mbox is appended to under a lock and cut back when that
fails; a piece that a power failure left behind cannot swallow the next mail.

In: an Original and the method's template. Out: the KeptCopy. Each function notes on the `undo` stack how to take its
copy back; an mbox keeps it, others may have appended since.

**Failures:** OSError; nothing is left behind.
"""

from __future__ import annotations

import errno
import fcntl
import gzip
import io
import logging
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO, cast

from amavispy.delivery.quarantine_text import Original
from amavispy.mail.outcome import KeptCopy

_log = logging.getLogger("amavispy.quarantine")
_NAMES_TRIED = 20
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # file systems without hard links
_FROM_LINE = re.compile(rb"^(>*From )", re.M)
_LINE_LIMIT = 998  # RFC 5322 2.1.1; a longer line is passed on as it comes
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class QuarantineFiles:
    """Keeps copies below `directory`; from `subdir_levels` 1 on in directories named by mail_id's first letter."""

    def __init__(self, directory: str, subdir_levels: int = 1) -> None:
        self._directory = Path(directory)
        self._subdir_levels = subdir_levels

    def keep(self, original: Original, method: str, names: Sequence[str], undo: ExitStack) -> KeptCopy:
        """Keep one copy by a "local:", "maildir:", "mbox:" or "bsmtp:" method."""
        scheme, _, template = method.partition(":")
        ways = {"local": self._file, "maildir": self._maildir, "mbox": self._mbox, "bsmtp": self._bsmtp}
        path, kind = ways[scheme](original, template, names)
        if scheme != "mbox":
            undo.callback(_take_back, path)
        return KeptCopy(kind, str(path.relative_to(self._directory)))

    def _file(self, original: Original, template: str, names: Sequence[str]) -> tuple[Path, str]:
        """amavis' files: one a mail, under the template's name; a name that is taken gets a number."""
        directory = self._directory
        if self._subdir_levels:
            directory = _made(directory, original.mail_id[0])
        name = original.name(template)
        return _kept(directory, directory, name, original, original.pieces(names)), _kind(name)

    def _maildir(self, original: Original, template: str, names: Sequence[str]) -> tuple[Path, str]:
        """https://cr.yp.to/proto/maildir.html: written in tmp, then named in new."""
        directory = self._descend(original.path(template))
        for name in ("tmp", "new", "cur"):
            _made(directory, name)
        name = f"{int(time.time())}.{original.mail_id}.amavispy"
        return _kept(directory / "tmp", directory / "new", name, original, original.pieces(names)), "F"

    def _bsmtp(self, original: Original, template: str, names: Sequence[str]) -> tuple[Path, str]:
        """A batch of SMTP commands, LF line ends, for a program that submits it (RFC 2442 has the idea)."""
        inner, _, name = original.path(template or "%m").rpartition("/")
        directory = self._descend(inner) if inner else self._directory
        return _kept(directory, directory, name, original, _bsmtp_pieces(original, names)), "B"

    def _mbox(self, original: Original, template: str, names: Sequence[str]) -> tuple[Path, str]:
        """mboxrd: every line of `>*From ` gets one more `>`."""
        inner, _, name = original.path(template).rpartition("/")
        path = (self._descend(inner) if inner else self._directory) / name
        is_new = not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        with os.fdopen(descriptor, "r+b") as file:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            _append(file, _mbox_pieces(original, names))
        if is_new:
            _sync_directory(path.parent)
        return path, "F"

    def _descend(self, path: str) -> Path:
        """The directory at this path below quarantinedir, made when missing."""
        directory = self._directory
        for name in path.split("/"):
            directory = _made(directory, name)
        return directory


def _take_back(path: Path) -> None:
    """The client keeps the mail and comes again: what was written would only be a double."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if error.errno is None:  # the worker's alarm
            raise
        _log.warning("cannot remove %s: %s", path, error)


def _kind(name: str) -> str:
    return "Z" if name.endswith(".gz") else "F"


# --- single files


def _kept(temporary_in: Path, directory: Path, name: str, original: Original, pieces: Iterable[bytes]) -> Path:
    """The pieces as a file of this name, durable."""
    temporary = temporary_in / f".{original.mail_id}.tmp"
    try:
        _write_file(temporary, pieces, compresses=name.endswith(".gz"))
        path = _named(temporary, directory, name)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(directory)
    return path


def _write_file(path: Path, pieces: Iterable[bytes], *, compresses: bool) -> None:
    descriptor = os.open(path, _NEW, 0o640)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, 0o640)
        if compresses:
            with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
                cast("BinaryIO", packed).writelines(pieces)
        else:
            file.writelines(pieces)
        file.flush()
        os.fsync(descriptor)


def _named(temporary: Path, directory: Path, name: str) -> Path:
    """Give the file its name, which must not exist: nobody's evidence is ever overwritten."""
    stem, ending = (name[:-3], ".gz") if name.endswith(".gz") else (name, "")
    for number in range(_NAMES_TRIED):
        path = directory / (f"{stem}-{number}{ending}" if number else name)
        try:
            _link(temporary, path)
        except FileExistsError:
            continue
        return path
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        os.close(os.open(path, _NEW, 0o640))  # ours from here on
        temporary.replace(path)


def _made(directory: Path, name: str) -> Path:
    """The directory of this name, durable when it is new."""
    path = directory / name
    try:
        path.mkdir(mode=0o750)
    except FileExistsError:
        return path
    _sync_directory(directory)
    return path


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# --- BSMTP


def _bsmtp_pieces(original: Original, recipients: Sequence[str]) -> Iterator[bytes]:
    envelope = original.message.envelope
    body = f" BODY={envelope.body}" if envelope.body else ""
    lines = [f"EHLO {_word(original.message.connection.helo or 'localhost')}", f"MAIL FROM:<{envelope.sender}>{body}"]
    lines += [*(f"RCPT TO:<{recipient}>" for recipient in recipients), "DATA", ""]
    yield "\n".join(lines).encode("utf-8", "surrogateescape")
    at_line_start, ends_with_newline = True, True
    for piece in original.pieces():
        if piece:
            stuffed = piece.replace(b"\n.", b"\n..")
            yield b"." + stuffed if at_line_start and piece.startswith(b".") else stuffed
            at_line_start = ends_with_newline = piece.endswith(b"\n")
    yield b".\nQUIT\n" if ends_with_newline else b"\n.\nQUIT\n"


def _word(text: str) -> str:
    """A name that a stranger gave, without anything that could be a second line."""
    return re.sub(r"[^!-~]", "_", text)


# --- mbox


def _append(file: BinaryIO, pieces: Iterable[bytes]) -> None:
    """At the end of the locked file, durable; cut back when it fails."""
    size = file.seek(0, io.SEEK_END)
    try:
        if size:
            file.seek(-min(2, size), io.SEEK_END)
            if file.read() != b"\n\n":  # what a crash left: the next mail must not be a part of it
                file.write(b"\n\n")
        file.writelines(pieces)
        file.flush()
        os.fsync(file.fileno())
    except BaseException:
        os.ftruncate(file.fileno(), size)
        raise


def _mbox_pieces(original: Original, names: Sequence[str]) -> Iterator[bytes]:
    sender = original.message.envelope.sender
    name = re.sub(r"\s", "_", sender) or "MAILER-DAEMON"
    when = time.strftime("%a %b %e %H:%M:%S %Y", time.gmtime(original.message.received_at.timestamp()))
    yield f"From {name} {when}\n".encode("utf-8", "surrogateescape")
    held, is_inside = b"", False  # inside: the beginning of this line is out already
    for piece in original.pieces(names):
        text = held + piece
        cut = text.rfind(b"\n") + 1
        cut = len(text) if len(text) - cut > _LINE_LIMIT else cut  # else a "From " may be cut in two
        yield _quoted(text[:cut], is_inside=is_inside)
        is_inside = text[cut - 1 : cut] != b"\n" if cut else is_inside
        held = text[cut:]
    yield _quoted(held, is_inside=is_inside) + (b"\n\n" if held or is_inside else b"\n")


def _quoted(text: bytes, *, is_inside: bool) -> bytes:
    if not is_inside:
        return _FROM_LINE.sub(rb">\1", text)
    first, newline, rest = text.partition(b"\n")
    return first + newline + _FROM_LINE.sub(rb">\1", rest)

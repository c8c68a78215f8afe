"""Spool - where a mail's octets gather while they come in.

Small mail stays in memory, large mail goes to a file without a name, so nothing is left behind when a process dies.
No work directory, no clean-up.

Failures: a full disk raises TemporaryFailure (452 4.3.1); the session reads the rest of the mail and then says so.
"""

from __future__ import annotations

import errno
import mmap
import os
from types import TracebackType

from amavispy.mail.message import Content
from amavispy.mail.reply import Reply, TemporaryFailure

_DISK_FULL = Reply(452, "4.3.1", "Insufficient system storage")
_CANNOT_SPOOL = Reply(451, "4.3.0", "Error: cannot write the message to the spool")


class Spool:
    """Collects one mail; `finish()` gives its Content. As a context manager it frees everything at the end."""

    def __init__(self, directory: str, threshold: int) -> None:
        self._directory = directory
        self._threshold = threshold
        self._chunks: list[bytes] = []
        self._size = 0
        self._file: int | None = None
        self._map: mmap.mmap | None = None

    def write(self, octets: bytes | memoryview) -> None:
        """Append some octets."""
        self._size += len(octets)
        if self._file is None and self._size <= self._threshold:
            self._chunks.append(bytes(octets))
            return
        try:
            if self._file is None:
                self._file = os.open(self._directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
                _write_all(self._file, b"".join(self._chunks))
                self._chunks.clear()
            _write_all(self._file, octets)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise TemporaryFailure(_DISK_FULL if full else _CANNOT_SPOOL) from error

    def finish(self) -> Content:
        """The whole mail. The octets stay valid until the spool is closed."""
        if self._file is None:
            return Content(b"".join(self._chunks) if len(self._chunks) != 1 else self._chunks[0])
        self._map = mmap.mmap(self._file, self._size, access=mmap.ACCESS_READ)
        return Content(self._map, self._file)

    def close(self) -> None:
        self._chunks.clear()
        if self._map is not None:
            _close_map(self._map)
            self._map = None
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _close_map(mapped: mmap.mmap) -> None:
    """A view of a part may outlive the message by a moment; the map then goes with the last of them."""
    try:
        mapped.close()
    except BufferError:
        return


def _write_all(file: int, octets: bytes | memoryview) -> None:
    view = memoryview(octets)
    while view:
        view = view[os.write(file, view) :]

"""storage - where the octets of a growing member gather: in memory while the mail has little, then in a file.

What all members of a mail keep in memory together is bounded by its `Budget`; whatever goes beyond grows in files
without a name that are mapped, so that the system can page them out and nothing is left behind when a process dies.

**Failures:** TemporaryFailure (452 4.3.1) when there is no room for the file: the mail stays with the client.
"""

from __future__ import annotations

import io
import mmap
import tempfile

from amavispy.inspection.budget import Budget
from amavispy.mail.reply import Reply, TemporaryFailure

_NO_ROOM = Reply(452, "4.3.1", "Insufficient system storage")
_COPIED = 4096


class Growing:
    """One member's octets so far."""

    __slots__ = ("_budget", "_chunks", "_file", "_size")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._chunks: list[bytes | memoryview] = []
        self._size = 0
        self._file: io.BufferedRandom | None = None

    def add(self, chunk: bytes | memoryview) -> None:
        """Append some octets; they are kept as they are, so a view must stay valid until `octets`."""
        self._size += len(chunk)
        if self._file is None and self._size <= self._budget.memory_left:
            self._chunks.append(chunk)
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._budget.directory)  # noqa: SIM115 - as long as its mapping
                self._file.writelines(self._chunks)
                self._chunks.clear()
            self._file.write(chunk)
        except OSError as error:
            raise _failure(error) from error

    def octets(self) -> bytes | memoryview:
        """All of it. To be called once."""
        if self._file is None:
            self._budget.memory_left -= self._size
            return b"".join(self._chunks)
        try:
            self._file.flush()
            mapped = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise _failure(error) from error
        self._file.close()
        return bytes(mapped) if self._size <= _COPIED else memoryview(mapped)


def kept(octets: bytes, budget: Budget) -> bytes | memoryview:
    """Octets that are complete, where there is still room for them."""
    if len(octets) <= budget.memory_left:
        budget.memory_left -= len(octets)
        return octets
    growing = Growing(budget)
    growing.add(octets)
    return growing.octets()


def _failure(error: OSError) -> BaseException:
    # The alarm's TimeoutError is an OSError without errno: it is not about room at all.
    return error if error.errno is None else TemporaryFailure(_NO_ROOM)

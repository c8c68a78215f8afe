"""signals - signals as a queue: the handlers only take a note, the process's loop reads it and acts.

The C-level handler writes the signal's number into a socket (`signal.set_wakeup_fd`); nothing of Python's runs at a
moment the loop has not chosen. Each process makes its own queue after the fork.

**Failures:** none; a signal that comes while the socket is full is one the loop has not got round to anyway.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterable
from types import FrameType


class SignalQueue:
    """The signals that have come in, in order. Readable like a socket when there are any."""

    def __init__(self, numbers: Iterable[signal.Signals]) -> None:
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)
        for number in numbers:
            signal.signal(number, _note)
        signal.set_wakeup_fd(self._writing.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        return self._reading.fileno()

    def take(self) -> list[signal.Signals]:
        """Every signal since the last call."""
        try:
            return [signal.Signals(octet) for octet in self._reading.recv(4096)]
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Stop listening; the handlers stay, so a late signal does no harm."""
        signal.set_wakeup_fd(-1)
        self._reading.close()
        self._writing.close()


def on(number: signal.Signals, act: Callable[[], None]) -> None:
    """Call `act` between two bytecodes of the main thread; only the worker's alarm and stop need this."""

    def handler(received: int, frame: FrameType | None) -> None:
        del received, frame
        act()

    signal.signal(number, handler)


def _note(number: int, frame: FrameType | None) -> None:
    """Python wants a handler; the wakeup socket has the number already."""
    del number, frame

"""background - running the master detached, while the command that started it waits until it is ready.

python-daemon detaches; its defaults would take an umask of 0 and guess whether to detach, so everything is said
explicitly. What goes wrong after detaching would be lost: it comes back through a pipe.

**Failures:** `start` answers the text of whatever kept the daemon from becoming ready.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import NoReturn

from daemon import DaemonContext

UMASK = 0o027
_READY = b"ready"
_END = b"\0"
_LOST = "the daemon ended before it was ready; the log may say why"

Run = Callable[[Callable[[], None]], int]


def start(run: Run, keep: Sequence[int] = ()) -> str:
    """Call `run(ready)` in the background and wait until it calls `ready`: "" then, else what is wrong.

    `keep` are descriptors the daemon needs (listen sockets of a supervisor). An exception of `run` is told by its text.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _detached(run, writing, keep)
    os.close(writing)
    words = _hear(reading)
    os.waitpid(child, 0)
    return "" if words == _READY else words.decode("utf-8", "replace") or _LOST


def _hear(reading: int) -> bytes:
    """One message. Its end is marked: the daemon's children hold the pipe too, so it does not end with ready."""
    words = b""
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        while not words.endswith(_END) and (octets := pipe.read(4096)):
            words += octets
    return words.removesuffix(_END)


def _detached(run: Run, pipe: int, keep: Sequence[int]) -> NoReturn:
    status = 1
    try:
        context = DaemonContext(
            detach_process=True,
            files_preserve=[pipe, *keep],
            umask=UMASK,
            working_directory="/",
            prevent_core=True,
            signal_map={},
        )
        with context:
            status = run(lambda: _say(pipe, _READY))
    except BaseException as error:  # the terminal is gone: the pipe is the only one who can still hear it
        _say(pipe, f"{error}".encode() or repr(error).encode())
    finally:
        os._exit(status)


def _say(pipe: int, words: bytes) -> None:
    """Once; later words have nobody who listens."""
    try:
        os.write(pipe, words.replace(_END, b"") + _END)
        os.close(pipe)
    except OSError:
        return

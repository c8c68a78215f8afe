"""landlock - the kernel's Landlock, by its three system calls: this process gives up files, ports and signals.

`version` tells what the kernel offers (0: nothing), `restrict` gives everything up that this version knows, except
reading (and executing) what is listed. It holds for the process and all that come of it, and cannot be undone.
`no_new_privs` must have been set before.

Source: landlock(7), linux/landlock.h. A file may only be given rights that make sense for a file, else EINVAL.

**Failures:** OSError, when the kernel refuses.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Iterable

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH = 1

EXECUTE, READ_FILE, READ_DIR = 1 << 0, 1 << 2, 1 << 3
_FS_RIGHTS = {1: 0x1FFF, 2: 0x3FFF, 3: 0x7FFF, 4: 0x7FFF}  # ABI 5 adds device ioctls
_FS_ALL = 0xFFFF
_NET_ALL = 3  # bind and connect over TCP, from ABI 4
_SCOPE_ALL = 3  # abstract Unix sockets and signals, from ABI 6

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long


def _call(number: int, *arguments: int | bytes | None) -> int:
    converted = [a if a is None or isinstance(a, bytes) else ctypes.c_long(a) for a in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(number), *converted)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def version() -> int:
    """The Landlock ABI of this kernel, 0 when it has none or a container's rules hide it."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(programs: Iterable[str] = (), readable: Iterable[str] = ()) -> int:
    """Give up everything but executing `programs` and reading below `readable`. Answers the ABI that was used."""
    abi = version()
    if not abi:
        return 0
    handled = _FS_RIGHTS.get(abi, _FS_ALL)
    attributes = struct.pack("QQQ", handled, _NET_ALL if abi >= 4 else 0, _SCOPE_ALL if abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = _call(_CREATE_RULESET, attributes[:size], size, 0)
    try:
        for path in programs:
            _allow(ruleset, path, EXECUTE | READ_FILE)
        for path in readable:
            _allow(ruleset, path, READ_FILE | READ_DIR)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return abi


def _allow(ruleset: int, path: str, rights: int) -> None:
    """A rule for what stands at `path`; nothing when nothing does."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            rights &= ~READ_DIR
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)

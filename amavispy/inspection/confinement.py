"""confinement - a process gives up what it does not need: limits first, then privileges, files and system calls.

What the kernel grants differs: an old one has no Landlock, a container may hide it. `Grants.of_this_system` finds out
without trying; `for_decoding` and `for_tools` are called in the child itself, once, and take what is granted. Memory
is limited as growth over what the process has at that moment, for it was forked from a worker.

**Failures:** OSError when the kernel refuses what it promised: the child ends and nothing is decoded by it.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from amavispy.inspection import landlock, seccomp

_SET_PDEATHSIG, _SET_NO_NEW_PRIVS, _GET_NO_NEW_PRIVS = 1, 38, 39
_LIBC = ctypes.CDLL(None, use_errno=True)

_GROWTH = 160 << 20  # octets of memory a decoder may take
_TOOL_MEMORY = 256 << 20
_MAPPED = 4 << 30  # address space: the input is mapped, and costs no memory of its own
_CPU = 3600  # seconds; the worker looks after each part's time, this is for a child it has lost sight of
_DECODER_FILES, _TOOL_FILES = 16, 64


@dataclass(frozen=True, slots=True)
class Grants:
    """What this system offers to confine a process with."""

    landlock: int
    seccomp: bool
    no_new_privs: bool

    @classmethod
    def of_this_system(cls) -> Grants:
        return cls(landlock.version(), seccomp.is_available(), _LIBC.prctl(_GET_NO_NEW_PRIVS, 0, 0, 0, 0) >= 0)

    @property
    def is_complete(self) -> bool:
        return bool(self.landlock) and self.seccomp and self.no_new_privs

    @property
    def missing(self) -> str:
        """What is not granted, for people: "Landlock, seccomp"."""
        named = (("Landlock", self.landlock), ("seccomp", self.seccomp), ("no_new_privs", self.no_new_privs))
        return ", ".join(name for name, value in named if not value)

    def __str__(self) -> str:
        granted = ["rlimits"]
        granted += ["no_new_privs"] if self.no_new_privs else []
        granted += [f"Landlock ABI {self.landlock}"] if self.landlock else []
        granted += ["seccomp"] if self.seccomp else []
        return ", ".join(granted) + (f"; not granted: {self.missing}" if self.missing else "")


NOTHING = Grants(0, False, False)


def die_with(parent: int) -> None:
    """End this process when `parent` ends, which may have happened already."""
    _LIBC.prctl(_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def for_decoding(grants: Grants) -> None:
    """This process will read one socket and compute: no file, no program, no other process, no network."""
    data, space = _memory_now()
    _limit(resource.RLIMIT_DATA, data + _GROWTH)
    _limit(resource.RLIMIT_AS, space + _GROWTH + _MAPPED)
    _limit_the_rest(_DECODER_FILES)
    _limit(resource.RLIMIT_NPROC, 0)
    if grants.no_new_privs:
        _LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if grants.landlock:
        landlock.restrict()
    if grants.seccomp:
        seccomp.allow_decoding()


def for_tools(grants: Grants, programs: Sequence[str], readable: Sequence[str]) -> None:
    """This process will execute `programs`, which read what is below `readable`, and nothing else."""
    data, _ = _memory_now()
    _limit(resource.RLIMIT_DATA, data + _TOOL_MEMORY)
    _limit_the_rest(_TOOL_FILES)
    if grants.no_new_privs:
        _LIBC.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if grants.landlock:
        landlock.restrict(programs, readable)
    if grants.seccomp:
        seccomp.deny_to_tools()


def _limit_the_rest(files: int) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_NOFILE, files)
    _limit(resource.RLIMIT_CPU, _CPU)


def _limit(what: int, value: int) -> None:
    """Lower a limit; one that is lower already stays."""
    _, most = resource.getrlimit(what)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    resource.setrlimit(what, (value, value))


def _memory_now() -> tuple[int, int]:
    """Octets of private writable memory and of address space that this process has."""
    with open("/proc/self/status", "rb") as file:
        text = file.read()
    data, space = (re.search(rb"%s:\s+(\d+) kB" % name, text) for name in (b"VmData", b"VmSize"))
    return (int(data[1]) << 10 if data else 0), (int(space[1]) << 10 if space else 0)

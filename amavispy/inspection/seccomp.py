"""seccomp - which system calls a confined process may still make.

`allow_decoding` leaves what an interpreter needs that has everything loaded and talks over one socket: no file is
opened, nothing executed, no process made, no memory made executable. `deny_to_tools` is for the child that executes
programs: it takes away the network, other processes and the rarely used parts of the kernel where holes are found.
What is not allowed fails with EPERM; a program that does not expect this ends.

**Failures:** OSError or RuntimeError, when the kernel refuses. `is_available` asks before.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
from typing import Any

try:
    import pyseccomp
except (ImportError, RuntimeError):  # no libseccomp on this machine
    pyseccomp = None

_GET_SECCOMP = 21  # prctl
_NEWUSER = 0x10000000
_LIBC = ctypes.CDLL(None, use_errno=True)

_ALLOWED = (
    "read", "write", "readv", "writev", "pread64", "recvfrom", "recvmsg", "sendto", "sendmsg", "close", "close_range",
    "lseek", "fstat", "newfstatat", "statx", "dup", "fcntl", "poll", "ppoll", "select", "pselect6",
    "munmap", "mremap", "brk", "madvise", "futex", "sched_yield", "sched_getaffinity", "getrandom",
    "clock_gettime", "clock_getres", "clock_nanosleep", "nanosleep", "gettimeofday", "time", "getrusage",
    "getpid", "getppid", "gettid", "getuid", "geteuid", "getgid", "getegid",
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall", "exit", "exit_group",
    "tgkill", "membarrier", "rseq", "set_robust_list",
)  # fmt: skip
_MEMORY = ("mmap", "mprotect")  # allowed without PROT_EXEC, their third argument

_DENIED = (
    "socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "ptrace", "process_vm_readv",
    "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "kcmp", "bpf", "perf_event_open",
    "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register", "io_setup", "keyctl", "add_key",
    "request_key", "mount", "umount2", "move_mount", "open_tree", "fsopen", "fsmount", "fsconfig", "pivot_root",
    "chroot", "unshare", "setns", "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load",
    "reboot", "swapon", "swapoff", "acct", "quotactl", "iopl", "ioperm", "personality", "modify_ldt",
    "name_to_handle_at", "open_by_handle_at", "fanotify_init", "setuid", "setgid", "setreuid", "setregid",
    "setresuid", "setresgid", "setgroups", "capset", "settimeofday", "clock_settime", "adjtimex", "syslog",
    "sethostname", "setdomainname", "memfd_secret", "mbind", "set_mempolicy", "migrate_pages", "move_pages",
)  # fmt: skip


def is_available() -> bool:
    """Whether the library is there and the kernel knows filters (prctl(2), PR_GET_SECCOMP)."""
    return pyseccomp is not None and _LIBC.prctl(_GET_SECCOMP, 0, 0, 0, 0) in (0, 2)


def allow_decoding() -> None:
    """Only what is listed as allowed. `no_new_privs` comes with it."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ERRNO(errno.EPERM))
    for name in _ALLOWED:
        _rule(rules, pyseccomp.ALLOW, name)
    no_exec = pyseccomp.Arg(2, pyseccomp.MASKED_EQ, mmap.PROT_EXEC, 0)
    for name in _MEMORY:
        _rule(rules, pyseccomp.ALLOW, name, no_exec)
    rules.load()


def deny_to_tools() -> None:
    """Everything but what is listed as denied."""
    rules = pyseccomp.SyscallFilter(pyseccomp.ALLOW)
    for name in _DENIED:
        _rule(rules, pyseccomp.ERRNO(errno.EPERM), name)
    # A new user namespace would bring back what is denied; the C library does without clone3, whose flags are hidden.
    _rule(rules, pyseccomp.ERRNO(errno.EPERM), "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, _NEWUSER, _NEWUSER))
    _rule(rules, pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    rules.load()


def _rule(rules: Any, action: Any, name: str, *arguments: Any) -> None:
    """One rule; a call that this architecture does not have needs none."""
    try:
        rules.add_rule(action, name, *arguments)
    except (OSError, ValueError, RuntimeError):
        return

"""Ownership - who may alter a configuration file: root alone.

A configuration decides what happens to everybody's mail, and with which privileges; so nobody else may write it, least
of all the user the daemon runs as (specification, chapter 1.2). `file_complaints` and `directory_complaints` judge the
facts that `facts_of` gathers. Every complaint says which file, what is wrong with it, the command that mends it, and
how to turn the check off.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from shlex import quote

_ESCAPE = "or give -X no_conf_file_writable_check"


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What matters about a file or directory. `is_writable_for_us`: for the effective user, when that is not root."""

    path: str
    mode: int
    owner: int
    is_writable_for_us: bool = False


def facts_of(path: str, status: os.stat_result, user: int) -> FileFacts:
    """The facts about an open file or a directory; `user` is the effective user id."""
    may_write = user != 0 and os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    return FileFacts(path, status.st_mode, status.st_uid, may_write)


def file_complaints(facts: FileFacts) -> list[tuple[str, str]]:
    """(what is wrong, what to do) about a configuration file."""
    if not (stat.S_ISREG(facts.mode) or stat.S_ISFIFO(facts.mode)):
        return [(f"{facts.path} is {_sort(facts.mode)}", "expected a regular file or a pipe")]
    return _about_writers(facts)


def directory_complaints(facts: FileFacts) -> list[tuple[str, str]]:
    """The same about a directory that holds one: who may write there can replace the file, unless it is sticky."""
    if facts.mode & stat.S_ISVTX and facts.owner == 0:
        return []
    return _about_writers(facts)


def _about_writers(facts: FileFacts) -> list[tuple[str, str]]:
    found = []
    if facts.owner != 0:
        found.append(
            (
                f"{facts.path} is owned by {user_name(facts.owner)}, not by root",
                f"run: chown root {quote(facts.path)}; {_ESCAPE}",
            )
        )
    if facts.mode & (stat.S_IWGRP | stat.S_IWOTH):
        who = " and ".join(
            w for bit, w in ((stat.S_IWGRP, "its group"), (stat.S_IWOTH, "everybody")) if facts.mode & bit
        )
        found.append((f"{facts.path} is writable for {who}", f"run: chmod go-w {quote(facts.path)}; {_ESCAPE}"))
    if facts.is_writable_for_us and not found:
        found.append(
            (
                f"{facts.path} is writable for the user this runs as",
                f"remove the access list: setfacl -b {quote(facts.path)}; {_ESCAPE}",
            )
        )
    return found


def user_name(user: int) -> str:
    try:
        return f"{pwd.getpwuid(user).pw_name} (uid {user})"
    except KeyError:
        return f"uid {user}"


def _sort(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a directory"
    return "a socket" if stat.S_ISSOCK(mode) else "a device"


def directories_of(path: str) -> Iterator[str]:
    """The directory a file is named in and, when symbolic links lead elsewhere, the one it lies in."""
    named = os.path.dirname(os.path.abspath(path))
    real = os.path.dirname(os.path.realpath(path))
    yield real
    if os.path.realpath(named) != real:
        yield os.path.realpath(named)

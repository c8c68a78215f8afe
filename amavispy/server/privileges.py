"""privileges - from root to the daemon's user, for good.

Called once, after the listen sockets are bound and before anything is read from a network. The daemon never runs as
root: without a user to become it does not start.

**Failures:** PrivilegeError says what is wrong; the daemon does not start.
"""

from __future__ import annotations

import grp
import logging
import os
import pwd
import stat

_LOG = logging.getLogger("amavispy.server")


class PrivilegeError(Exception):
    """The daemon's user or group cannot be used."""


def drop(user: str, group: str, *, own: tuple[str, ...] = ()) -> None:
    """Become `user` and `group` when root, with that user's other groups. Root's files in `own` are given to them.

    Started by another user, the daemon stays that user.
    """
    if os.geteuid() != 0:
        if user and pwd.getpwuid(os.geteuid()).pw_name != user:
            _LOG.warning("running as %s: only root can become %s", pwd.getpwuid(os.geteuid()).pw_name, user)
        return
    account = _account(user)
    gid = _group(group) if group else account.pw_gid
    if account.pw_uid == 0:
        raise PrivilegeError("refusing to run as root: daemon_user must name another user")
    for path in own:
        _give(path, account.pw_uid, gid)
    os.initgroups(account.pw_name, gid)
    os.setresgid(gid, gid, gid)
    os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    _check(account.pw_uid, gid)
    os.environ.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)


def _check(uid: int, gid: int) -> None:
    """Root must be out of reach now."""
    if os.getresuid() != (uid, uid, uid) or os.getresgid() != (gid, gid, gid):
        raise PrivilegeError("SECURITY PROBLEM, ABORTING: the daemon's user could not be taken on")
    try:
        os.setuid(0)
    except PermissionError:
        return
    raise PrivilegeError("SECURITY PROBLEM, ABORTING: root could be regained")


def _account(user: str) -> pwd.struct_passwd:
    if not user:
        raise PrivilegeError("refusing to run as root: set daemon_user")
    try:
        return pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
    except KeyError:
        raise PrivilegeError(f"daemon_user {user} does not exist") from None


def _group(group: str) -> int:
    try:
        return int(group) if group.isdigit() else grp.getgrnam(group).gr_gid
    except KeyError:
        raise PrivilegeError(f"daemon_group {group} does not exist") from None


def _give(path: str, uid: int, gid: int) -> None:
    """Change the owner of root's plain file. A link, or a file with several names, may be a trap: it is left alone."""
    if not path:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    try:
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_uid == 0:
            os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)

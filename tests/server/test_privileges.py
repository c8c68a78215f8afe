"""Root becomes the daemon's user for good, or the daemon does not start."""

import os
import pwd

import pytest

from amavispy.server import privileges
from amavispy.server.privileges import PrivilegeError


class System:
    """os, as far as privileges uses it: a root that can be given away."""

    def __init__(self, monkeypatch, *, keeps_root=False):
        self.uids, self.gids, self.groups = (0, 0, 0), (0, 0, 0), None
        self.keeps_root = keeps_root
        for name in ("geteuid", "initgroups", "setresgid", "setresuid", "getresuid", "getresgid", "setuid"):
            monkeypatch.setattr(os, name, getattr(self, name))
        monkeypatch.setattr(os, "environ", {})

    def geteuid(self):
        return self.uids[1]

    def initgroups(self, name, gid):
        self.groups = (name, gid)

    def setresgid(self, *gids):
        assert self.groups, "the groups must be set while root still may"
        self.gids = gids

    def setresuid(self, *uids):
        assert self.gids != (0, 0, 0), "the group must be set while root still may"
        self.uids = uids

    def getresuid(self):
        return self.uids

    def getresgid(self):
        return self.gids

    def setuid(self, uid):
        if not self.keeps_root:
            raise PermissionError


def test_root_becomes_the_user_with_all_its_groups(monkeypatch):
    system = System(monkeypatch)
    privileges.drop("nobody", "")
    nobody = pwd.getpwnam("nobody")
    assert system.uids == (nobody.pw_uid,) * 3
    assert system.gids == (nobody.pw_gid,) * 3
    assert system.groups == ("nobody", nobody.pw_gid)
    assert os.environ["USER"] == "nobody"


def test_a_group_may_be_chosen(monkeypatch):
    system = System(monkeypatch)
    privileges.drop("nobody", "daemon")
    assert system.gids == (1, 1, 1)


def test_root_within_reach_stops_the_start(monkeypatch):
    System(monkeypatch, keeps_root=True)
    with pytest.raises(PrivilegeError, match="SECURITY PROBLEM, ABORTING: root could be regained"):
        privileges.drop("nobody", "")


def test_a_user_that_was_not_taken_on_stops_the_start(monkeypatch):
    System(monkeypatch)
    monkeypatch.setattr(os, "setresuid", lambda *uids: None)
    with pytest.raises(PrivilegeError, match="could not be taken on"):
        privileges.drop("nobody", "")


@pytest.mark.parametrize(
    ("user", "group", "words"),
    [
        ("", "", "refusing to run as root: set daemon_user"),
        ("root", "", "refusing to run as root: daemon_user must name another user"),
        ("0", "", "refusing to run as root"),
        ("nosuchuser", "", "daemon_user nosuchuser does not exist"),
        ("nobody", "nosuchgroup", "daemon_group nosuchgroup does not exist"),
    ],
)
def test_an_unusable_user_stops_the_start(monkeypatch, user, group, words):
    System(monkeypatch)
    with pytest.raises(PrivilegeError, match=words):
        privileges.drop(user, group)


def test_another_user_stays_who_it_is(monkeypatch, caplog):
    system = System(monkeypatch)
    system.uids = (pwd.getpwnam("nobody").pw_uid,) * 3
    privileges.drop("daemon", "")
    assert system.uids == (pwd.getpwnam("nobody").pw_uid,) * 3
    assert "running as nobody: only root can become daemon" in caplog.text


def owners_given(monkeypatch, path) -> list[int]:
    System(monkeypatch)
    given = []
    monkeypatch.setattr(os, "fchown", lambda descriptor, uid, gid: given.append(uid))
    privileges.drop("nobody", "", own=("", str(path), str(path) + ".missing"))
    return given


def belongs_to_root(monkeypatch):
    real = os.fstat
    monkeypatch.setattr(os, "fstat", lambda d: os.stat_result([*real(d)[:4], 0, *real(d)[5:]]))


def test_a_file_that_root_made_becomes_the_users(monkeypatch, tmp_path):
    belongs_to_root(monkeypatch)
    (tmp_path / "log").touch()
    assert owners_given(monkeypatch, tmp_path / "log") == [pwd.getpwnam("nobody").pw_uid]


def test_links_and_files_with_several_names_are_left_alone(monkeypatch, tmp_path):
    belongs_to_root(monkeypatch)
    (tmp_path / "shadow").touch()
    os.symlink(tmp_path / "shadow", tmp_path / "soft")
    os.link(tmp_path / "shadow", tmp_path / "hard")
    assert owners_given(monkeypatch, tmp_path / "soft") == []
    assert owners_given(monkeypatch, tmp_path / "hard") == []

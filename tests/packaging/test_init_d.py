"""The SysV script does what the LSB says, with the real command."""

import os
import pwd
import subprocess

import pytest

from tests.packaging.conftest import PACKAGING
from tests.running import USER

SCRIPT = PACKAGING / "init.d" / "amavispy"


def test_the_script_starts_reloads_restarts_and_stops_the_daemon(installation):
    def run(action):
        return installation.run(SCRIPT, action, AMAVISPY_RUNDIR=str(installation.home)).returncode

    assert run("status") == 3
    assert run("start") == 0
    first = installation.master
    assert installation.serves()
    assert run("start") == 0  # again: nothing happens
    assert installation.master == first
    assert run("status") == 0
    assert run("reload") == 0
    assert installation.reloads == 1
    assert run("restart") == 0
    assert installation.master not in (None, first)
    assert installation.serves()
    assert run("stop") == 0
    assert installation.master is None
    assert run("stop") == 0
    assert run("status") == 3


def test_the_pid_files_directory_is_made(installation):
    directory = installation.directory / "run"
    installation.config.write_text(installation.config.read_text().replace("home/amavispy.pid", "run/amavispy.pid"))
    installation.pid_path = directory / "amavispy.pid"
    group_of_user = installation.run("id", "-gn", USER).stdout.strip()
    wrapper = installation.directory / "install"
    wrapper.write_text(f'#!/bin/sh\nexec /usr/bin/install -d -m 0750 -o {USER} -g {group_of_user} "$8"\n')
    wrapper.chmod(0o755)
    path = f"{installation.directory}:/usr/sbin:/usr/bin:/sbin:/bin"
    done = installation.run(SCRIPT, "start", AMAVISPY_RUNDIR=str(directory), PATH=path)
    assert done.returncode == 0, done.stderr
    assert directory.stat().st_uid == pwd.getpwnam(USER).pw_uid
    assert directory.stat().st_mode & 0o777 == 0o750


def test_settings_come_from_the_defaults_file(installation):
    defaults = installation.directory / "defaults"
    defaults.write_text(
        f'AMAVISPY_OPTIONS="{" ".join(installation.options)} -m 2"\nAMAVISPY_RUNDIR="{installation.home}"\n'
    )
    assert installation.run(SCRIPT, "start", AMAVISPY_DEFAULTS=str(defaults)).returncode == 0
    assert installation.serves()


def test_a_broken_configuration_makes_the_start_fail_and_says_why(installation):
    installation.config.write_text("nonsense = 1\n")
    done = installation.run(SCRIPT, "start", AMAVISPY_RUNDIR=str(installation.home))
    assert done.returncode == 1
    assert "nonsense: unknown setting" in done.stderr


def test_the_callers_environment_does_not_mislead_it(installation):
    assert installation.run(SCRIPT, "status", MAINPID=str(os.getpid())).returncode == 3


@pytest.mark.parametrize(("action", "status"), [("reload", 7), ("force-reload", 7), ("try-restart", 0), ("stop", 0)])
def test_without_a_daemon_actions_answer_as_the_lsb_says(installation, action, status):
    assert installation.run(SCRIPT, action).returncode == status


def test_a_missing_program_is_told_as_not_installed(installation):
    assert installation.run(SCRIPT, "start", AMAVISPY="/nonexistent").returncode == 5


@pytest.mark.parametrize("arguments", [[], ["frobnicate"]])
def test_wrong_usage_is_told(installation, arguments):
    done = installation.run(SCRIPT, *arguments)
    assert done.returncode == 2
    assert "Usage" in done.stderr


def test_the_header_is_one_that_insserv_understands():
    text = SCRIPT.read_text()
    header = text[text.index("### BEGIN INIT INFO") : text.index("### END INIT INFO")]
    for key in ("Provides", "Required-Start", "Required-Stop", "Default-Start", "Default-Stop", "Short-Description"):
        assert f"# {key}:" in header


def test_the_script_is_plain_posix_shell():
    assert subprocess.run(["dash", "-n", SCRIPT]).returncode == 0

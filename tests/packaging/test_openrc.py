"""The OpenRC script, run by a stand-in for openrc-run that has its functions."""

import subprocess

import pytest

from tests.packaging.conftest import PACKAGING
from tests.running import AMAVISPY

SCRIPT = PACKAGING / "openrc" / "amavispy"

# openrc-run sources the script, then calls default and own functions; start_pre comes before start.
OPENRC_RUN = r"""
ebegin() { printf ' * %s ...\n' "$*"; }
eend() { [ "$1" -eq 0 ] && echo ' [ ok ]' || echo ' [ !! ]'; return "$1"; }
checkpath() { echo "checkpath $*"; }
need() { echo "need $*"; }
use() { echo "use $*"; }
before() { echo "before $*"; }
. "$SCRIPT"
case "$ACTION" in
    start) start_pre && start ;;
    *) "$ACTION" ;;
esac
"""


def run(installation, action):
    return installation.run(
        "sh",
        "-c",
        OPENRC_RUN,
        SCRIPT=str(SCRIPT),
        ACTION=action,
        amavispy_program=str(AMAVISPY),
        amavispy_options=" ".join(installation.options),
        amavispy_rundir=str(installation.home),
        amavispy_user="somebody",
    )


def test_the_script_starts_reloads_and_stops_the_daemon(installation):
    assert run(installation, "status").returncode == 3
    started = run(installation, "start")
    assert started.returncode == 0, started.stderr
    assert f"checkpath --directory --mode 0750 --owner somebody:somebody {installation.home}" in started.stdout
    assert installation.serves()
    assert run(installation, "status").returncode == 0
    assert run(installation, "reload").returncode == 0
    assert installation.reloads == 1
    assert run(installation, "stop").returncode == 0
    assert installation.master is None
    assert run(installation, "status").returncode == 3


def test_a_failed_start_is_told(installation):
    installation.config.write_text("nonsense = 1\n")
    done = run(installation, "start")
    assert done.returncode == 1
    assert "[ !! ]" in done.stdout


def test_the_daemon_comes_after_the_network_and_before_the_mta(installation):
    assert run(installation, "depend").stdout.splitlines() == [
        "need localmount net",
        "use logger dns clamd spamd",
        "before mta postfix",
    ]


def test_reload_is_offered_while_the_daemon_runs():
    assert 'extra_started_commands="reload"' in SCRIPT.read_text()


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_the_script_is_plain_posix_shell(shell):
    assert subprocess.run([shell, "-n", SCRIPT]).returncode == 0

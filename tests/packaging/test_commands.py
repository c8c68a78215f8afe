"""The commands that start, ask and stop the daemon, as an administrator meets them."""

import json
import os
import signal
import socket
import subprocess

import pytest

from tests.packaging.conftest import children_of_master
from tests.running import AMAVISPY, wait_until


@pytest.fixture
def command(installation):
    """Run a command with the installation's options."""
    return lambda name, *more, **variables: installation.run(AMAVISPY, name, *installation.options, *more, **variables)


def test_start_waits_until_the_daemon_serves_and_stop_until_it_is_gone(installation, command):
    assert command("start").returncode == 0
    pid = installation.master
    assert installation.serves()
    stopped = command("stop")
    assert (stopped.returncode, stopped.stdout) == (0, f"Daemon [{pid}] terminated by SIGTERM\n")
    assert installation.master is None


def test_a_second_start_says_who_runs(installation, command):
    command("start")
    again = command("start")
    assert again.returncode == 1
    assert f"already running with process id {installation.master}" in again.stderr


def test_restart_works_with_and_without_a_daemon(installation, command):
    assert command("restart").returncode == 0
    first = installation.master
    assert command("restart").returncode == 0
    assert installation.master not in (None, first)


@pytest.mark.parametrize(("name", "status"), [("stop", 1), ("reload", 1), ("status", 3)])
def test_without_a_daemon_commands_say_so(command, name, status):
    done = command(name)
    assert done.returncode == status
    assert "not running" in done.stdout + done.stderr


def test_reload_waits_for_the_answer(installation, command):
    command("start")
    assert "has reloaded its configuration" in command("reload").stdout
    installation.config.write_text(installation.config.read_text() + "nonsense = 1\n")
    rejected = command("reload", "-P", str(installation.pid_path), "-H", str(installation.home))
    assert rejected.returncode == 1
    assert "has not taken the configuration" in rejected.stderr
    assert installation.serves()


def test_stop_works_although_the_configuration_is_broken_now(installation, command):
    command("start")
    pid = installation.master
    installation.config.write_text("nonsense = 1\n")
    done = command("stop", "-P", str(installation.pid_path))
    assert done.returncode == 0
    assert f"Daemon [{pid}] terminated by SIGTERM" in done.stdout


def test_status_shows_every_process(installation, command):
    command("start")
    wait_until(lambda: len(children_of_master(installation)) == 2, "two children")
    table = command("status").stdout
    assert f"amavispy [{installation.master}]" in table
    assert "gateway" in table
    assert "worker" in table
    for pid in children_of_master(installation):
        assert str(pid) in table


def test_status_as_json_is_for_programs(installation, command):
    assert json.loads(command("status", "--json").stdout) == {"running": False, "pid": None}
    command("start")
    answer = json.loads(command("status", "--json").stdout)
    assert (answer["running"], answer["pid"], answer["reloads"]) == (True, installation.master, 0)
    assert [row["role"] for row in answer["processes"]] == ["gateway", "worker"]


def test_a_start_that_fails_tells_why_and_leaves_nothing(installation, command):
    with socket.create_server(("127.0.0.1", installation.port)):
        done = command("start")
    assert done.returncode == 1
    assert "Address already in use" in done.stderr
    assert installation.master is None


def test_a_relative_path_of_the_configuration_survives_detaching(installation):
    directory = os.getcwd()
    os.chdir(installation.directory)
    try:
        options = ["-c", installation.config.name, "-X", "no_conf_file_writable_check"]
        assert installation.run(AMAVISPY, "start", *options).returncode == 0
        assert installation.run(AMAVISPY, "reload", *options).returncode == 0
    finally:
        os.chdir(directory)
    assert installation.reloads == 1


def test_debug_logs_to_the_terminal(installation):
    words = [str(AMAVISPY), "debug", *installation.options, "-d", "2"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    wait_until(lambda: installation.master, "the daemon")
    wait_until(lambda: (installation.home / "scoreboard").exists(), "its scoreboard")
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert b"starting." in said
    assert process.returncode == 0


def test_a_core_file_can_never_hold_mail(installation, command):
    command("start")
    for pid in [installation.master, *children_of_master(installation)]:
        with open(f"/proc/{pid}/limits") as limits:
            (core,) = [line.split()[4] for line in limits if line.startswith("Max core file size")]
        assert core == "0"

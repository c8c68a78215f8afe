"""The units: valid, hardened, and their lines start, reload and stop the real daemon."""

import os
import shlex
import signal
import socket
import subprocess

import pytest

from amavispy.config.model import ServerSettings
from amavispy.server.pid_file import is_alive
from tests.packaging.conftest import PACKAGING, at_home, unit
from tests.running import AMAVISPY, wait_until

SERVICE = PACKAGING / "systemd" / "amavispy.service"


def test_systemd_understands_the_units(tmp_path):
    units = [at_home(PACKAGING / "systemd" / name, tmp_path) for name in ("amavispy.service", "amavispy.socket")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if "amavispy" in line]
    assert said == []


def test_the_service_is_hardened():
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=29", "--no-pager", SERVICE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def command_line(key, installation) -> list[str]:
    """The unit's line as systemd would run it, with the program and the configuration of the test."""
    (line,) = unit("amavispy.service")["Service"][key]
    program, *arguments = shlex.split(line)
    assert program == "/usr/bin/amavispy"
    return [str(AMAVISPY), *arguments, *installation.options]


@pytest.fixture
def notify(installation):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        path = installation.directory / "notify"
        sock.bind(str(path))
        path.chmod(0o777)
        sock.settimeout(20)
        yield sock


def states(notify):
    """What systemd would make of the next message that is not the watchdog's."""
    while (message := notify.recv(4096).decode()) == "WATCHDOG=1":
        pass
    return dict(line.split("=", 1) for line in message.splitlines())


def test_the_units_lines_start_reload_and_stop_the_daemon(installation, notify):
    environment = installation.environment(NOTIFY_SOCKET=notify.getsockname())
    service = subprocess.Popen(command_line("ExecStart", installation), env=environment, stdin=subprocess.DEVNULL)
    ready = states(notify)
    assert (ready["READY"], ready["MAINPID"]) == ("1", str(service.pid))
    assert installation.serves()
    installation.pid_path.unlink()  # MAINPID alone is enough
    reloaded = installation.run(*command_line("ExecReload", installation), MAINPID=str(service.pid))
    assert reloaded.returncode == 0, reloaded.stderr
    assert states(notify)["RELOADING"] == "1"
    assert states(notify)["READY"] == "1"
    assert installation.serves()
    service.send_signal(signal.SIGTERM)
    assert states(notify)["STOPPING"] == "1"
    assert service.wait(20) == 0


def test_the_watchdog_is_fed_in_time(installation, notify):
    (seconds,) = unit("amavispy.service")["Service"]["WatchdogSec"]
    assert int(seconds) >= 10
    environment = installation.environment(NOTIFY_SOCKET=notify.getsockname(), WATCHDOG_USEC="200000")
    service = subprocess.Popen(command_line("ExecStart", installation), env=environment, stdin=subprocess.DEVNULL)
    while notify.recv(4096) != b"WATCHDOG=1":
        pass
    service.send_signal(signal.SIGTERM)
    assert service.wait(20) == 0


def test_sockets_that_systemd_holds_are_served(installation):
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{installation.port}", AMAVISPY, "foreground"]
    log = (installation.directory / "stderr").open("wb")
    service = subprocess.Popen([*command, *installation.options], env=os.environ, stderr=log, stdin=subprocess.DEVNULL)
    wait_until(lambda: connects(installation.port), "the socket")
    assert installation.serves()
    service.send_signal(signal.SIGTERM)
    assert service.wait(20) == 0
    log.close()


def connects(port) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_every_socket_of_the_example_is_a_form_the_configuration_knows():
    from amavispy.config.model import ListenSocket

    streams = unit("amavispy.socket")["Socket"]["ListenStream"]
    defaults = {ListenSocket.inet("127.0.0.1", 10024).text, ListenSocket.inet("::1", 10024).text}
    assert defaults <= set(streams)


def test_one_dead_worker_or_a_clean_end_does_not_end_the_service():
    service = unit("amavispy.service")["Service"]
    assert service["OOMPolicy"] == ["continue"]
    assert service["Restart"] == ["always"]
    assert service["KillMode"] == ["mixed"]


def test_the_directories_are_those_of_the_defaults():
    service, server = unit("amavispy.service")["Service"], ServerSettings()
    state = {f"/var/lib/{name}" for name in service["StateDirectory"][0].split()}
    assert state == {server.myhome, server.tempbase, server.quarantinedir}
    assert os.path.dirname(server.pid_file) == f"/run/{service['RuntimeDirectory'][0]}"
    assert (service["User"], service["Group"]) == ([server.daemon_user], [server.daemon_group])


def test_tmpfiles_makes_the_same_directories(tmp_path):
    text = (PACKAGING / "tmpfiles.d" / "amavispy.conf").read_text()
    server = ServerSettings()
    lines = [line.split() for line in text.splitlines() if line.startswith("d ")]
    wanted = {os.path.dirname(server.pid_file), server.myhome, server.tempbase, server.quarantinedir}
    assert {line[1] for line in lines} == wanted
    assert {(line[3], line[4]) for line in lines} == {(server.daemon_user, server.daemon_group)}
    ours = tmp_path / "ours.conf"
    ours.write_text(text.replace("amavispy amavispy -", "- - -"))
    done = subprocess.run(["systemd-tmpfiles", f"--root={tmp_path}", "--create", ours], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for path in wanted:
        assert (tmp_path / path.lstrip("/")).stat().st_mode & 0o777 == 0o750


def test_sysusers_makes_the_user(tmp_path):
    (tmp_path / "etc").mkdir()
    conf = PACKAGING / "sysusers.d" / "amavispy.conf"
    done = subprocess.run(["systemd-sysusers", f"--root={tmp_path}", conf], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (entry,) = (line.split(":") for line in (tmp_path / "etc" / "passwd").read_text().splitlines())
    assert (entry[0], entry[5], entry[6]) == ("amavispy", "/var/lib/amavispy", "/usr/sbin/nologin")


def test_nothing_is_left_when_the_service_has_stopped(installation):
    service = subprocess.Popen(
        command_line("ExecStart", installation), env=installation.environment(), stdin=subprocess.DEVNULL
    )
    wait_until(lambda: installation.master == service.pid and (installation.home / "scoreboard").exists(), "the daemon")
    wait_until(lambda: connects(installation.port), "its socket")
    service.send_signal(signal.SIGTERM)
    assert service.wait(20) == 0
    assert not installation.pid_path.exists()
    assert not is_alive(service.pid)

"""What a supervisor hears, and that a missing one disturbs nobody."""

import os
import socket

import pytest

from amavispy.server.sd_notify import Supervisor


@pytest.fixture
def notify(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(5)
        yield sock


def test_ready_names_the_main_process(notify):
    Supervisor({"NOTIFY_SOCKET": notify.getsockname()}).ready("Serving")
    assert notify.recv(4096).decode() == f"READY=1\nMAINPID={os.getpid()}\nSTATUS=Serving"


def test_an_abstract_socket_is_understood():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0amavispy-test-{os.getpid()}")
        sock.settimeout(5)
        Supervisor({"NOTIFY_SOCKET": f"@amavispy-test-{os.getpid()}"}).stopping()
        assert sock.recv(4096).startswith(b"STOPPING=1")


def test_without_a_supervisor_nothing_is_said():
    supervisor = Supervisor({"WATCHDOG_USEC": "1000"})
    supervisor.ready("")
    supervisor.still_alive(1000.0)
    assert supervisor.watchdog == 0.0


def test_a_supervisor_that_has_gone_disturbs_nobody():
    Supervisor({"NOTIFY_SOCKET": "/nonexistent/notify"}).ready("")


def test_the_watchdog_is_fed_twice_as_often_as_it_wants(notify):
    supervisor = Supervisor({"NOTIFY_SOCKET": notify.getsockname(), "WATCHDOG_USEC": "2000000"})
    for tenth in range(100, 151):
        supervisor.still_alive(tenth / 10)
    notify.setblocking(False)
    signs = []
    with pytest.raises(BlockingIOError):
        collect(notify, signs)
    assert len(signs) in (5, 6)
    assert set(signs) == {b"WATCHDOG=1"}


def collect(sock, into):
    while True:
        into.append(sock.recv(4096))


@pytest.mark.parametrize("environment", [{"WATCHDOG_USEC": "junk"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {}])
def test_a_watchdog_that_is_not_for_us_is_not_fed(environment):
    assert Supervisor({"NOTIFY_SOCKET": "/x", **environment}).watchdog == 0.0

"""The daemon as a whole: processes that die or hang, reloads, stops, and a start that fails."""

import os
import signal
import socket
import subprocess
import time

import pytest

from amavispy.server.pid_file import is_alive
from tests.running import free_port, wait_until
from tests.server.conftest import children_of


def replaced(daemon, gateway):
    return lambda: [row.state for row in daemon.rows("gateway") if row.pid != gateway] == ["serving"]


def family(daemon) -> list[int]:
    return [daemon.process.pid, *children_of(daemon.process.pid)]


def all_gone(pids):
    return lambda: not any(is_alive(pid) for pid in pids)


# --- processes that die or hang


def test_a_killed_gateway_is_replaced_and_nobody_is_refused(daemon):
    gateway = daemon.gateway
    os.kill(gateway, signal.SIGKILL)
    client = daemon.client()  # the listen socket is still there
    assert client.greet().mail().startswith("250")
    wait_until(replaced(daemon, gateway), "another gateway", 1.0)


def test_a_mail_in_work_survives_its_gateway(daemon):
    client = daemon.client().greet()
    client.begin("hold")
    client.send(".\n")
    daemon.worker_in("checking")
    gateway = daemon.gateway
    os.kill(gateway, signal.SIGKILL)
    wait_until(replaced(daemon, gateway), "another gateway")
    daemon.release()
    assert client.hear().startswith("250 2.0.0")
    assert client.mail().startswith("250 2.0.0")


def test_a_gateway_that_hangs_is_killed_and_replaced(daemon):
    gateway = daemon.gateway
    os.kill(gateway, signal.SIGSTOP)
    stopped = time.monotonic()
    wait_until(replaced(daemon, gateway), "another gateway")
    assert time.monotonic() - stopped < 2.0
    assert daemon.client().greet().mail().startswith("250")


def test_without_a_master_everybody_finishes_and_goes(daemon):
    busy, idle = daemon.client().greet(), daemon.client().greet()
    busy.begin("hold")
    busy.send(".\n")
    daemon.worker_in("checking")
    pids = family(daemon)
    daemon.signal(signal.SIGKILL)
    assert idle.hear().startswith("421 4.3.2")
    daemon.release()
    assert busy.hear().startswith("250 2.0.0")
    wait_until(all_gone(pids[1:]), "all children gone")


def test_a_new_daemon_starts_after_one_that_was_killed(daemon):
    pids = family(daemon)
    daemon.signal(signal.SIGKILL)
    wait_until(all_gone(pids[1:]), "all children gone")
    daemon.process.wait()
    daemon.process.stderr.close()
    (daemon.directory / "ready").unlink()
    daemon.start()
    assert daemon.client().greet().mail().startswith("250")


# --- stopping


def test_term_stops_at_once_and_everybody_hears_it(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    idle, listening = daemon.client().greet(), daemon.client().greet()
    listening.begin()
    waiting = daemon.client().greet()
    waiting.send("MAIL FROM:<ok@example.org>\n")
    wait_until(lambda: daemon.rows("gateway")[0].waiting == 1, "somebody waits")
    pids = family(daemon)
    daemon.signal(signal.SIGTERM)
    for client in (idle, listening, waiting):
        assert client.hear().startswith("421 4.3.2 Service shutting down"), client
        assert client.hear() == ""
    assert daemon.process.wait(5) == 0
    assert all_gone(pids)()
    assert not (daemon.directory / "pid").exists()


def test_a_loan_that_no_worker_has_taken_hears_term_too(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    client = daemon.client().greet()
    client.send("MAIL FROM:<ok@example.org>\n")
    wait_until(lambda: daemon.rows("gateway")[0].parked == 0, "the client is lent")
    daemon.signal(signal.SIGTERM)
    assert client.hear().startswith("421 4.3.2 Service shutting down")
    os.kill(worker, signal.SIGCONT)
    assert daemon.process.wait(10) == 0


def test_a_message_in_work_at_term_is_finished_when_it_can_be(daemon):
    client = daemon.client().greet()
    client.begin("hold")
    client.send(".\n")
    daemon.worker_in("checking")
    daemon.signal(signal.SIGTERM)
    daemon.wait_for_log("stopping")
    daemon.release()
    assert client.hear().startswith("250 2.0.0")
    assert daemon.process.wait(5) == 0


def test_a_message_in_work_that_takes_too_long_is_tempfailed_at_term(daemon):
    client = daemon.client().greet()
    client.begin("hold")
    client.send(".\n")
    daemon.worker_in("checking")
    daemon.signal(signal.SIGTERM)
    assert client.hear() == "451 4.5.0 timed out"
    assert daemon.process.wait(10) == 0


def test_a_worker_that_ignores_everything_is_killed_at_term(daemon):
    client = daemon.client().greet()
    client.begin("hang")
    client.send(".\n")
    daemon.worker_in("checking")
    pids = family(daemon)
    daemon.signal(signal.SIGTERM)
    daemon.signal(signal.SIGTERM)  # a second time: without patience
    assert daemon.process.wait(15) == 0
    assert all_gone(pids)()


def test_quit_serves_those_who_wait_and_then_ends(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    busy, waiting, idle = (daemon.client().greet() for _ in range(3))
    busy.begin("hold")
    busy.send(".\n")
    daemon.worker_in("checking")
    waiting.send("MAIL FROM:<ok@example.org>\nRCPT TO:<b@example.net>\nDATA\n\n.\n")
    wait_until(lambda: daemon.rows("gateway")[0].waiting == 1, "somebody waits")
    daemon.signal(signal.SIGQUIT)
    assert idle.hear().startswith("421 4.3.2")
    with pytest.raises(ConnectionRefusedError):
        daemon.client()
    daemon.release()
    assert busy.hear().startswith("250 2.0.0")
    assert [waiting.hear()[:3] for _ in range(4)] == ["250", "250", "354", "250"]
    assert daemon.process.wait(10) == 0


def test_quit_of_an_idle_daemon_ends_it(daemon):
    daemon.signal(signal.SIGQUIT)
    assert daemon.process.wait(5) == 0


# --- the number of workers


def test_ttin_and_ttou_change_the_number_of_workers(daemon):
    daemon.signal(signal.SIGTTIN)
    daemon.settled(3)
    daemon.signal(signal.SIGTTOU)
    daemon.settled(2)


def test_there_is_always_one_worker(daemon):
    for _ in range(5):
        daemon.signal(signal.SIGTTOU)
        at = time.monotonic()
        wait_until(lambda at=at: time.monotonic() > at + 0.05, "the master to see each signal")
    daemon.settled(1)


def test_an_elastic_pool_grows_when_all_are_busy(make_daemon):
    daemon = make_daemon(max_servers=4, min_servers=1, min_spare_servers=1, max_spare_servers=2).start()
    daemon.settled(1)
    client = daemon.client().greet()
    client.begin("hold")
    wait_until(lambda: len(daemon.workers()) == 2, "a spare worker")


def test_one_worker_that_reached_its_limit_does_not_end_the_service(make_daemon):
    daemon = make_daemon(max_servers=1, max_requests=1).start()
    client = daemon.client().greet()
    assert [client.mail()[:3] for _ in range(5)] == ["250"] * 5


# --- reload


def test_a_reload_gives_new_processes_and_keeps_every_session(daemon):
    idle, busy = daemon.client().greet(), daemon.client().greet()
    busy.begin("hold")
    busy.send(".\n")
    daemon.worker_in("checking")
    before = set(children_of(daemon.process.pid))
    daemon.reload(name="second")
    daemon.release()
    assert " first " in busy.hear()
    daemon.settled(2)
    assert not before & set(children_of(daemon.process.pid))
    assert " second " in idle.mail()
    assert " second " in busy.mail()


def test_waiting_clients_keep_their_turn_over_a_reload(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    busy = daemon.client().greet()
    busy.begin("hold")
    busy.send(".\n")
    daemon.worker_in("checking")
    waiting = [daemon.client().greet() for _ in range(20)]
    for client in waiting:
        client.send("MAIL FROM:<ok@example.org>\nRCPT TO:<b@example.net>\nDATA\n\n.\n")
    wait_until(lambda: daemon.rows("gateway")[0].waiting == 20, "20 waiting clients")
    daemon.reload(name="second")
    daemon.release()
    for client in waiting:
        assert [client.hear()[:3] for _ in range(4)] == ["250", "250", "354", "250"]


def test_a_reload_opens_new_sockets_and_closes_removed_ones(daemon):
    old, new = daemon.port, free_port()
    client = daemon.client().greet()
    daemon.plan["server"]["listen_sockets"] = [f"127.0.0.1:{new}"]
    daemon.reload()
    daemon.settled(2)
    daemon.wait_for_log("no longer listening")
    assert daemon.client(("127.0.0.1", new)).greet().mail().startswith("250")
    assert client.mail().startswith("250")
    with pytest.raises(ConnectionRefusedError):
        daemon.client(("127.0.0.1", old))


def test_a_broken_configuration_is_rejected_and_nothing_changes(daemon):
    before = set(children_of(daemon.process.pid))
    daemon.plan["fault"] = "as ordered"
    daemon.write_plan()
    daemon.signal(signal.SIGHUP)
    daemon.wait_for_log("Rejecting reload, some config files unreadable or erroneous:")
    daemon.wait_for_log("plan.json:1: fault: as ordered")
    assert set(children_of(daemon.process.pid)) == before
    assert daemon.client().greet().mail().startswith("250")
    assert daemon.board.rejections == 1


def test_a_socket_that_cannot_be_opened_rejects_the_reload(daemon):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        daemon.plan["server"]["listen_sockets"].append(f"127.0.0.1:{taken.getsockname()[1]}")
        daemon.write_plan()
        daemon.signal(signal.SIGHUP)
        daemon.wait_for_log("Address already in use")
    assert daemon.client().greet().mail().startswith("250")


def test_a_reload_may_change_the_number_of_workers(daemon):
    daemon.plan["server"]["max_servers"] = 4
    daemon.reload()
    daemon.settled(4)
    daemon.plan["server"]["max_servers"] = 1
    daemon.reload()
    daemon.settled(1)


def test_workers_that_cannot_start_after_a_reload_leave_the_old_ones_serving(daemon):
    daemon.reload(boot_status=70)
    daemon.wait_for_log("ended with status")
    assert daemon.client().greet().mail().startswith("250")
    daemon.reload(boot_status=0)
    daemon.settled(2)


def test_fifty_reloads_under_load_lose_nothing_and_leak_nothing(daemon):
    client = daemon.client().greet()
    client.mail()
    daemon.reload()
    daemon.settled(2)
    descriptors = len(os.listdir(f"/proc/{daemon.process.pid}/fd"))
    memory = resident_kib(daemon.process.pid)
    for number in range(50):
        daemon.reload(name=f"plan{number}")
        assert client.mail().startswith("250")
        assert daemon.client().greet().mail().startswith("250")
        daemon.clients.pop().close()
    daemon.settled(2)
    assert len(os.listdir(f"/proc/{daemon.process.pid}/fd")) == descriptors
    assert resident_kib(daemon.process.pid) < memory + 8000
    assert " plan49 " in client.mail()


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def test_usr1_reopens_the_logs_of_every_process(daemon):
    pids = family(daemon)
    daemon.signal(signal.SIGUSR1)
    for pid in pids:
        wait_until((daemon.directory / f"reopened-{pid}").exists, f"{pid} reopens its log")


# --- starting


def test_processes_that_cannot_start_stop_the_master(make_daemon):
    daemon = make_daemon()
    daemon.plan["boot_status"] = 70
    daemon.start(waits=False)
    assert daemon.process.wait(20) == 3
    assert "giving up" in daemon.log()
    assert not (daemon.directory / "ready").exists()


def start_fails(daemon) -> str:
    daemon.start(waits=False)
    assert daemon.process.wait(20) == 1
    return daemon.process.stderr.read().decode()


def test_a_broken_configuration_stops_the_start(make_daemon):
    daemon = make_daemon()
    daemon.plan["fault"] = "as ordered"
    assert start_fails(daemon) == "plan.json:1: fault: as ordered\n"


def test_a_port_in_use_stops_the_start(make_daemon):
    daemon = make_daemon()
    with socket.create_server(("127.0.0.1", daemon.port)):
        assert "Address already in use" in start_fails(daemon)


def test_a_second_daemon_does_not_start(make_daemon, daemon):
    second = make_daemon(pid_file=str(daemon.directory / "pid"), listen_sockets=[f"127.0.0.1:{daemon.port}"])
    assert f"already running with process id {daemon.process.pid}" in start_fails(second)
    assert daemon.client().greet().mail().startswith("250")


def test_a_stale_pid_file_does_not_block_the_start(make_daemon):
    daemon = make_daemon()
    (daemon.directory / "pid").write_text("1\n")
    os.chmod(daemon.directory / "pid", 0o666)
    daemon.start()
    assert (daemon.directory / "pid").read_text() == f"{daemon.process.pid}\n"


def test_no_process_runs_as_root(daemon):
    for pid in family(daemon):
        with open(f"/proc/{pid}/status") as file:
            ids = [line.split()[1:] for line in file if line.startswith(("Uid:", "Gid:"))]
        assert all("0" not in id_list for id_list in ids)


# --- supervisors


def test_listen_sockets_of_a_supervisor_are_used(make_daemon):
    daemon = make_daemon()
    with socket.create_server(("127.0.0.1", 0)) as given:
        daemon.port = given.getsockname()[1]
        daemon.write_plan()
        script = f'exec 3<&{given.fileno()}; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        daemon.prefix = ["bash", "-c", script, "-"]
        daemon.pass_fds = (given.fileno(),)
        daemon.start()
    assert daemon.client().greet().mail().startswith("250")


def test_a_supervisor_hears_what_happens(make_daemon):
    daemon = make_daemon()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(daemon.directory / "notify"))
        os.chmod(daemon.directory / "notify", 0o777)
        notify.settimeout(10)
        daemon.environment = {"NOTIFY_SOCKET": str(daemon.directory / "notify"), "WATCHDOG_USEC": "400000"}
        daemon.start()
        assert f"MAINPID={daemon.process.pid}" in next_but_watchdog(notify)
        assert notify.recv(4096) == b"WATCHDOG=1"
        daemon.reload()
        assert next_but_watchdog(notify)[0] == "RELOADING=1"
        assert next_but_watchdog(notify)[0] == "READY=1"
        daemon.signal(signal.SIGTERM)
        assert next_but_watchdog(notify)[0] == "STOPPING=1"


def next_but_watchdog(notify) -> list[str]:
    while (message := notify.recv(4096).decode().splitlines()) == ["WATCHDOG=1"]:
        pass
    return message


def test_the_monotonic_moment_of_a_reload_is_told(make_daemon):
    daemon = make_daemon()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(daemon.directory / "notify"))
        os.chmod(daemon.directory / "notify", 0o777)
        notify.settimeout(10)
        daemon.environment = {"NOTIFY_SOCKET": str(daemon.directory / "notify")}
        daemon.start()
        notify.recv(4096)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        daemon.reload()
        moment = int(notify.recv(4096).decode().splitlines()[1].removeprefix("MONOTONIC_USEC="))
        assert before <= moment <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_the_master_is_a_plain_process_of_its_parent(daemon):
    """`foreground` with one worker has a master too, so a worker's end is never the service's end."""
    assert daemon.process.poll() is None
    listing = subprocess.run(["ps", "-o", "ppid=", *map(str, family(daemon)[1:])], capture_output=True, text=True)
    assert {int(pid) for pid in listing.stdout.split()} == {daemon.process.pid}

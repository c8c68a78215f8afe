"""What becomes of a mail when its worker fails, is killed, takes too long or is told to go."""

import os
import signal

from tests.running import wait_until


def in_work(daemon, order="hold"):
    """A client whose mail is being checked, and the worker that does it."""
    client = daemon.client().greet()
    client.begin(order)
    client.send(".\n")
    return client, daemon.worker_in("checking")


def in_data(daemon):
    """A client in the middle of its data, and the worker that listens."""
    client = daemon.client().greet()
    client.begin()
    return client, daemon.worker_in("in session")


def test_a_worker_killed_in_the_middle_closes_the_connection_and_is_replaced(daemon):
    client, worker = in_work(daemon)
    os.kill(worker, signal.SIGKILL)
    assert client.hear() == ""
    daemon.settled(2)
    assert worker not in daemon.workers()
    assert daemon.client().greet().mail().startswith("250")


def test_all_workers_killed_are_replaced(daemon):
    before = daemon.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(before) & set(daemon.workers()), "other workers")
    daemon.settled(2)
    assert daemon.client().greet().mail().startswith("250")


def test_a_loan_that_waits_in_the_kernel_survives_its_worker(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGSTOP)
    client = daemon.client().greet()
    client.send("MAIL FROM:<ok@example.org>\n")
    wait_until(lambda: daemon.rows("gateway")[0].parked == 0, "the client is lent")
    os.kill(worker, signal.SIGKILL)
    assert client.hear().startswith("250 2.1.0")


def test_a_bug_ends_the_worker_and_only_that_connection(daemon):
    before, client = set(daemon.workers()), daemon.client().greet()
    assert client.mail("bug") == ""
    daemon.wait_for_log("a bug, as ordered")
    wait_until(lambda: not before <= set(daemon.workers()), "the worker retires")
    daemon.settled(2)
    assert daemon.client().greet().mail().startswith("250")


def test_the_alarm_answers_451_and_retires_the_worker(make_daemon):
    daemon = make_daemon(bank={"child_timeout": 0.3}).start()
    client, worker = in_work(daemon)
    assert client.hear() == "451 4.5.0 timed out"
    daemon.wait_for_log("task exceeded allowed time")
    wait_until(lambda: worker not in daemon.workers(), "the worker retires")


def test_a_worker_deaf_to_the_alarm_is_killed_after_the_grace(make_daemon):
    daemon = make_daemon(bank={"child_timeout": 0.2}).start()
    client, worker = in_work(daemon, "hang")
    assert client.hear() == ""
    assert f"killing worker [{worker}]: its message is past child_timeout" in daemon.log()
    daemon.settled(2)


def test_max_requests_retires_a_worker_and_loses_no_session(make_daemon):
    daemon = make_daemon(max_servers=1, max_requests=3).start()
    client = daemon.client().greet()
    workers = [client.mail().split()[3].split("-")[0] for _ in range(9)]
    assert [len(set(workers[i : i + 3])) for i in (0, 3, 6)] == [1, 1, 1]
    assert len(set(workers)) == 3
    daemon.wait_for_log("Requesting process rundown after 3 tasks (and 3 sessions)")


def test_term_interrupts_a_session_that_waits_for_its_client(daemon):
    client, worker = in_data(daemon)
    os.kill(worker, signal.SIGTERM)
    assert client.hear() == "421 4.3.2 Service shutting down, closing channel"
    assert client.hear() == ""
    wait_until(lambda: worker not in daemon.workers(), "the worker ends")


def test_term_lets_a_message_in_work_end(daemon):
    client, worker = in_work(daemon)
    os.kill(worker, signal.SIGTERM)
    daemon.release()
    assert client.hear().startswith("250 2.0.0")
    wait_until(lambda: worker not in daemon.workers(), "the worker ends")


def test_quit_and_hup_let_the_transaction_end_and_give_the_session_back(daemon):
    for number in (signal.SIGQUIT, signal.SIGHUP):
        client, worker = in_data(daemon)
        os.kill(worker, number)
        assert client.end().startswith("250 2.0.0")
        assert client.mail().startswith("250 2.0.0")
        wait_until(lambda worker=worker: worker not in daemon.workers(), "the worker retires")
        client.close()


def test_an_idle_worker_told_to_go_is_replaced(daemon):
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        worker = daemon.workers()[0]
        os.kill(worker, number)
        wait_until(lambda worker=worker: worker not in daemon.workers(), f"{number.name} ends an idle worker")
        daemon.settled(2)


def test_log_ids_count_connections_and_transactions(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    (worker,) = daemon.workers()
    client = daemon.client().greet()
    assert client.mail().split()[3] == f"{worker:05d}-01"
    assert client.mail().split()[3] == f"{worker:05d}-02"


def test_process_titles_say_what_each_process_is(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    client, worker = in_work(daemon)

    def title(pid: int) -> str:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().rstrip(b"\0").decode()

    assert title(daemon.process.pid) == "amavispy (master)"
    assert title(daemon.gateway) == "amavispy (gateway)"
    assert title(worker) == f"amavispy (ch1-{worker:05d}-01)"
    daemon.release()
    client.hear()
    wait_until(lambda: title(worker) == "amavispy (ch1-avail)", "the worker is available")

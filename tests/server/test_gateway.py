"""What a client meets before and between its mails: greeting, access, limits, queue, time-outs."""

import os
import socket
import struct
import time

from tests.running import free_port, wait_until
from tests.server.conftest import Client, elapsed

BURST = "MAIL FROM:<ok@example.org>\nRCPT TO:<b@example.net>\nDATA\n"


def is_parked(daemon, clients):
    return lambda: daemon.rows("gateway")[0].parked == clients


def waiting(daemon, clients):
    return lambda: daemon.rows("gateway")[0].waiting == clients


def test_a_mail_is_taken(daemon):
    client = daemon.client().greet()
    assert client.mail().startswith("250 2.0.0 Ok")
    assert client.say("QUIT").startswith("221 2.0.0")
    assert client.hear() == ""


def test_one_connection_carries_many_mails(daemon):
    client = daemon.client().greet()
    assert [client.mail()[:3] for _ in range(20)] == ["250"] * 20


def test_a_whole_session_in_one_write_is_answered_in_order(daemon):
    client = daemon.client()
    client.send("EHLO a\nNOOP\n" + (BURST + "Subject: t\n\nbody\n.\n") * 3 + "QUIT\n")
    codes = []
    while reply := client.hear():
        codes.append(reply[:3])
    assert codes == ["220", "250", "250"] + ["250", "250", "354", "250"] * 3 + ["221"]


def test_ipv6_and_unix_sockets_serve_as_well(make_daemon):
    daemon = make_daemon(bank={"protocol": "SMTP", "inet_acl": ["::1"]})
    path = str(daemon.directory / "smtp.sock")
    daemon.plan["server"]["listen_sockets"] = [f"[::1]:{daemon.port}", path]
    daemon.start()
    assert daemon.client(("::1", daemon.port)).greet().mail().endswith("peer=::1")
    assert daemon.client(path).greet().mail().endswith("peer=None")


def test_a_thousand_idle_clients_keep_nobody_waiting(make_daemon):
    daemon = make_daemon(max_servers=4).start()
    idle = [daemon.client().greet() for _ in range(1000)]
    wait_until(is_parked(daemon, 1000), "1000 parked clients")
    client = daemon.client()
    assert elapsed(lambda: client.greet().mail()) < 1.0
    assert idle[500].mail().startswith("250")


def test_more_clients_than_workers_are_all_served(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    clients = [daemon.client().greet() for _ in range(30)]
    for client in clients:
        client.send(BURST)
    for client in reversed(clients):
        client.send("Subject: t\n\nbody\n.\n")
    assert [[client.hear()[:3] for _ in range(4)] for client in clients] == [["250", "250", "354", "250"]] * 30


def test_connections_beyond_the_kernels_queue_wait_their_turn(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    holder = daemon.client().greet()
    holder.begin("hold")
    holder.send(".\n")
    daemon.worker_in("checking")
    clients = [daemon.client().greet() for _ in range(300)]
    for client in clients:
        client.send(BURST)
    wait_until(waiting(daemon, 300), "300 waiting clients")
    daemon.release()
    for client in clients:
        client.send("\n.\n")
    assert {tuple(client.hear()[:3] for _ in range(4)) for client in clients} == {("250", "250", "354", "250")}


def test_a_persistent_client_does_not_starve_new_ones(make_daemon):
    daemon = make_daemon(max_servers=1).start()
    holder = daemon.client().greet()
    holder.begin("hold")
    newcomer = daemon.client().greet()
    holder.send(".\n" + BURST.replace("ok@", "second@") + "\n.\n")
    daemon.worker_in("checking")
    newcomer.send(BURST + "\n.\n")
    wait_until(waiting(daemon, 1), "the newcomer waits")
    daemon.release()
    first = holder.hear()
    second = [newcomer.hear() for _ in range(4)][-1]
    third = [holder.hear() for _ in range(4)][-1]
    log_ids = [reply.split()[3] for reply in (first, second, third)]
    assert [log_id.split("-")[1] for log_id in log_ids] == ["01", "02", "03"]


# --- access


def test_a_stranger_hears_nothing(make_daemon):
    daemon = make_daemon(bank={"inet_acl": ["!127.0.0.1", "127.0.0.0/8"]}).start()
    assert daemon.client().hear() == ""
    daemon.wait_for_log("DENIED ACCESS from IP 127.0.0.1, policy bank '', blocked by rule !127.0.0.1")


def test_the_interfaces_bank_decides_about_access(make_daemon):
    daemon = make_daemon(bank={"inet_acl": []}, banks={"OPEN": {"inet_acl": ["127.0.0.1"]}})
    daemon.plan["interface_policy"] = {str(daemon.port): ["OPEN"]}
    daemon.start()
    assert "bank=OPEN" in daemon.client().greet().mail()


def test_a_unix_socket_needs_a_protocol(make_daemon):
    daemon = make_daemon()
    path = str(daemon.directory / "sock")
    daemon.plan["server"]["listen_sockets"] = [path]
    daemon.start()
    assert daemon.client(path).hear() == ""
    daemon.wait_for_log("protocol not specified, UNIX")


# --- the PROXY protocol


def proxied(make_daemon, **banks):
    return make_daemon(bank={"haproxy_target_enabled": True, "inet_acl": ["127.0.0.1", "192.0.2.0/24"]}, banks=banks)


def test_a_proxy_header_names_the_client(make_daemon):
    daemon = proxied(make_daemon).start()
    client = daemon.client()
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\n")
    assert client.greet().mail().endswith("peer=192.0.2.7")


def test_a_binary_proxy_header_names_the_client(make_daemon):
    daemon = proxied(make_daemon).start()
    client = daemon.client()
    addresses = socket.inet_aton("192.0.2.8") + socket.inet_aton("198.51.100.1") + struct.pack("!HH", 4711, 25)
    client.sock.sendall(b"\r\n\r\n\0\r\nQUIT\n\x21\x11" + struct.pack("!H", len(addresses)) + addresses)
    assert client.greet().mail().endswith("peer=192.0.2.8")


def test_the_proxied_address_decides_about_bank_and_access(make_daemon):
    daemon = proxied(make_daemon, EDGE={"originating": True})
    daemon.plan["interface_policy"] = {"198.51.100.1:25": ["EDGE"]}
    daemon.start()
    client = daemon.client()
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\n")
    assert "bank=EDGE" in client.greet().mail()
    stranger = daemon.client()
    stranger.send("PROXY TCP4 203.0.113.7 198.51.100.1 4711 25\n")
    assert stranger.hear() == ""
    daemon.wait_for_log("DENIED ACCESS from IP 203.0.113.7, policy bank 'EDGE'")


def test_what_comes_behind_a_proxy_header_is_not_lost(make_daemon):
    daemon = proxied(make_daemon).start()
    client = daemon.client()
    client.send("PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\nEHLO a\n" + BURST)
    assert [client.hear()[:3] for _ in range(5)] == ["220", "250", "250", "250", "354"]


def test_a_proxy_header_octet_by_octet_is_understood(make_daemon):
    daemon = proxied(make_daemon).start()
    client = daemon.client()
    client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for octet in b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n":
        client.sock.sendall(bytes([octet]))
    assert client.greet().mail().endswith("peer=192.0.2.7")


def test_a_client_without_the_header_is_closed(make_daemon):
    daemon = proxied(make_daemon).start()
    client = daemon.client()
    client.send("EHLO a\n")
    assert client.hear() == ""


# --- limits


def test_too_many_connections_hear_421(make_daemon):
    daemon = make_daemon(max_sessions=3).start()
    guests = [daemon.client().greet() for _ in range(3)]
    assert daemon.client().hear() == "421 4.3.2 Too many connections, try again later"
    guests[0].say("QUIT")
    guests[0].hear()
    wait_until(is_parked(daemon, 2), "room for another")
    daemon.client().greet()


def busy(make_daemon, **server):
    """A daemon whose only worker is held."""
    daemon = make_daemon(max_servers=1, **server).start()
    holder = daemon.client().greet()
    holder.begin("hold")
    holder.send(".\n")
    daemon.worker_in("checking")
    return daemon


def test_a_full_queue_hears_421(make_daemon):
    daemon = busy(make_daemon, max_queue=2)
    guests = [daemon.client().greet() for _ in range(3)]
    for guest in guests[:2]:
        guest.send(BURST)
    wait_until(waiting(daemon, 2), "a full queue")
    assert guests[2].say(BURST.strip()).startswith("421 4.3.2 Too many clients wait")
    assert guests[2].hear() == ""
    daemon.release()
    assert guests[0].hear().startswith("250 2.1.0")


def test_who_waited_too_long_hears_421(make_daemon):
    daemon = busy(make_daemon, max_wait=0.3)
    guest = daemon.client().greet()
    assert guest.say("MAIL FROM:<ok@example.org>").startswith("421 4.3.2 All workers are busy, try again later")
    assert guest.hear() == ""


def test_a_waiting_client_that_leaves_is_forgotten(make_daemon):
    daemon = busy(make_daemon)
    guest = daemon.client().greet()
    guest.send(BURST)
    wait_until(waiting(daemon, 1), "a waiting client")
    guest.close()
    wait_until(waiting(daemon, 0), "nobody waiting")


def test_a_waiting_client_that_is_reset_is_forgotten(make_daemon):
    daemon = busy(make_daemon)
    guest = daemon.client().greet()
    guest.send(BURST)
    wait_until(waiting(daemon, 1), "a waiting client")
    guest.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    guest.close()
    wait_until(waiting(daemon, 0), "nobody waiting")


def test_a_client_that_sent_everything_and_closed_its_side_still_gets_its_answers(make_daemon):
    daemon = busy(make_daemon)
    guest = daemon.client().greet()
    guest.send(BURST + "Subject: t\n\nbody\n.\n")
    wait_until(waiting(daemon, 1), "a waiting client")
    guest.sock.shutdown(socket.SHUT_WR)
    daemon.release()
    assert [guest.hear()[:3] for _ in range(4)] == ["250", "250", "354", "250"]


def test_a_half_closed_waiting_client_costs_no_processor(make_daemon):
    daemon = busy(make_daemon)
    guest = daemon.client().greet()
    guest.send(BURST + "Subject: t\n\nbody\n.\n")
    wait_until(waiting(daemon, 1), "a waiting client")
    guest.sock.shutdown(socket.SHUT_WR)
    assert processor_seconds(daemon.gateway, during=0.5) < 0.1


def test_an_idle_gateway_costs_no_processor(daemon):
    daemon.client().greet()
    assert processor_seconds(daemon.gateway, during=0.5) < 0.05


def processor_seconds(pid: int, during: float) -> float:
    """Processor time a process uses within so many seconds of wall time."""

    def used() -> int:
        with open(f"/proc/{pid}/schedstat") as file:
            return int(file.read().split()[0])

    before, end = used(), time.monotonic() + during
    wait_until(lambda: time.monotonic() >= end, "the measurement")
    return (used() - before) / 1e9


def test_an_idle_client_hears_421_after_smtpd_timeout(make_daemon):
    daemon = make_daemon(bank={"smtpd_timeout": 0.4}).start()
    client = daemon.client().greet()
    assert client.hear().startswith("421 4.4.2 ")
    assert client.hear() == ""


def test_an_active_client_is_not_timed_out(make_daemon):
    daemon = make_daemon(bank={"smtpd_timeout": 0.6}).start()
    client, start = daemon.client().greet(), time.monotonic()
    for moment in (0.3, 0.6, 0.9, 1.2, 1.5):
        wait_until(lambda moment=moment: time.monotonic() > start + moment, "a pause")
        assert client.say("NOOP").startswith("250")
    assert client.mail().startswith("250")


def test_a_client_that_reads_nothing_does_not_make_the_gateway_grow(daemon):
    client = daemon.client().greet()
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sock.settimeout(1.0)
    sent = 0
    try:
        while sent < 50_000_000:
            sent += client.sock.send(b"EHLO a\r\n" * 500)
    except TimeoutError:
        pass
    assert sent < 50_000_000
    assert resident_kib(daemon.gateway) < 120_000
    assert daemon.client().greet().mail().startswith("250")


def resident_kib(pid: int) -> int:
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS"))


def test_an_interrupted_client_leaves_nothing_behind(daemon):
    before = len(os.listdir(f"/proc/{daemon.gateway}/fd"))
    for _ in range(50):
        client = daemon.client().greet()
        client.send("MAIL FROM:<ok@example.org>\nRCPT")
        client.close()
    wait_until(lambda: len(os.listdir(f"/proc/{daemon.gateway}/fd")) <= before, "all descriptors closed")
    daemon.settled(2)


# --- AM.PDP


def test_an_ampdp_client_is_lent_with_its_first_octets(make_daemon):
    daemon = make_daemon(bank={"protocol": "AM.PDP"}).start()
    client = daemon.client()
    wait_until(is_parked(daemon, 1), "the client parked")
    for number in range(3):
        client.sock.sendall(b"request=AM.PDP\nsender=<a>\n")
        client.sock.sendall(b"\n")
        assert client.hear().startswith("log_id="), number
        assert client.hear() == ""  # the empty line that ends a response


def test_a_waiting_ampdp_client_is_told_to_keep_the_mail(make_daemon):
    daemon = make_daemon(max_servers=1, max_wait=0.3, banks={"PDP": {"protocol": "AM.PDP"}})
    other = free_port()
    daemon.plan["server"]["listen_sockets"] = [f"127.0.0.1:{daemon.port}", f"127.0.0.1:{other}"]
    daemon.plan["interface_policy"] = {str(other): ["PDP"]}
    daemon.start()
    holder = daemon.client().greet()
    holder.begin("hold")
    holder.send(".\n")
    daemon.worker_in("checking")
    client = Client(("127.0.0.1", other))
    client.sock.sendall(b"request=AM.PDP\n\n")
    said = [client.sock.recv(4096)]
    client.close()
    assert b"return_value=tempfail" in said[0]
    assert said[0].startswith(b"setreply=421 4.3.2 ")


# --- TLS


def test_starttls_is_lent_for_good_and_capped(make_daemon):
    daemon = make_daemon(
        max_tls_sessions=1, smtpd_tls_cert_file="c", smtpd_tls_key_file="k", bank={"tls_security_level_in": "may"}
    ).start()
    first, second = daemon.client().greet(), daemon.client().greet()
    assert first.say("STARTTLS").startswith("220")
    wait_until(lambda: any(row.is_pinned for row in daemon.rows("worker")), "a pinned worker")
    assert second.say("STARTTLS") == "454 4.7.0 TLS not available due to temporary reason"
    assert second.mail().startswith("250")
    first.close()
    wait_until(lambda: not any(row.is_pinned for row in daemon.rows("worker")), "nobody pinned")
    assert second.say("STARTTLS").startswith("220")


# --- rough weather


def test_without_descriptors_new_clients_wait_until_others_leave(make_daemon):
    daemon = make_daemon(max_servers=1)
    daemon.prefix = ["bash", "-c", 'ulimit -n 60; exec "$@"', "-"]
    daemon.start()
    clients = [daemon.client() for _ in range(80)]
    clients[0].greet()
    daemon.wait_for_log("cannot accept connections for the moment")
    for client in clients[:60]:
        client.close()
    assert clients[79].greet().mail().startswith("250")


def test_sessions_with_large_state_travel_too(daemon):
    client = daemon.client().greet()
    burst = "MAIL FROM:<ok@example.org>\n" + "".join(f"RCPT TO:<r{n}@example.net>\n" for n in range(1000))
    client.send(burst + "DATA\n")
    codes = [client.hear()[:3] for _ in range(1002)]
    assert codes == ["250"] * 1001 + ["354"]
    client.send("\nbody\n")
    assert client.end().startswith("250")

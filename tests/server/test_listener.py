"""Every form of listen socket, opened once and kept over reloads; nothing is left behind when one of them fails."""

import logging
import os
import socket
import stat

import pytest

from amavispy.config.model import ListenSocket, ServerSettings
from amavispy.server import interfaces, listener
from amavispy.server.listener import ListenError, inherited_sockets, open_listeners


@pytest.fixture
def opened():
    """open_listeners whose sockets are closed at the end of the test."""
    all_open = []

    def opening(*wanted, kept=(), inherited=(), mode=0o660):
        server = ServerSettings(listen_sockets=wanted, unix_socket_mode=mode)
        listeners = open_listeners(server, kept, inherited)
        all_open.extend(listeners)
        return listeners

    yield opening
    for each in all_open:
        each.close()


def connects(address) -> bool:
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as client:
        return client.connect_ex(address) == 0


def test_an_address_and_a_port_give_one_socket(opened):
    (one,) = opened(ListenSocket.inet("127.0.0.1", 0))
    assert connects(one.sock.getsockname())


def test_an_ipv6_address_listens_on_ipv6_only(opened):
    (one,) = opened(ListenSocket.inet("::1", 0))
    assert one.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
    assert connects(one.sock.getsockname()[:2])


def test_a_star_listens_on_every_family(opened):
    families = {each.place.family for each in opened(ListenSocket("*:0", "inet", host="*", port=0))}
    assert families == {socket.AF_INET, socket.AF_INET6}


def test_an_interface_name_stands_for_all_its_addresses(opened):
    listeners = opened(ListenSocket("lo:0", "inet", host="lo", port=0))
    assert {each.place.address[0] for each in listeners} == set(interfaces.addresses()["lo"])
    assert {each.text for each in listeners} == {"lo:0"}


def test_a_host_name_is_resolved(opened):
    hosts = {each.place.address[0] for each in opened(ListenSocket("localhost:0", "inet", host="localhost", port=0))}
    assert "127.0.0.1" in hosts


def test_an_unknown_name_is_a_fault(opened):
    with pytest.raises(ListenError, match=r"cannot listen on nowhere\.invalid:10024"):
        opened(ListenSocket("nowhere.invalid:10024", "inet", host="nowhere.invalid", port=10024))


def test_accepted_connections_inherit_no_delay(opened):
    (one,) = opened(ListenSocket.inet("127.0.0.1", 0))
    with socket.create_connection(one.sock.getsockname()):
        one.sock.setblocking(True)
        accepted, _ = one.sock.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_unix_socket_gets_exactly_its_mode(opened, tmp_path):
    opened(ListenSocket.unix(str(tmp_path / "sock")), mode=0o620)
    assert stat.S_IMODE(os.stat(tmp_path / "sock").st_mode) == 0o620


def test_a_stale_socket_file_is_replaced(opened, tmp_path):
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "sock"))
    opened(ListenSocket.unix(str(tmp_path / "sock")))
    assert connects(str(tmp_path / "sock"))


def test_a_socket_file_somebody_listens_on_is_left_alone(opened, tmp_path):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(tmp_path / "sock"))
        other.listen()
        with pytest.raises(ListenError, match="Address already in use"):
            opened(ListenSocket.unix(str(tmp_path / "sock")))
        assert connects(str(tmp_path / "sock"))


def test_a_plain_file_is_never_removed(opened, tmp_path):
    (tmp_path / "sock").write_text("precious")
    with pytest.raises(ListenError, match="something else than a socket"):
        opened(ListenSocket.unix(str(tmp_path / "sock")))
    assert (tmp_path / "sock").read_text() == "precious"


def test_a_closed_unix_socket_takes_its_file_along(opened, tmp_path):
    (one,) = opened(ListenSocket.unix(str(tmp_path / "sock")))
    one.close()
    assert not (tmp_path / "sock").exists()


def test_a_successors_socket_file_is_not_removed(opened, tmp_path):
    (one,) = opened(ListenSocket.unix(str(tmp_path / "sock")))
    os.rename(tmp_path / "sock", tmp_path / "old")
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(tmp_path / "sock"))
        one.close()
        assert (tmp_path / "sock").exists()


def test_a_reload_keeps_open_sockets_and_opens_new_ones(opened, tmp_path):
    inet, path = ListenSocket.inet("127.0.0.1", 0), ListenSocket.unix(str(tmp_path / "sock"))
    before = opened(inet)
    after = opened(inet, path, kept=before)
    assert after[0].sock is before[0].sock
    assert connects(path.path)


def test_all_faults_are_told_and_nothing_new_stays_open(opened, tmp_path):
    kept = opened(ListenSocket.inet("127.0.0.1", 0))
    (tmp_path / "a").write_text("")
    wanted = [
        ListenSocket.inet("127.0.0.1", 0),
        ListenSocket.unix(str(tmp_path / "fine")),
        ListenSocket.unix(str(tmp_path / "a")),
        ListenSocket.inet("192.0.2.1", 10024),
    ]
    with pytest.raises(ListenError) as caught:
        opened(*wanted, kept=kept)
    assert len(str(caught.value).splitlines()) == 2
    assert not (tmp_path / "fine").exists()
    assert connects(kept[0].sock.getsockname())


def test_a_family_this_machine_lacks_is_left_out(opened, monkeypatch, caplog):
    monkeypatch.setattr(interfaces, "addresses", lambda: {"lo": ("127.0.0.1",)})
    with caplog.at_level(logging.WARNING):
        listeners = opened(ListenSocket.inet("2001:db8::1", 10024), ListenSocket.inet("127.0.0.1", 0))
    assert [each.place.family for each in listeners] == [socket.AF_INET]
    assert "AF_INET6 is not available" in caplog.text


def test_no_socket_at_all_is_a_fault(opened):
    with pytest.raises(ListenError, match="no socket"):
        opened()


def test_an_entry_named_twice_is_opened_once(opened, tmp_path):
    path = ListenSocket.unix(str(tmp_path / "sock"))
    assert len(opened(path, path)) == 1


def test_a_handed_over_socket_is_used_where_its_address_is_asked_for(opened):
    given = socket.create_server(("127.0.0.1", 0))
    (one,) = opened(ListenSocket.inet(*given.getsockname()), inherited=[given])
    assert one.sock is given
    assert not given.getblocking()


def test_a_handed_over_socket_for_both_families_serves_both(opened):
    given = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    port = given.getsockname()[1]
    (one,) = opened(ListenSocket(f"*:{port}", "inet", host="*", port=port), inherited=[given])
    assert one.sock is given
    assert connects(("127.0.0.1", port))


def test_a_handed_over_socket_nobody_asks_for_is_closed(opened):
    given = socket.create_server(("127.0.0.1", 0))
    opened(ListenSocket.inet("127.0.0.1", 0), inherited=[given])
    assert given.fileno() == -1


def test_sockets_are_taken_over_from_a_supervisor(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as given:
        monkeypatch.setattr(listener, "_FIRST_INHERITED", given.fileno())
        environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "smtp", "HOME": "/"}
        (taken,) = inherited_sockets(environment)
        assert taken.getsockname() == given.getsockname()
        assert environment == {"HOME": "/"}
        taken.detach()


@pytest.mark.parametrize("environment", [{}, {"LISTEN_FDS": "1", "LISTEN_PID": "1"}, {"LISTEN_FDS": "x"}])
def test_sockets_meant_for_another_process_are_left_alone(environment):
    assert inherited_sockets(environment) == []

"""The inner socketpair keeps packets whole, never leaks a descriptor and always knows how many loans wait in it."""

import os
import socket
import struct

import pytest

from amavispy.mail.envelope import Connection
from amavispy.server import inner
from amavispy.server.loan import Loan


@pytest.fixture
def pair():
    gateway, workers = inner.make_pair()
    yield gateway, workers
    gateway.close()
    workers.close()


@pytest.fixture
def client():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def loan(state: bytes = b"state") -> Loan:
    return Loan("SMTP", ("",), Connection("127.0.0.1:10024", "127.0.0.1", 1, "127.0.0.1", 10024), state)


def give_back_for_ever(end: socket.socket, descriptor: int) -> None:
    while True:
        inner.give_back(end, loan(b"x" * 5000), descriptor)


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_lent_connection_works_on_the_other_side(pair, client):
    ours, theirs = client
    assert inner.lend(pair[0], loan(), theirs.fileno())
    lent, adopted = inner.receive(pair[1])
    adopted.sendall(b"hello")
    adopted.close()
    assert lent == loan()
    assert ours.recv(10) == b"hello"


def test_a_state_too_large_for_a_packet_travels_in_a_memfd(pair, client):
    large = loan(os.urandom(300_000))
    assert inner.lend(pair[0], large, client[1].fileno())
    lent, adopted = inner.receive(pair[1])
    adopted.close()
    assert lent == large


def test_words_carry_no_loan(pair):
    inner.say(pair[1], inner.FREE)
    assert inner.receive(pair[0]) is None


def test_an_empty_queue_blocks_nobody(pair):
    with pytest.raises(BlockingIOError):
        inner.receive(pair[0])


def test_the_end_of_the_other_side_is_seen():
    gateway, workers = inner.make_pair()
    gateway.close()
    with pytest.raises(EOFError):
        inner.receive(workers)
    workers.close()


def test_a_broken_packet_costs_no_descriptor(pair, client):
    before = open_descriptors()
    inner._send_with(pair[0], b"no loan", [client[1].fileno()] * 3, 0)
    assert inner.receive(pair[1]) is None
    assert open_descriptors() == before


def test_surplus_descriptors_are_closed(pair, client):
    before = open_descriptors()
    inner._send_with(pair[0], loan().encode(), [client[1].fileno()] * 4, 0)
    _, adopted = inner.receive(pair[1])
    adopted.close()
    assert open_descriptors() == before


def test_a_full_queue_refuses_and_takes_again_when_there_is_room(pair, client):
    sent = 0
    while inner.lend(pair[0], loan(b"x" * 500), client[1].fileno()):
        sent += 1
    assert 50 < sent < 1000
    for _ in range(sent):
        inner.receive(pair[1])[1].close()
    assert inner.lend(pair[0], loan(), client[1].fileno())


def test_loans_in_the_kernel_are_counted_as_workers_take_them(pair, client):
    in_flight = inner.InFlight(pair[1])
    for state in (b"a", b"bb" * 100, b"c"):
        in_flight.sent(inner.lend(pair[0], loan(state), client[1].fileno()), is_for_good=state == b"c")
    counts = [in_flight.count()]
    for _ in range(3):
        inner.receive(pair[1])[1].close()
        counts.append(in_flight.count())
    assert counts == [3, 2, 1, 0]


def test_loans_that_stay_for_good_are_counted_while_they_travel(pair, client):
    in_flight = inner.InFlight(pair[1])
    in_flight.sent(inner.lend(pair[0], loan(), client[1].fileno()), is_for_good=True)
    in_flight.count()
    assert in_flight.for_good() == 1
    inner.receive(pair[1])[1].close()
    in_flight.count()
    assert in_flight.for_good() == 0


def test_a_new_gateway_sees_what_its_predecessor_left_in_the_kernel(pair, client):
    inner.lend(pair[0], loan(), client[1].fileno())
    inner.lend(pair[0], loan(), client[1].fileno())
    in_flight = inner.InFlight(pair[1])
    assert in_flight.count() == 1
    in_flight.sent(inner.lend(pair[0], loan(), client[1].fileno()))
    assert in_flight.count() == 2
    inner.receive(pair[1])[1].close()
    inner.receive(pair[1])[1].close()
    assert in_flight.count() == 1
    inner.receive(pair[1])[1].close()
    assert in_flight.count() == 0


def test_giving_back_fails_after_a_while_when_nobody_reads(client):
    gateway, workers = inner.make_pair()
    workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", 0, 1000))
    with pytest.raises(BlockingIOError):
        give_back_for_ever(workers, client[1].fileno())
    gateway.close()
    workers.close()

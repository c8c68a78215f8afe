"""The fair queue: first come first served, and nothing stays in the kernel unnoticed."""

import socket

import pytest

from amavispy.mail.envelope import Connection
from amavispy.policy.bank import PolicyBank
from amavispy.policy.settings import Settings
from amavispy.server import inner
from amavispy.server.front import AmpdpFront
from amavispy.server.guest import Guest
from amavispy.server.scoreboard import GATEWAYS, IDLE, Scoreboard
from amavispy.server.waiting_line import WaitingLine

BANK = PolicyBank(Settings())


class Place:
    """A line, the workers' end of the inner socket, and a board whose workers the test sets."""

    def __init__(self, directory, open_sockets):
        self.board = Scoreboard.create(str(directory / "scoreboard"), 8)
        self.gateway_end, self.workers_end = inner.make_pair()
        self.unwatched = []
        self.line = WaitingLine(self.gateway_end, self.workers_end, self.board, self.unwatched.append)
        self.open_sockets = open_sockets
        open_sockets += [self.gateway_end, self.workers_end]

    def idle(self, count):
        for number in range(8):
            self.board.slot(GATEWAYS + number).mark(IDLE if number < count else b"d")

    def guest(self, number=0, **facts):
        ours, theirs = socket.socketpair()
        self.open_sockets += [ours, theirs]
        guest = Guest(ours, Connection("/run/sock", number=number), BANK, AmpdpFront(), **facts)
        self.line.enter(guest, now=100.0 + number)
        return guest

    def taken(self):
        """The numbers of the connections in the kernel; they are taken out."""
        numbers = []
        for loan, sock in inner.drain(self.workers_end):
            sock.close()
            numbers.append(loan.connection.number)
        return numbers


@pytest.fixture
def place(tmp_path):
    open_sockets = []
    yield Place(tmp_path, open_sockets)
    for sock in open_sockets:
        sock.close()


def test_only_as_many_are_lent_as_workers_are_idle(place):
    for number in range(5):
        place.guest(number)
    place.idle(2)
    place.line.pump()
    assert len(place.line) == 3
    place.line.pump()  # nobody has taken them: the workers are spoken for
    assert len(place.line) == 3
    assert place.taken() == [0, 1]


def test_who_comes_first_is_served_first(place):
    for number in range(6):
        place.guest(number)
    served = []
    while len(place.line):
        place.idle(1)
        place.line.pump()
        served += place.taken()
    assert served == [0, 1, 2, 3, 4, 5]


def test_a_guest_that_left_is_passed_over(place):
    guests = [place.guest(number) for number in range(3)]
    place.line.leave(guests[0])
    assert len(place.line) == 2
    place.idle(8)
    place.line.pump()
    assert place.taken() == [1, 2]


def test_a_guest_leaves_the_epoll_set_before_it_is_sent_and_is_closed_here(place):
    guest = place.guest()
    place.idle(1)
    place.line.pump()
    assert place.unwatched == [guest]
    assert guest.sock.fileno() == -1


def test_a_loan_that_lies_in_the_kernel_while_workers_are_idle_wakes_another_one(place):
    """EPOLLEXCLUSIVE wakes one worker a packet; when that one dies at this moment, nobody else hears of it."""
    place.guest()
    place.idle(2)
    place.line.pump()
    place.line.nudge()  # it may be on its way to being taken
    place.line.nudge()
    inner.receive(place.workers_end)[1].close()
    assert place.workers_end.recv(100, socket.MSG_DONTWAIT) == inner.NUDGE


def test_a_busy_crew_is_not_nudged(place):
    place.guest()
    place.idle(1)
    place.line.pump()
    place.idle(0)
    for _ in range(3):
        place.line.nudge()
    inner.receive(place.workers_end)[1].close()
    with pytest.raises(BlockingIOError):
        place.workers_end.recv(100, socket.MSG_DONTWAIT)


def test_who_waits_too_long_comes_out_in_order(place):
    guests = [place.guest(number) for number in range(4)]
    assert list(place.line.overdue(before=102.0)) == guests[:2]
    assert len(place.line) == 2


def test_a_guest_from_another_gateway_keeps_its_time(place):
    guest = place.guest(since=50.0)
    assert guest.loan().since == 50.0


def test_sessions_that_never_come_back_are_counted_wherever_they_are(place):
    waiting = [place.guest(number, is_for_good=True) for number in range(3)]
    assert place.line.for_good == 3
    place.idle(1)
    place.line.pump()
    assert place.line.for_good == 3
    place.taken()
    assert place.line.for_good == 2
    place.board.slot(GATEWAYS).set_pinned(True)
    assert place.line.for_good == 3
    place.line.leave(waiting[2])
    assert place.line.for_good == 2


def test_a_full_kernel_queue_only_means_to_wait_longer(place, monkeypatch):
    monkeypatch.setattr(inner, "lend", lambda *arguments: 0)
    guest = place.guest()
    place.idle(1)
    place.line.pump()
    assert (len(place.line), guest.is_waiting) == (1, True)
    monkeypatch.undo()
    place.line.pump()
    assert place.taken() == [0]

"""Several servers, one connection: who is asked, who rests, and what is logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from amavispy.mail.reply import TemporaryFailure
from amavispy.tables.failover import Failover


class Gone(Exception):
    """What a fake server raises."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class FakeServer:
    """Connections are numbers; `refuses` connecting, `breaks` when asked."""

    name: str
    refuses: bool = False
    breaks: set[int] = field(default_factory=set)
    connected: int = 0
    closed: list[int] = field(default_factory=list)
    failures: tuple[type[Exception], ...] = (Gone,)
    on_ask: Callable[[], None] = lambda: None

    def connect(self) -> int:
        self.connected += 1
        if self.refuses:
            raise Gone(f"{self.name} refuses")
        return self.connected

    def close(self, connection: int) -> None:
        self.closed.append(connection)

    def ask(self, connection: int) -> str:
        self.on_ask()
        if connection in self.breaks:
            raise Gone(f"{self.name} is gone")
        return f"{self.name}{connection}"


def asked(failover: Failover[int]) -> str:
    """The answer of whichever server the failover has connected to."""

    def question(connection: int) -> str:
        current = failover._connected_to
        assert isinstance(current, FakeServer)
        return current.ask(connection)

    return failover.ask(question)


def test_a_connection_is_made_when_needed_and_kept() -> None:
    a, b = FakeServer("a"), FakeServer("b")
    failover = Failover("lookup", [a, b])
    assert a.connected == 0
    assert [asked(failover) for _ in range(3)] == ["a1"] * 3
    assert b.connected == 0


def test_a_lost_connection_is_made_anew_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    a = FakeServer("a")
    failover = Failover("lookup", [a])
    asked(failover)
    a.breaks = {1}
    assert asked(failover) == "a2"
    assert a.closed == [1]
    assert caplog.records == []


def test_the_next_server_takes_over_and_stays() -> None:
    a, b, clock = FakeServer("a", refuses=True), FakeServer("b"), Clock()
    failover = Failover("lookup", [a, b], clock)
    assert asked(failover) == "b1"
    a.refuses = False
    clock.now += 1000
    assert asked(failover) == "b1"
    assert a.connected == 1
    b.breaks = {1}
    assert asked(failover) == "a2"


def test_a_server_that_failed_rests_longer_each_time(caplog: pytest.LogCaptureFixture) -> None:
    a, clock = FakeServer("a", refuses=True), Clock()
    failover = Failover("lookup", [a], clock)
    for rest in (1, 2, 4, 8, 16, 32, 60, 60):
        with pytest.raises(TemporaryFailure):
            asked(failover)
        tries = a.connected
        clock.now += rest - 0.1
        with pytest.raises(TemporaryFailure):
            asked(failover)
        assert a.connected == tries
        clock.now += 0.2
    assert len(caplog.records) == 8
    assert caplog.messages[1] == "lookup: a failed, next try in 2 s: a refuses"
    a.refuses = False
    assert asked(failover) == "a9"
    a.refuses, a.breaks = True, {9}
    with pytest.raises(TemporaryFailure):
        asked(failover)
    assert caplog.messages[-1] == "lookup: a failed, next try in 1 s: a refuses"


def test_a_server_that_took_long_to_fail_is_not_tried_again_at_once() -> None:
    a, clock = FakeServer("a"), Clock()
    failover = Failover("lookup", [a], clock)
    asked(failover)

    def hang() -> None:
        clock.now += 5

    a.breaks, a.on_ask = {1}, hang
    with pytest.raises(TemporaryFailure):
        asked(failover)
    assert a.connected == 1


def test_the_reply_tells_nothing_of_servers() -> None:
    with pytest.raises(TemporaryFailure) as caught:
        asked(Failover("lookup_sql", [FakeServer("secret.example", refuses=True)]))
    assert str(caught.value.reply) == "451 4.5.0 Error in processing, lookup_sql FAILED"


def test_a_connection_whose_question_was_cut_off_hears_no_other() -> None:
    a = FakeServer("a")
    failover = Failover("lookup", [a])
    asked(failover)

    def alarm() -> None:
        raise TimeoutError("the worker's alarm")

    a.on_ask = alarm
    with pytest.raises(TimeoutError):
        asked(failover)
    assert a.closed == [1]
    a.on_ask = lambda: None
    assert asked(failover) == "a2"

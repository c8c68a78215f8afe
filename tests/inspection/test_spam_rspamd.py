"""rspamd asked of a mail: the whole request, its connections, and what answers and failures become."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.mail.envelope import Client, Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, SpamAdvice, SpamScan
from amavispy.policy.settings import ScannerSpec
from tests.inspection.fake_daemons import Behaviour, FakeDaemon, says, silence, until_closed

ENVELOPE = Envelope("a@example.org", (Recipient("b@example.net"), Recipient("c@example.net")), Client("192.0.2.1"))
MAIL = b"Subject: y\r\n\r\nhello\r\n"
SPEC = ScannerSpec("rspamd", "rspamd", "127.0.0.1:11333", timeout=10)
_REQUEST = re.compile(rb"POST /checkv2 HTTP/1\.1\r\n(?:.+\r\n)*\r\n")


def answer(score: float, connection: str = "close", **more: object) -> bytes:
    body = json.dumps({"score": score, "required_score": 15.0, "action": "no action", **more}).encode()
    return b"HTTP/1.1 200 OK\r\nConnection: %s\r\nContent-Length: %d\r\n\r\n%s" % (
        connection.encode(),
        len(body),
        body,
    )


def serves(requests: list[bytes], reply: Callable[[bytes], bytes], most: int = 1_000_000) -> Behaviour:
    """Answers request after request on a connection, and closes after so many."""

    def behaviour(connection: socket.socket) -> None:
        octets = b""
        for _ in range(most):
            while not (head := _REQUEST.match(octets)) or len(octets) < head.end() + _length(head[0]):
                more = connection.recv(65_536)
                if not more:
                    return
                octets += more
            end = head.end() + _length(head[0])
            requests.append(octets[:end])
            octets = octets[end:]
            connection.sendall(reply(requests[-1]))

    return behaviour


def _length(head: bytes) -> int:
    found = re.search(rb"Content-Length: (\d+)", head)
    assert found
    return int(found[1])


def scan(spec: ScannerSpec, mail: bytes = MAIL, scanning: Scanning | None = None, seconds: float = 10) -> SpamScan:
    scanning = scanning or Scanning([spec])
    (found,) = scanning.scan(Content(mail), (), ENVELOPE, (), (spec,), Deadline.after(seconds))[1]
    return found


@pytest.fixture(params=["unix", "tcp"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "rspamd" if request.param == "unix" else None


def test_rspamd_gets_the_mail_as_it_came_in(path: Path | None) -> None:
    seen: list[bytes] = []
    reply = answer(3.0, symbols={"A": {"score": 3.0}})
    with FakeDaemon(serves(seen, lambda _: reply), path=path) as daemon:
        found = scan(replace(SPEC, address=daemon.address, mta_name="mx.example.net"))
    assert found == SpamScan("rspamd", 3.0, (("A", 3.0),), advice=SpamAdvice("no action"))
    head, _, mail = seen[0].partition(b"\r\n\r\n")
    assert mail == MAIL
    assert b"\r\nRcpt: <b@example.net>\r\nRcpt: <c@example.net>" in head
    assert b"\r\nIP: 192.0.2.1\r\n" in head
    assert b"\r\nMTA-Name: mx.example.net\r\n" in head


def test_a_large_mail_is_sent_in_full() -> None:
    seen: list[bytes] = []
    mail = MAIL + b"x" * 20_000_000
    with FakeDaemon(serves(seen, lambda _: answer(1.0))) as daemon:
        assert scan(replace(SPEC, address=daemon.address), mail).score == 1.0
    assert seen[0].endswith(mail)


@pytest.mark.parametrize(("limit", "size"), [(0, 1_000_000), (None, 1_000_000), (5000, 5000)])
def test_a_limit_of_its_own_cuts_the_body(limit: int | None, size: int) -> None:
    seen: list[bytes] = []
    with FakeDaemon(serves(seen, lambda _: answer(1.0))) as daemon:
        scan(replace(SPEC, address=daemon.address, mail_body_size_limit=limit), b"A: b\r\n\r\n" + b"x" * 1_000_000)
    assert seen[0].partition(b"\r\n\r\n")[2].count(b"x") == size


def test_scores_and_tests_are_multiplied() -> None:
    with FakeDaemon(says(answer(10.0, symbols={"A": {"score": 4.0}}))) as daemon:
        found = scan(replace(SPEC, address=daemon.address, score_factor=0.5))
    assert (found.score, found.tests) == (5.0, (("A", 2.0),))


# --- connections


def test_a_connection_that_stays_open_serves_many_mails(path: Path | None) -> None:
    seen: list[bytes] = []
    with FakeDaemon(serves(seen, lambda r: answer(len(r), "keep-alive")), path=path) as daemon:
        spec = replace(SPEC, address=daemon.address)
        scanning = Scanning([spec])
        scores = [scan(spec, MAIL + b"x" * number, scanning).score for number in range(5)]
        assert daemon.connections == 1
    assert scores == [len(request) for request in seen]
    assert len(set(scores)) == 5


def test_a_connection_that_closes_is_made_anew_for_the_next_mail() -> None:
    with FakeDaemon(serves([], lambda _: answer(1.0), most=1)) as daemon:
        spec = replace(SPEC, address=daemon.address)
        scanning = Scanning([spec])
        assert [scan(spec, scanning=scanning).error for _ in range(3)] == ["", "", ""]
        assert daemon.connections == 3


def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew_once() -> None:
    with FakeDaemon(serves([], lambda _: answer(1.0, "keep-alive"), most=1)) as daemon:
        spec = replace(SPEC, address=daemon.address)
        scanning = Scanning([spec])
        assert [scan(spec, scanning=scanning).error for _ in range(3)] == ["", "", ""]
        assert daemon.connections == 3


def test_a_new_connection_that_closes_without_a_word_is_a_failure() -> None:
    with FakeDaemon(serves([], lambda _: answer(1.0, "keep-alive"), most=1), says(b"")) as daemon:
        spec = replace(SPEC, address=daemon.address)
        scanning = Scanning([spec])
        assert scan(spec, scanning=scanning).error == ""
        assert scan(spec, scanning=scanning).error == "no response"
        assert daemon.connections == 2


def test_an_answer_before_the_whole_mail_was_taken_ends_the_connection() -> None:
    def hasty(connection: socket.socket) -> None:
        connection.recv(1000)
        connection.sendall(answer(1.0, "keep-alive"))
        until_closed(connection)

    with FakeDaemon(hasty, serves([], lambda _: answer(2.0))) as daemon:
        spec = replace(SPEC, address=daemon.address)
        scanning = Scanning([spec])
        assert scan(spec, MAIL + b"x" * 30_000_000, scanning).score == 1.0
        assert scan(spec, scanning=scanning).score == 2.0


# --- failures


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (b"", "no response"),
        (b"HTTP/1.1 500 invalid command\r\nContent-Length: 0\r\n\r\n", "status 500: invalid command"),
        (b"SPAMD/1.0 0 OK\r\n\r\n", "not HTTP: SPAMD/1.0 0 OK"),
        (answer(1.0)[:-1], "connection closed before the end of the response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answer without a score: {}"),
    ],
)
def test_anything_but_a_score_is_a_failure_and_no_score(said: bytes, error: str) -> None:
    with FakeDaemon(says(said)) as daemon:
        found = scan(replace(SPEC, address=daemon.address, on_failure=OnFailure.UNCHECKED))
    assert found == SpamScan("rspamd", error=error, on_failure=OnFailure.UNCHECKED)


def test_a_silent_rspamd_is_a_failure() -> None:
    with FakeDaemon(silence) as daemon:
        assert scan(replace(SPEC, address=daemon.address), seconds=0.2).error == "no answer in time"


def test_no_rspamd_is_a_failure() -> None:
    found = scan(replace(SPEC, address="/nowhere/rspamd.sock"))
    assert found.error == "can't connect to /nowhere/rspamd.sock: No such file or directory"

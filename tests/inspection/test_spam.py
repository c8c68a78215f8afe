"""spamd asked of a mail: what it gets, for whose preferences, and what its answers and failures become."""

from __future__ import annotations

import re
import socket
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.inspection.spam import groups
from amavispy.inspection.spam_input import HEADER_LIMIT, with_pseudo_header
from amavispy.inspection.workload import Mail, SpamTask
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, SpamScan
from amavispy.policy.settings import ScannerSpec
from tests.inspection.fake_daemons import Behaviour, FakeDaemon, says, silence, spamd_response, until_closed

ENVELOPE = Envelope("a@example.org", tuple(Recipient(f"{name}@example.net") for name in "bcd"))
MAIL = b"Received: x\r\nSubject: y\r\n\r\nhello\r\n"
SPEC = ScannerSpec("spamd", "spamd", "127.0.0.1:783", timeout=10)
BODY_LIMIT = SpamTask().body_limit


def scan(spec: ScannerSpec, mail: bytes = MAIL, task: SpamTask | None = None, seconds: float = 10) -> list[SpamScan]:
    found = Scanning([spec]).scan(
        Content(mail), (), ENVELOPE, (), (spec,), Deadline.after(seconds), spam_task=task or SpamTask()
    )
    return list(found[1])


def whole_request(connection: socket.socket) -> bytes:
    octets = b""
    while not (head := re.search(rb"Content-length: (\d+)\r\n(?:.*\r\n)*?\r\n", octets)) or (
        len(octets) < head.end() + int(head[1])
    ):
        octets += connection.recv(65_536)
    return octets


def records(seen: list[bytes], answer: Callable[[bytes], bytes]) -> Behaviour:
    def behaviour(connection: socket.socket) -> None:
        seen.append(whole_request(connection))
        connection.sendall(answer(seen[-1]))

    return behaviour


# --- what it gets


def given(
    mail: bytes = MAIL, envelope: Envelope = ENVELOPE, task: SpamTask | None = None, **spec: object
) -> list[bytes]:
    return with_pseudo_header(Mail(Content(mail), (), envelope, task or SpamTask()), replace(SPEC, **spec))  # type: ignore[arg-type]


def test_it_gets_pseudo_header_and_mail() -> None:
    seen: list[bytes] = []
    with FakeDaemon(records(seen, lambda _: spamd_response(0.0))) as daemon:
        assert scan(replace(SPEC, address=daemon.address)) == [SpamScan("spamd", 0.0)]
    head, _, mail = seen[0].partition(b"\r\n\r\n")
    assert mail == (
        b"Return-Path: <a@example.org>\r\n"
        b"X-Envelope-To: <b@example.net>,\r\n\t<c@example.net>,\r\n\t<d@example.net>\r\n"
        b"X-Amavis-MessageSize: 34\r\n" + MAIL
    )
    assert head == b"REPORT SPAMC/1.5\r\nContent-length: %d" % len(mail)


def test_a_compressed_request_is_the_same_mail() -> None:
    seen: list[bytes] = []

    def to_the_end(connection: socket.socket) -> None:
        seen.append(until_closed(connection))  # a real spamd inflates nothing before the end of the stream
        connection.sendall(spamd_response(2.5))

    with FakeDaemon(to_the_end) as daemon:
        (found,) = scan(replace(SPEC, address=daemon.address, compress=True, user="ann"))
    assert found.score == 2.5
    head, _, body = seen[0].partition(b"\r\n\r\n")
    assert head == b"REPORT SPAMC/1.5\r\nContent-length: %d\r\nUser: ann\r\nCompress: zlib" % len(body)
    assert zlib.decompress(body) == b"".join(given())


def test_policy_banks_stand_in_the_pseudo_header() -> None:
    assert b"\r\nX-Amavis-PolicyBank: A/B?\r\nX-Amavis-MessageSize" in given(task=SpamTask(bank="A/B\n"))[0]


def test_addresses_cannot_add_fields_to_the_pseudo_header() -> None:
    pseudo = given(envelope=Envelope("a\r\nX: y@b", (Recipient("c\nd@e"), Recipient("f@g"))))[0]
    assert pseudo.startswith(b"Return-Path: <a??X: y@b>\r\nX-Envelope-To: <c?d@e>,\r\n\t<f@g>\r\n")


def test_a_large_mail_is_cut_and_says_so() -> None:
    mail = b"A: b\r\n" * 20_000 + b"\r\n" + b"x" * 1_000_000
    pseudo, cut, end = given(mail)
    assert cut == mail[: HEADER_LIMIT + BODY_LIMIT]
    assert b"X-Amavis-MessageSize: %d, TRUNCATED to %d\r\n" % (len(mail), len(cut)) in pseudo
    assert end == b"\r\n"


@pytest.mark.parametrize(
    ("global_limit", "own_limit", "body"),
    [
        (BODY_LIMIT, None, BODY_LIMIT),
        (10_000, None, 10_000),
        (10_000, 20_000, 20_000),
        (10_000, 0, 1_000_000),
        (0, None, 1_000_000),
        (0, 1, 1),
        (1_000_000 - 4000, None, 1_000_000),
    ],
)
def test_the_bodys_limit_is_the_scanners_own_or_the_banks(global_limit: int, own_limit: int | None, body: int) -> None:
    mail = b"A: b\r\n\r\n" + b"x" * 1_000_000
    cut = given(mail, task=SpamTask(body_limit=global_limit), mail_body_size_limit=own_limit)[1]
    assert len(cut) == 8 + body


# --- for whom


@pytest.mark.parametrize(
    ("users", "otherwise", "expected"),
    [
        ((), "", [("", None)]),
        ((), "site", [("site", None)]),
        (("", ""), "site", [("site", None)]),
        (("ann", None, "ann"), "", [("ann", None)]),
        (("ann", "bob", "ann"), "", [("ann", (0, 2)), ("bob", (1,))]),
        (("ann", "", None), "site", [("ann", (0,)), ("site", (1,))]),
        ((None, "site", ""), "site", [("site", None)]),
    ],
)
def test_recipients_are_grouped_by_user(
    users: tuple[str | None, ...], otherwise: str, expected: list[tuple[str, tuple[int, ...] | None]]
) -> None:
    assert groups(users, otherwise) == expected


def by_user(request: bytes) -> bytes:
    return spamd_response(9.0 if b"User: bob" in request else 1.0)


def test_each_user_is_asked_for_once() -> None:
    seen: list[bytes] = []
    with FakeDaemon(records(seen, by_user)) as daemon:
        found = scan(replace(SPEC, address=daemon.address), task=SpamTask(("ann", "bob", "ann")))
        assert daemon.connections == 2
    assert [(s.score, s.recipients) for s in found] == [(1.0, (0, 2)), (9.0, (1,))]
    assert len({request.partition(b"\r\n\r\n")[2] for request in seen}) == 1


def test_users_are_asked_for_side_by_side() -> None:
    """A daemon that answers nobody before three users have asked."""
    together = threading.Barrier(3, timeout=10)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener.accept()[0] as connection:
            request = whole_request(connection)
            together.wait()
            connection.sendall(by_user(request))

    threads = [threading.Thread(target=serve) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        spec = replace(SPEC, address=f"127.0.0.1:{listener.getsockname()[1]}")
        found = scan(spec, task=SpamTask(("ann", "bob", "cid")))
    finally:
        for thread in threads:
            thread.join(20)
        listener.close()
    assert [s.score for s in found] == [1.0, 9.0, 1.0]


def test_many_users_are_asked_for_a_few_at_a_time() -> None:
    users = tuple(f"u{number}" for number in range(30))
    seen: list[bytes] = []
    with FakeDaemon(records(seen, by_user)) as daemon:
        found = scan(replace(SPEC, address=daemon.address), task=SpamTask(users))
        assert daemon.connections == 30
    assert [s.recipients for s in found] == [(number,) for number in range(30)]
    assert not any(s.error for s in found)


def test_a_user_who_gets_no_answer_is_an_error_for_him_alone() -> None:
    def moody(connection: socket.socket) -> None:
        if b"User: bob" in whole_request(connection):
            until_closed(connection)
        else:
            connection.sendall(spamd_response(1.0))

    with FakeDaemon(moody) as daemon:
        found = scan(replace(SPEC, address=daemon.address, timeout=0.3), task=SpamTask(("ann", "bob", "cid")))
    assert (found[0].error, found[0].score) == ("", 1.0)
    assert (found[1].error, found[1].score, found[1].recipients) == ("no answer in time", None, (1,))


def test_users_who_could_not_be_asked_for_in_time_are_errors() -> None:
    with FakeDaemon(silence) as daemon:
        spec = replace(SPEC, address=daemon.address, timeout=0.2)
        found = scan(spec, task=SpamTask(tuple(f"u{number}" for number in range(20))))
    assert {s.error for s in found} == {"no answer in time"}
    assert len(found) == 20


def test_a_daemon_that_is_not_there_is_an_error_for_every_user() -> None:
    found = scan(replace(SPEC, address="127.0.0.1:1"), task=SpamTask(("ann", "bob")))
    assert [s.error for s in found] == ["can't connect to 127.0.0.1:1: Connection refused"] * 2


# --- what its answer becomes


def test_scores_are_multiplied_by_the_scanners_factor() -> None:
    report = "---- ---------------------- ----------\n 0.6 MISSING_MID  x\n 3.0 BAYES_99  y\n"
    with FakeDaemon(says(spamd_response(3.6, report))) as daemon:
        (found,) = scan(replace(SPEC, address=daemon.address, score_factor=0.5))
    assert found.score == pytest.approx(1.8)
    assert dict(found.tests) == {"MISSING_MID": pytest.approx(0.3), "BAYES_99": pytest.approx(1.5)}


@pytest.mark.parametrize(
    "answer", [b"", b"SPAMD/1.0 76 Bad\r\n", spamd_response(1.0, "report")[:-1], b"HTTP/1.1 200\r\n"]
)
def test_anything_but_a_score_is_a_failure_and_no_score(answer: bytes) -> None:
    with FakeDaemon(says(answer)) as daemon:
        (found,) = scan(replace(SPEC, address=daemon.address, on_failure=OnFailure.UNCHECKED))
    assert found.error
    assert (found.score, found.on_failure) == (None, OnFailure.UNCHECKED)


def test_spamd_is_closed_after_each_mail() -> None:
    closed = []

    def record(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(spamd_response(0.0))
        closed.append(until_closed(connection))

    with FakeDaemon(record) as daemon:
        scan(replace(SPEC, address=daemon.address))
    assert closed == [b""]

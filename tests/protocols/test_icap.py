"""ICAP (RFC 3507): what is sent around a sample, and what a server's answer means."""

from __future__ import annotations

import pytest

from amavispy.mail.verdict import Unchecked
from amavispy.protocols.icap import IcapService, IcapSession
from amavispy.protocols.scanner_talk import Answer, Sample, ScannerError

OPTIONS = (
    b'ICAP/1.0 200 OK\r\nMethods: RESPMOD, REQMOD\r\nService: FOO Tech Server 1.0\r\nISTag: "W3E4R7U9-L2E4-2"\r\n'
    b"Encapsulated: null-body=0\r\nMax-Connections: 1000\r\nOptions-TTL: 7200\r\nAllow: 204\r\nPreview: 8\r\n"
    b"Transfer-Complete: asp, bat, exe, com\r\n\r\n"
)
NO_PREVIEW = OPTIONS.replace(b"Preview: 8\r\n", b"")
SERVICE = IcapService("icap.example.net:1344", "avscan")
BODY = b"0123456789abcdef"


def sent(session: IcapSession) -> bytes:
    return b"".join(session.take_output())


def asked(
    sample: Sample | None = None, options: bytes = OPTIONS, service: IcapService = SERVICE
) -> tuple[IcapSession, bytes]:
    """A session that has been told its options, and what it sent of the sample."""
    session = IcapSession(service)
    session.ask(sample or Sample(3, BODY))
    session.take_output()
    assert session.receive(options) == []
    return session, sent(session)


def test_the_options_are_asked_first() -> None:
    session = IcapSession(SERVICE)
    session.ask(Sample(3, BODY))
    assert sent(session) == (
        b"OPTIONS icap://icap.example.net:1344/avscan ICAP/1.0\r\nHost: icap.example.net:1344\r\n"
        b"User-Agent: amavispy\r\nEncapsulated: null-body=0\r\n\r\n"
    )


def test_a_sample_goes_as_the_body_of_a_response_and_begins_with_its_preview() -> None:
    _, request = asked()
    head, _, rest = request.partition(b"\r\n\r\n")
    assert head.split(b"\r\n") == [
        b"RESPMOD icap://icap.example.net:1344/avscan ICAP/1.0",
        b"Host: icap.example.net:1344",
        b"User-Agent: amavispy",
        b"Allow: 204",
        b"Encapsulated: req-hdr=0, res-hdr=42, res-body=121",
        b"Preview: 8",
    ]
    assert rest[:42] == b"GET /p003 HTTP/1.1\r\nHost: mail.invalid\r\n\r\n"
    assert rest[42:121] == (b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: 16\r\n\r\n")
    assert rest[121:] == b"8\r\n01234567\r\n0\r\n\r\n"


def test_a_server_that_goes_on_gets_the_rest() -> None:
    session, _ = asked()
    assert session.receive(b"ICAP/1.0 100 Continue\r\n\r\n") == []
    assert sent(session) == b"8\r\n89abcdef\r\n0\r\n\r\n"
    assert session.receive(b'ICAP/1.0 204 No Content\r\nISTag: "W3E4R7U9-L2E4-2"\r\n\r\n') == [Answer(3)]
    assert session.takes_more


@pytest.mark.parametrize("size", [0, 5, 8])
def test_a_sample_within_the_preview_says_that_it_is_all(size: int) -> None:
    _, request = asked(Sample(3, BODY[:size]))
    body = b"%x\r\n%b\r\n" % (size, BODY[:size]) if size else b""
    assert request.endswith(b"\r\n\r\n" + body + b"0; ieof\r\n\r\n")


def test_without_preview_everything_goes_at_once() -> None:
    _, request = asked(options=NO_PREVIEW)
    assert b"Preview" not in request
    assert request.endswith(b"10\r\n" + BODY + b"\r\n0\r\n\r\n")


def test_a_sample_may_go_as_the_body_of_a_request() -> None:
    _, request = asked(service=IcapService("[::1]:1344", "srv", "REQMOD"))
    assert request.startswith(b"REQMOD icap://[::1]:1344/srv ICAP/1.0\r\n")
    http = request.partition(b"\r\n\r\n")[2]
    start = http.index(b"\r\n\r\n") + 4
    assert b"Encapsulated: req-hdr=0, req-body=%d\r\n" % start in request
    assert http.startswith(b"POST /p003 HTTP/1.1\r\n")


# From RFC 3507 4.8.2 and 4.9.2, and what servers in use add.
PAGE = b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\n\r\n"
SAME = b"HTTP/1.1 200 OK\r\nVia: 1.0 icap.example.org\r\n\r\n"


def answer(head: bytes, http: bytes = b"", body: bytes | None = None) -> bytes:
    kind = b"null" if body is None else b"res"
    section = b"Encapsulated: res-hdr=0, %b-body=%d\r\n" % (kind, len(http)) if http else b""
    chunked = b"" if body is None else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head + section + b"\r\n" + http + chunked


RESPONSES = [
    (b"ICAP/1.0 204 Unmodified\r\nEncapsulated: null-body=0\r\n\r\n", [Answer(3)]),
    (answer(b"ICAP/1.0 200 OK\r\n", SAME, BODY), [Answer(3)]),
    (answer(b"ICAP/1.0 200 OK\r\n", SAME, BODY[:-1]), [Answer(3, name="unknown")]),
    (answer(b"ICAP/1.0 200 OK\r\n", SAME, BODY + b"x"), [Answer(3, name="unknown")]),
    (answer(b"ICAP/1.0 200 OK\r\n", SAME, b"The file was removed."), [Answer(3, name="unknown")]),
    (answer(b"ICAP/1.0 200 OK\r\n", PAGE, BODY), [Answer(3, name="unknown")]),
    (answer(b"ICAP/1.0 200 OK\r\n", PAGE), [Answer(3, name="unknown")]),
    (b"ICAP/1.0 200 OK\r\n\r\n", [Answer(3, name="unknown")]),
    (
        answer(b"ICAP/1.0 200 OK\r\nX-Infection-Found: Type=0; Resolution=2; Threat=EICAR;\r\n", PAGE, b"no"),
        [Answer(3, name="EICAR")],
    ),
    (answer(b"ICAP/1.0 200 OK\r\nX-Virus-ID: Troj/A\r\n", PAGE, b"no"), [Answer(3, name="Troj/A")]),
    (b"ICAP/1.0 204 No Content\r\nX-Infection-Found: Type=0; Threat=A;\r\n\r\n", [Answer(3, name="A")]),
    (
        answer(
            b"ICAP/1.0 200 OK\r\nX-Violations-Found: 2\r\n\tp003\r\n\tWorm.A\r\n\t11\r\n\t0\r\n"
            b"\tp003/x\r\n\tWorm.B\r\n\t12\r\n\t0\r\n",
            PAGE,
            b"no",
        ),
        [Answer(3, name="Worm.A"), Answer(3, name="Worm.B")],
    ),
    (answer(b"ICAP/1.0 200 OK\r\nX-Infection-Found: yes\r\n", PAGE, b"no"), [Answer(3, name="unknown")]),
    (
        answer(
            b"ICAP/1.0 200 OK\r\nX-Infection-Found: Type=2; Resolution=2; Threat=Encrypted container violation;\r\n"
        ),
        [Answer(3, unchecked=Unchecked(1, "Type=2; Resolution=2; Threat=Encrypted container violation;"))],
    ),
    (b"ICAP/1.0 500 Server error\r\n\r\n", [Answer(3, error="500 Server error")]),
    (b"ICAP/1.0 404 ICAP Service not found\r\n\r\n", [Answer(3, error="404 ICAP Service not found")]),
    (b"ICAP/1.0 100 Continue\r\n\r\n", [Answer(3, error="100 Continue")]),  # nothing is left to be sent
]


@pytest.mark.parametrize(("octets", "expected"), RESPONSES, ids=range(len(RESPONSES)))
def test_a_response_is_read_whole_and_octet_by_octet(octets: bytes, expected: list[Answer]) -> None:
    whole, single = asked(options=NO_PREVIEW)[0], asked(options=NO_PREVIEW)[0]
    assert whole.receive(octets) == expected
    assert [a for i in range(len(octets)) for a in single.receive(octets[i : i + 1])] == expected
    assert whole.takes_more
    assert single.takes_more


def test_a_body_that_comes_back_in_many_chunks_with_extensions_and_trailers_is_still_the_same() -> None:
    chunks = b"".join(b"%x;a=b\r\n%b\r\n" % (3, BODY[at : at + 3]) for at in range(0, 15, 3)) + b"1\r\nf\r\n"
    head = b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=%d\r\n\r\n" % len(SAME)
    session, _ = asked(options=NO_PREVIEW)
    assert session.receive(head + SAME + chunks + b"0\r\nX-Sum: 1\r\n\r\n") == [Answer(3)]


def test_a_changed_istag_makes_the_options_be_asked_again() -> None:
    session, _ = asked()
    session.receive(b'ICAP/1.0 204 No Content\r\nISTag: "another"\r\n\r\n')
    session.ask(Sample(4, BODY))
    assert sent(session).startswith(b"OPTIONS ")


def test_the_options_live_as_long_as_the_server_says() -> None:
    assert asked()[0].lifetime == 7200
    assert asked(options=OPTIONS.replace(b"Options-TTL: 7200\r\n", b""))[0].lifetime == 0


def test_a_server_that_closes_after_its_answer_serves_nothing_more() -> None:
    session, _ = asked()
    assert session.receive(b"ICAP/1.0 204 No Content\r\nConnection: close\r\n\r\n") == [Answer(3)]
    assert session.is_spent


@pytest.mark.parametrize(
    "options",
    [
        b"",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"ICAP/1.0 404 Not Found\r\n\r\n",
        OPTIONS.replace(b"RESPMOD, REQMOD", b"REQMOD"),
        b"x" * 70_000,
    ],
)
def test_a_service_that_cannot_do_it_is_an_error(options: bytes) -> None:
    session = IcapSession(SERVICE)
    session.ask(Sample(3, BODY))
    with pytest.raises(ScannerError):
        session.receive(options)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\nnonsense\r\n",
        b"ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\n2\r\nabc\r\n",
        b"ICAP/1.0 200 OK\r\nEncapsulated: res-hdr=0, res-body=9999999\r\n\r\n",
        b"ICAP/1.0 200 OK\r\nEncapsulated: res-body=0\r\n\r\n" + b"1" * 70_000,
        b"ICAP/1.0 204 No Content\r\n\r\nICAP/1.0 204 No Content\r\n\r\n",
    ],
    ids=range(7),
)
def test_what_is_no_response_is_an_error(octets: bytes) -> None:
    session, _ = asked(options=NO_PREVIEW)
    with pytest.raises(ScannerError):
        session.receive(octets)

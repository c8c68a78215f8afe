"""HTTP responses, read whole and octet by octet: the same value, or the same refusal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.protocols.http_response import HttpError, HttpReader, HttpResponse

LIMIT = 1000
OK = b"HTTP/1.1 200 OK\r\n"


def read(octets: bytes, *, step: int = 0, closes: bool = False) -> HttpResponse | None:
    reader = HttpReader(LIMIT)
    for start in range(0, len(octets), step or len(octets) or 1):
        reader.receive(octets[start : start + (step or len(octets))])
    if closes and not reader.response:
        reader.receive(b"")
    return reader.response


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("step", [0, 1, 3])
@pytest.mark.parametrize(
    ("octets", "closes", "body", "is_reusable"),
    [
        (OK + b"Content-Length: 2\r\n\r\n{}", False, b"{}", True),
        (OK + b"content-length:2\r\nConnection: close\r\n\r\n{}", False, b"{}", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", False, b"{}", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: Keep-Alive\r\n\r\n{}", False, b"{}", True),
        (OK + b"Content-Length: 0\r\n\r\n", False, b"", True),
        (OK + b"\r\nto the end", True, b"to the end", False),
        (b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\n{}", False, b"{}", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 2\r\n\r\n{}", False, b"{}", True),
        (CHUNKED + b"1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n", False, b"{}", True),
        (CHUNKED + b"A\r\n0123456789\r\n0\r\nX: y\r\nZ: a\r\n\r\n", False, b"0123456789", True),
        (CHUNKED + b"0\r\n\r\n", False, b"", True),
        (b"HTTP/1.1 204 Nothing\r\n\r\n", False, b"", True),
    ],
)  # fmt: skip
def test_a_response_ends_where_it_says(octets: bytes, closes: bool, body: bytes, is_reusable: bool, step: int) -> None:
    response = read(octets, step=step, closes=closes)
    assert response
    assert (response.body, response.is_reusable) == (body, is_reusable)
    assert response.status in (200, 204)


def test_a_connection_with_something_behind_the_response_is_not_used_again() -> None:
    response = read(OK + b"Content-Length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\n")
    assert response
    assert not response.is_reusable


def test_the_status_and_its_reason_are_told() -> None:
    response = read(b"HTTP/1.1 503 Too\x1b[31m busy\r\nContent-Length: 0\r\n\r\n")
    assert response
    assert (response.status, response.reason) == (503, "Too?[31m busy")


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "no response"),
        (b"SPAMD/1.1 0 EX_OK\r\n\r\n", "not HTTP: SPAMD/1.1 0 EX_OK"),
        (b"HTTP/2 200\r\n\r\n", "not HTTP"),
        (OK + b"Content-Length: 2\r\n\r\n{", "connection closed before the end"),
        (OK + b"Content-Length: 2\r\n", "connection closed before the end"),
        (OK + b"Content-Length: 1001\r\n\r\n", "improper length: 1001"),
        (OK + b"Content-Length: -1\r\n\r\n", "improper length"),
        (OK + b"Content-Length: 2, 2\r\n\r\n{}", "improper length"),
        (OK + b"\r\n" + b"x" * 1001, "more than 1000 octets"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 40_000, "endless response header"),
        (CHUNKED + b"xyz\r\n", "chunk of improper length"),
        (CHUNKED + b"2\r\n{}}", "chunk without an end|connection closed"),
        (CHUNKED + b"2\r\n{}\n\r0\r\n\r\n", "chunk without an end"),
        (CHUNKED + b"3e9\r\n", "more than 1000 octets"),
        (CHUNKED + b"0" * 2000, "endless chunk header"),
        (CHUNKED + b"0\r\n" + b"x" * 40_000, "endless trailer"),
        (CHUNKED + b"1\r\n{\r\n", "connection closed"),
    ],
)
def test_what_is_no_response_is_refused(octets: bytes, message: str, step: int) -> None:
    with pytest.raises(HttpError, match=message):
        read(octets, step=step, closes=True)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_whatever_comes_is_a_response_or_an_error(noise: bytes, step: int) -> None:
    for octets in (noise, OK + noise, CHUNKED + noise):
        try:
            assert read(octets, step=step, closes=True)
        except HttpError:
            pass

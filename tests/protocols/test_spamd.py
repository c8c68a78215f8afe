"""The SPAMC/SPAMD dialogue: the request, and what spamd's responses mean."""

from __future__ import annotations

import pytest

from amavispy.protocols.spamd import Response, ResponseReader, SpamdError, request_head

REPORT = """Spam detection software, running on the system "host",
has NOT identified this incoming email as spam.

Content preview:  hello
  pts rule name              description
 ---- ---------------------- -----------------
 9.9 FORGED_BY_SENDER        a preview may look like a table

Content analysis details:   (3.2 points, 5.0 required)

 pts rule name              description
---- ---------------------- --------------------------------------------------
 0.6 MISSING_MID            Missing Message-Id: header
1000 GTUBE                  BODY: Generic Test for Unsolicited Bulk Email
-1.9 BAYES_00               BODY: Bayes spam probability is 0 to 1%
                            [score: 0.0000]
 0.0 T_X                    No description available.

"""
TESTS = (("MISSING_MID", 0.6), ("GTUBE", 1000.0), ("BAYES_00", -1.9), ("T_X", 0.0))


def response(report: str = REPORT, spam: str = "False ; 3.2 / 5.0", status: str = "0 EX_OK") -> bytes:
    body = report.encode()
    return f"SPAMD/1.1 {status}\r\nContent-length: {len(body)}\r\nSpam: {spam}\r\n\r\n".encode() + body


def test_the_request_says_how_long_the_message_is() -> None:
    assert request_head(17) == b"REPORT SPAMC/1.5\r\nContent-length: 17\r\n\r\n"


def test_a_response_is_read_whole_and_octet_by_octet() -> None:
    whole, single = ResponseReader(), ResponseReader()
    whole.receive(response())
    for octet in response():
        assert single.response is None
        single.receive(bytes([octet]))
    assert whole.response == single.response == Response(3.2, TESTS, REPORT.strip())


def test_a_report_without_table_still_has_a_score() -> None:
    reader = ResponseReader()
    reader.receive(response("short and sweet", spam="True ; 1009.0 / 5.0"))
    assert reader.response == Response(1009.0, (), "short and sweet")


def test_a_table_in_the_preview_alone_names_no_test_of_ours() -> None:
    report = REPORT.replace("---- ---------------------- --------------------------------------------------", "")
    reader = ResponseReader()
    reader.receive(response(report))
    assert reader.response
    assert reader.response.tests == ()


@pytest.mark.parametrize(
    ("octets", "message"),
    [
        (b"", "no response"),
        (b"SPAMD/1.0 76 Bad header line: x\r\n", "status 76: Bad header line: x"),
        (response(status="75 EX_TEMPFAIL"), "status 75: EX_TEMPFAIL"),
        (response(spam="False ; nan / 5.0"), "without a score"),
        (response(spam=""), "without a score"),
        (response()[:-1], "before the end"),
        (b"SPAMD/1.1 0 EX_OK\r\nContent-length: 99999999\r\n\r\n", "improper length"),
        (b"SPAMD/1.1 0 EX_OK\r\nSpam: True ; 1.0 / 5.0\r\n\r\n", "improper length"),
        (b"220 mail ESMTP\r\n", "not a spamd"),
        (b"x" * 20_000, "endless"),
    ],
)
def test_a_failure_is_said_and_never_a_score(octets: bytes, message: str) -> None:
    reader = ResponseReader()
    with pytest.raises(SpamdError, match=message):
        receive_all(reader, octets)
    assert reader.response is None


def receive_all(reader: ResponseReader, octets: bytes) -> None:
    for piece in (octets, b""):
        reader.receive(piece)

"""targets - one function a reader of strangers' octets: it raises only when the reader is wrong.

A target checks what must hold for any input: no exception but the documented ones, no octet invented or lost where that
can be told, output that a next hop cannot be fooled by.
"""

from __future__ import annotations

from collections.abc import Callable

from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.inspection.header_checks import check_header
from amavispy.mail.headers import Headers
from amavispy.mail.message import Content
from amavispy.mail.reply import PeerError, Reply
from amavispy.policy.settings import Settings
from amavispy.protocols import ampdp, proxy
from amavispy.protocols.clamd import ClamdError, ClamdSession
from amavispy.protocols.events import Chunk, Data, EndOfMail, Mail, Rcpt, Signal
from amavispy.protocols.smtp_server import SmtpProfile, SmtpServer
from amavispy.protocols.spamd import ResponseReader, SpamdError

_PROFILE = SmtpProfile("[127.0.0.1]", "ready", "bye", ("PIPELINING", "CHUNKING", "8BITMIME"), size_limit=100_000)
_LIMITS = Limits(levels=14, files=300, min_expansion_quota=100_000, max_expansion_quota=2_000_000)
_HEADER_TESTS = Settings().allowed_header_tests | {"utf8"}
_decoder: list[Decoder] = []


def smtp(data: bytes) -> None:
    """The server's engine, input cut at an octet that the data choose: bodies never hold a bare line end."""
    engine = SmtpServer(_PROFILE)
    engine.greet()
    cut = data[0] if data else 0
    pieces = [data[1 : 1 + cut], data[1 + cut :], b""]
    while (event := engine.next_event()) is not Signal.CLOSED:
        if event is Signal.NEED_DATA:
            _check_replies(engine.take_output())
            engine.receive(pieces.pop(0) if pieces else b"")
        elif isinstance(event, Mail | Rcpt | Data):
            engine.accept()
        elif isinstance(event, Chunk):
            octets = event.octets
            assert octets.count(b"\n") == octets.count(b"\r\n") == octets.count(b"\r"), octets
        elif isinstance(event, EndOfMail):
            engine.answer([event.fault or Reply(250, "2.0.0", "Ok")])
    _check_replies(engine.take_output())


def _check_replies(output: bytes) -> None:
    for line in output.split(b"\r\n")[:-1]:
        assert line[:3].isdigit(), line
        assert line[3:4] in b" -", line
        assert len(line) <= 510, line
        assert not any(octet < 32 or octet == 127 for octet in line), line


def ampdp_requests(data: bytes) -> None:
    """AM.PDP requests: whole or in two pieces they read the same."""
    assert _requests([data]) == _requests([data[: len(data) // 2], data[len(data) // 2 :]])


def _requests(pieces: list[bytes]) -> list[object]:
    reader, found = ampdp.RequestReader(), []
    try:
        for piece in pieces:
            reader.receive(piece)
            while request := reader.next_request():
                envelope = ampdp.envelope_of(request)
                found.append((request.attributes, envelope))
                ampdp.mail_file_of(request, ("/var/lib/amavispy",))
    except PeerError as error:
        found.append(str(error))
    return found


def clamd(data: bytes) -> None:
    """clamd's answers: every one belongs to a request that was asked."""
    session = ClamdSession()
    asked = [session.ask_stream(10) and number for number in range(4)]
    try:
        answers = session.receive(data[: len(data) // 3]) + session.receive(data[len(data) // 3 :])
    except ClamdError:
        return
    assert len(answers) + session.outstanding == len(asked)


def spamd(data: bytes) -> None:
    """spamd's response: a score or a documented error."""
    reader = ResponseReader()
    try:
        for start in range(0, len(data), 97):
            reader.receive(data[start : start + 97])
        reader.receive(b"")
    except SpamdError:
        return


def proxy_header(data: bytes) -> None:
    """PROXY protocol: a header, more input wanted, or a broken peer."""
    try:
        parsed = proxy.read_header(data)
    except PeerError:
        return
    assert parsed is None or 0 < parsed[1] <= len(data)


def headers(data: bytes) -> None:
    """The header section: fields lie back to back, and the checks' texts hold no control characters."""
    parsed = Headers.parse(data)
    assert b"".join(field.octets for field in parsed.fields) == data[: parsed.size]
    for defect in check_header(parsed, _HEADER_TESTS, smtputf8=False):
        assert 0 <= defect.minor <= 8
        assert not any(ord(character) < 32 and character != "\t" for character in defect.text), defect


def mime(data: bytes) -> None:
    """A whole mail through the decoder: it ends, within its limits, and numbers its parts in one piece."""
    if not _decoder:
        _decoder.append(Decoder(_LIMITS))
    decoded = _decoder[0].decode(Content(data))
    numbers = [part.number for part in decoded.parts]
    assert len(numbers) == len(set(numbers))
    assert all(part.parent is None or part.parent in numbers for part in decoded.parts)
    total = sum(len(part.octets or b"") for part in decoded.parts)
    assert total <= 40 * len(data) + 8_000_000, total


def archive(data: bytes) -> None:
    """The octets as an attachment, so that what they look like decides how they are unpacked."""
    mime(b"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" + data)


TARGETS: dict[str, Callable[[bytes], None]] = {
    "smtp": smtp,
    "ampdp": ampdp_requests,
    "clamd": clamd,
    "spamd": spamd,
    "proxy": proxy_header,
    "headers": headers,
    "mime": mime,
    "archive": archive,
}

"""Mail octets behind DATA and BDAT, against a slow reading of the same rules, however the octets are torn apart."""

import itertools
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from amavispy.protocols.smtp_body import BdatStream, DataStream, MailOctets, has_bare_line_end

AWKWARD = st.lists(
    st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\r\n.", b"\r\n.\r\n", b"a", b"\0", b"x" * 80]), max_size=40
)
OCTETS = st.one_of(AWKWARD.map(b"".join), st.binary(max_size=200))
CUTS = st.lists(st.integers(0, 300), max_size=6)


def pieces(octets: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({*(cut % (len(octets) + 1) for cut in cuts), 0, len(octets)})
    return [octets[a:b] for a, b in itertools.pairwise(ends)]


def normalised(octets: bytes) -> bytes:
    return re.sub(rb"\r\n|\r|\n", lambda m: b" " if m[0] == b"\r" else b"\r\n", octets)


def slow_reading(octets: bytes) -> tuple[bytes, bytes] | None:
    """Line by line: the mail and what stands behind it, None without an end. Lines end in CRLF and nothing else."""
    lines = octets.split(b"\r\n")
    for number, line in enumerate(lines[:-1]):
        if line == b".":
            mail = b"".join(before.removeprefix(b".") + b"\r\n" for before in lines[:number])
            return normalised(mail), b"\r\n".join(lines[number + 1 :])
    return None


def read_data(octets: bytes, cuts: list[int], **settings) -> tuple[DataStream, bytes, bytes | None]:
    stream = DataStream(MailOctets(**{"rejects_bare": False, "size_limit": 0, **settings}))
    mail, behind = b"", None
    for piece in pieces(octets, cuts):
        if stream.is_complete:
            behind += piece
            continue
        content, used = stream.take(piece, 0)
        mail += content
        if stream.is_complete:
            behind = piece[used:]
    return stream, mail, behind


def read_bdat(chunks: list[bytes], cuts: list[int], **settings) -> tuple[BdatStream, bytes]:
    stream = BdatStream(MailOctets(**{"rejects_bare": False, "size_limit": 0, **settings}))
    mail = b""
    for number, chunk in enumerate(chunks, 1):
        stream.expect(len(chunk), is_last=number == len(chunks))
        for piece in pieces(chunk, cuts) or [b""]:
            content, used = stream.take(piece, 0)
            assert used == len(piece)
            mail += content
        assert stream.is_complete
    return stream, mail


@given(OCTETS, CUTS)
@example(b"\n.\r\n.\r\n", [])
@example(b".\r\r\n.\r\n", [1, 2, 3])
def test_data_is_read_as_the_slow_reading_has_it(octets: bytes, cuts: list[int]):
    stream, mail, behind = read_data(octets, cuts)
    expected = slow_reading(octets)
    assert stream.is_complete == (expected is not None)
    if expected:
        assert (mail, behind) == expected


@given(OCTETS, CUTS)
def test_nothing_that_passes_could_be_taken_for_another_line_end(octets: bytes, cuts: list[int]):
    _, mail, _ = read_data(octets + b"\r\n.\r\n", cuts)
    assert mail.count(b"\r") == mail.count(b"\n") == mail.count(b"\r\n")


@given(OCTETS, CUTS)
def test_every_mail_survives_stuffing_and_unstuffing(octets: bytes, cuts: list[int]):
    mail = normalised(octets)
    mail += b"" if not mail or mail.endswith(b"\r\n") else b"\r\n"
    stuffed = (b"\r\n" + mail).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"
    stream, received, behind = read_data(stuffed + b"QUIT\r\n", cuts)
    assert (received, behind) == (mail, b"QUIT\r\n")
    assert stream.mail.size == len(mail)


@given(st.lists(OCTETS, min_size=1, max_size=4), CUTS)
@example([b"\r", b"\n"], [])
@example([b"\r", b""], [])
def test_bdat_chunks_are_one_mail_however_they_are_cut(chunks: list[bytes], cuts: list[int]):
    stream, mail = read_bdat(chunks, cuts)
    expected = normalised(b"".join(chunks))
    assert mail == (expected if not expected or expected.endswith(b"\n") else expected + b"\r\n")
    assert stream.mail.size == len(mail)


@given(OCTETS, CUTS, st.integers(0, 60))
def test_the_same_fault_is_found_however_the_octets_come(octets: bytes, cuts: list[int], limit: int):
    octets += b"\r\n.\r\n"
    for rejects_bare in (False, True):
        whole, mail, _ = read_data(octets, [], rejects_bare=rejects_bare, size_limit=limit)
        torn, part, _ = read_data(octets, cuts, rejects_bare=rejects_bare, size_limit=limit)
        assert whole.mail.fault == torn.mail.fault
        assert whole.mail.fault or mail == part
        assert not limit or len(part) <= limit


@given(OCTETS, CUTS, st.integers(0, 60))
def test_the_same_fault_is_found_however_a_chunk_comes(octets: bytes, cuts: list[int], limit: int):
    for rejects_bare in (False, True):
        whole, mail = read_bdat([octets], [], rejects_bare=rejects_bare, size_limit=limit)
        torn, part = read_bdat(pieces(octets, cuts) or [b""], cuts, rejects_bare=rejects_bare, size_limit=limit)
        assert whole.mail.fault == torn.mail.fault
        assert whole.mail.fault or mail == part


@given(OCTETS)
def test_bare_line_ends_are_noticed(octets: bytes):
    assert has_bare_line_end(octets) == (normalised(octets) != octets)


@pytest.mark.parametrize(
    ("octets", "text"),
    [(b"a\nb\rc", "Error: bare <LF> received"), (b"a\r\r\n\n", "Error: bare <CR> received"), (b"a\r\n", "")],
)
def test_the_first_bare_line_end_is_named(octets: bytes, text: str):
    stream, mail, _ = read_data(octets + b"\r\n.\r\n", [], rejects_bare=True)
    assert (stream.mail.fault.text if stream.mail.fault else "") == text
    assert bool(mail) == (not text)


def test_a_mail_of_exactly_the_limit_is_not_too_big():
    assert read_data(b"1234\r\n.\r\n", [], size_limit=6)[0].mail.fault is None
    assert read_data(b"12345\r\n.\r\n", [], size_limit=6)[0].mail.fault is not None

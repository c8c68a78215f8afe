"""The content as DATA wants it, compared with the plainest way to do it."""

from __future__ import annotations

import mmap

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.protocols.smtp_client_content import BLOCK_SIZE, end_of_data, is_8bit, size_of


def plainly(mail: bytes) -> bytes:
    """RFC 5321 4.5.2, line by line."""
    if not mail.endswith(b"\r\n") and mail:
        mail += b"\r\n"
    lines = mail.split(b"\r\n")[:-1]
    return b"".join((b"." + line if line.startswith(b".") else line) + b"\r\n" for line in lines) + b".\r\n"


def test_a_mail_without_dots_is_passed_on_as_it_is() -> None:
    mail = b"Subject: x\r\n\r\nno dot. here\r\n"
    blocks = list(end_of_data([mail]))
    assert blocks[0] is mail
    assert blocks[1:] == [b".\r\n"]


@pytest.mark.parametrize(
    ("mail", "wire"),
    [
        (b"", b".\r\n"),
        (b".\r\n", b"..\r\n.\r\n"),
        (b"a\r\n.\r\n..\r\n", b"a\r\n..\r\n...\r\n.\r\n"),
        (b"no end", b"no end\r\n.\r\n"),
        (b".", b"..\r\n.\r\n"),
    ],
)
def test_dots_at_the_start_of_lines_are_doubled(mail: bytes, wire: bytes) -> None:
    assert b"".join(end_of_data([mail])) == wire


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b".", b"a", b".b\r\n", b"", b"\r\n."])))
def test_where_the_mail_is_cut_into_chunks_makes_no_difference(chunks: list[bytes]) -> None:
    mail = b"".join(chunks)
    views = [memoryview(chunk) for chunk in chunks]
    assert b"".join(end_of_data(chunks)) == plainly(mail) == b"".join(end_of_data(views))


def test_large_mails_come_in_blocks_whatever_they_lie_in() -> None:
    mail = b".x" * 100 + b"\r\n.y" * BLOCK_SIZE + b"\r\n"
    with mmap.mmap(-1, len(mail)) as spool:
        spool[:] = mail
        blocks = list(end_of_data([spool]))
    assert len(blocks) > 4
    assert b"".join(blocks) == plainly(mail) == b"".join(end_of_data([mail]))


def test_octets_above_127_are_found_in_any_chunk() -> None:
    with mmap.mmap(-1, 2 * BLOCK_SIZE) as spool:
        assert not is_8bit([b"plain", memoryview(b"text"), spool])
        spool[-1] = 0x80
        assert is_8bit([spool])
    assert is_8bit([b"plain", memoryview("ä".encode())])


def test_size_counts_octets_without_doubled_dots() -> None:
    assert size_of([b".\r\n", memoryview(b"abc\r\n")]) == 8

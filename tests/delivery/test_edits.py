"""Header edits on octets: what is not edited stays as it came in."""

from __future__ import annotations

import mmap
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.delivery.edits import apply
from amavispy.mail.disposition import HeaderEdits
from amavispy.mail.message import Content

HEADER = b"Received: from a\r\n\tby b; x\r\nSubject: %s\r\nX-Spam-Flag: NO\r\n folded\r\nTo: x\r\n"
BODY = b"\r\nbody\r\nSubject: no field\r\n"


def edited(octets: bytes, edits: HeaderEdits, *extra: tuple[str, str]) -> bytes:
    return b"".join(apply(Content(octets), edits, extra))


def subject(value: bytes, tag: str = "***SPAM*** ") -> bytes:
    """The subject field after tagging, and nothing else changed."""
    octets = (HEADER % value) + BODY
    result = edited(octets, HeaderEdits(subject_tag=tag))
    before, after = octets.split(b"Subject: " + value + b"\r\n", 1)
    assert result.startswith(before)
    assert result.endswith(after)
    return result[len(before) : len(result) - len(after)]


def test_without_edits_the_mail_is_the_very_object_that_came_in() -> None:
    octets = (HEADER % b"a") + BODY
    (chunk,) = apply(Content(octets), HeaderEdits())
    assert chunk is octets


def test_new_fields_stand_on_top_with_those_of_the_way_below_them() -> None:
    octets = (HEADER % b"a") + BODY
    result = edited(
        octets, HeaderEdits(prepend=(("X-A", "one\n two"), ("X-Spam-Level", ""))), ("Received", "from x\n by y")
    )
    assert result == b"X-A: one\r\n two\r\nX-Spam-Level:\r\nReceived: from x\r\n by y\r\n" + octets


def test_single_occurrences_go_where_a_scanner_says_which() -> None:
    octets = b"X-Old: 1\r\nA: b\r\nx-old: 2\r\n folded\r\nX-OLD: 3\r\n" + BODY
    assert edited(octets, HeaderEdits(remove_at=frozenset({("x-old", 2)}))) == (
        b"X-Old: 1\r\nA: b\r\nX-OLD: 3\r\n" + BODY
    )
    both = HeaderEdits(remove=frozenset({"a"}), remove_at=frozenset({("x-old", 1), ("x-old", 3), ("x-old", 9)}))
    assert edited(octets, both) == b"x-old: 2\r\n folded\r\n" + BODY


def test_a_large_mail_is_not_copied() -> None:
    with tempfile.TemporaryFile() as file:
        file.write((HEADER % b"a") + BODY)
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as octets:
            chunks = apply(Content(octets), HeaderEdits(remove=frozenset(("x-spam-flag",)), prepend=(("X-A", "b"),)))
            views = [chunk for chunk in chunks if isinstance(chunk, memoryview)]
            assert [view.obj is octets for view in views] == [True, True]
            assert b"".join(chunks) == b"X-A: b\r\n" + ((HEADER % b"a") + BODY).replace(
                b"X-Spam-Flag: NO\r\n folded\r\n", b""
            )
            for view in views:
                view.release()
            views.clear()
            chunks.clear()


def test_every_occurrence_of_a_removed_field_goes_folds_and_all() -> None:
    octets = b"x-spam-flag: a\r\n b\r\nTo: x\r\nX-SPAM-FLAG : c\r\nX-Spam-Flagged: d\r\n\r\nX-Spam-Flag: body\r\n"
    result = edited(octets, HeaderEdits(remove=frozenset(("x-spam-flag",))))
    assert result == b"To: x\r\nX-Spam-Flagged: d\r\n\r\nX-Spam-Flag: body\r\n"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"Hello", b"Subject: ***SPAM*** Hello\r\n"),
        (b"Hello\r\n folded", b"Subject: ***SPAM*** Hello\r\n folded\r\n"),
        (b"=?UTF-8?Q?Gr=C3=BC=C3=9Fe?= an", b"Subject: ***SPAM*** =?UTF-8?Q?Gr=C3=BC=C3=9Fe?= an\r\n"),
        (b"Gr\xfc\xdfe", b"Subject: ***SPAM*** Gr\xfc\xdfe\r\n"),
        (b"***SPAM*** Hello", b"Subject: ***SPAM*** Hello\r\n"),
        (b"Re: ***SPAM*** Hello", b"Subject: ***SPAM*** Re: Hello\r\n"),
        (b"***SPAM***Hello", b"Subject: ***SPAM*** ***SPAM***Hello\r\n"),
        (b"***spam*** Hello", b"Subject: ***SPAM*** ***spam*** Hello\r\n"),
        (b" Hello", b"Subject: ***SPAM***  Hello\r\n"),
        (b"", b"Subject: ***SPAM*** \r\n"),
        (b"=?UTF-8?B?broken", b"Subject: ***SPAM*** =?UTF-8?B?broken\r\n"),
        (b"=?nonsense?Q?***SPAM***_x?=", b"Subject: ***SPAM*** =?nonsense?Q?***SPAM***_x?=\r\n"),
    ],
)
def test_the_subject_is_tagged_and_an_earlier_tag_is_not_repeated(value: bytes, expected: bytes) -> None:
    assert subject(value) == expected


def test_an_earlier_tag_inside_an_encoded_word_is_found() -> None:
    assert subject(b"=?UTF-8?Q?***SPAM***_Gr=C3=BC?= x") == b"Subject: ***SPAM*** =?utf-8?b?R3LDvCB4?=\r\n"


def test_a_tag_beyond_ascii_becomes_an_encoded_word_and_is_recognised_later() -> None:
    once = subject(b"Hello", "***SP\u00c4M*** ")
    assert once == b"Subject: =?utf-8?q?***SP=C3=84M***_?= Hello\r\n"
    assert subject(once[9:-2], "***SP\u00c4M*** ") == once


def test_a_short_tag_is_never_taken_out_of_a_subject() -> None:
    assert subject(b"a! b! c", "! ") == b"Subject: ! a! b! c\r\n"


def test_all_subjects_are_tagged_as_nobody_knows_which_one_is_shown() -> None:
    result = edited(b"Subject: a\r\nsubject:b\r\n\r\n", HeaderEdits(subject_tag="[x] "))
    assert result == b"Subject: [x] a\r\nsubject: [x] b\r\n\r\n"


def test_a_missing_subject_is_added_between_our_fields_and_the_way() -> None:
    edits = HeaderEdits(prepend=(("X-A", "b"),), subject_tag="***SPAM*** ")
    assert (
        edited(b"\r\nbody\r\n", edits, ("Received", "x"))
        == b"X-A: b\r\nSubject: ***SPAM***\r\nReceived: x\r\n\r\nbody\r\n"
    )


def test_a_line_that_the_tag_would_make_too_long_is_folded() -> None:
    assert subject(b"x" * 985) == b"Subject: ***SPAM***\r\n " + b"x" * 985 + b"\r\n"


@given(st.binary(max_size=200), st.binary(max_size=60))
def test_tagging_and_removing_never_touch_the_rest(header: bytes, value: bytes) -> None:
    value = value.replace(b"\r", b"").replace(b"\n", b"")
    octets = b"A: b\r\nSubject: " + value + b"\r\nC: d\r\n\r\n" + header
    result = edited(octets, HeaderEdits(subject_tag="***SPAM*** ", remove=frozenset(("x-spam-flag",))))
    assert result.startswith(b"A: b\r\nSubject: ***SPAM***")
    assert result.endswith(b"\r\nC: d\r\n\r\n" + header)

"""Every reading of a mail: the corpus of tricks is seen through, honest mail is left alone, hostile mail is bounded."""

from __future__ import annotations

import email
import email.policy
import os
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amavispy.deadline import Deadline
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoded, Decoder
from amavispy.inspection.inspector import Inspector
from amavispy.inspection.mime import split
from amavispy.inspection.readings import readings
from amavispy.inspection.scanning import Scanning
from amavispy.mail.message import Content
from amavispy.mail.verdict import DefectKind, Verdict
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import ScannerSpec
from tests import making
from tests.corpus import build, honest
from tests.corpus.kinds import Case, pairs, singles

YARA = ScannerSpec("yara", "yara", rules=("builtin",))
BANK = making.bank(av_scanners=(YARA,), banned_filename_re=DEFAULT_BANNED_FILENAME_RE)
DECODER = Decoder(Limits())
INSPECTOR = Inspector(DECODER, Scanning([YARA]))
SINGLES = {case.kind: case for case in singles()}
CHUNKS = 12

# What all readers take for the same although it is unusual, or what only some of them know, the others showing nothing.
UNAMBIGUOUS = frozenset(
    {
        "base64 clean", "base64 without padding", "base64 with one character too many", "base64 one character a line",
        "base64 with footer", "quoted printable", "quoted printable lower case", "quoted printable soft break",
        "quoted printable false escape", "part: comment with semicolon", "part: mixed case",
        "multipart: encoding twice last counts", "multipart: encoding twice first counts",
        "multipart: folds everywhere", "multipart: comment behind", "multipart: cr between fields",
        "multipart: mixed case", "lies: inner boundary begins with outer", "lies: outer boundary begins with inner",
        "multipart: boundary without quotes", "lies: mixed", "lies: alone", "lies: nested in multiparts",
        "lies: without closing boundary", "lies: delimiter with blanks", "lies: lines end in lf", "lies: message",
        "lies: digest", "lies: partial message", "lies: external body", "lies: unknown message type",
        "lies: smime signed", "lies: smime signed in pieces", "lies: smime compressed", "uuencode in text",
        "uuencode without end", "uuencode as encoding", "uuencode in base64 text", "xxencode in text",
        "posix base64 in text", "yenc in text", "binhex in text", "utf16 text", "utf16 text without mark",
        "uuencode in utf16 text", "apple single", "apple double", "mac binary",
    }
)  # fmt: skip


def decode(octets: bytes) -> Decoded:
    return DECODER.decode(Content(octets))


def kinds(octets: bytes) -> set[DefectKind]:
    return {defect.kind for part in decode(octets).parts for defect in part.defects}


def is_ambiguous(decoded: Decoded | Verdict) -> bool:
    return any(unchecked.minor == 3 for unchecked in decoded.unchecked)


def inspected(octets: bytes) -> Verdict:
    message = making.message(octets)
    return INSPECTOR.inspect(message, BANK, recipient_policies(message.envelope, BANK.settings), Deadline.after(30))


def is_found(case: Case) -> bool:
    verdict = inspected(case.octets)
    return verdict.banned[0] is not None if case.is_name else verdict.is_infected


def missed(cases: Iterable[Case]) -> list[str]:
    return [case.kind for case in cases if not is_found(case)]


@pytest.mark.parametrize("kind", SINGLES)
def test_the_payload_is_found_behind_each_trick(kind: str):
    assert is_found(SINGLES[kind])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_the_payload_is_found_behind_every_two_tricks(chunk: int):
    assert missed(islice(pairs(), chunk, None, CHUNKS)) == []


def test_another_seed_finds_no_other_mail_that_hides_its_payload():
    assert missed(islice(pairs(seed=7), 3, None, 20)) == []


def shown_by_python(octets: bytes) -> Iterator[bytes]:
    """The decoded contents that Python's own reader shows; what it cannot decode, it shows as it stands."""
    for part in email.message_from_bytes(octets, policy=email.policy.compat32).walk():
        content = None if part.is_multipart() else part.get_payload(decode=True)
        raw = "" if content is None else part.get_payload()
        if isinstance(content, bytes) and "".join(str(raw).split()).encode() != b"".join(content.split()):
            yield content


def test_what_another_reader_shows_is_seen():
    hidden = []
    for case in (*SINGLES.values(), *islice(pairs(), 0, None, 15)):
        seen = {bytes(part.octets).rstrip() for part in decode(case.octets).parts if part.octets}
        # A multipart that it decodes as a whole is a mail of its own here.
        shown = [octets for octets in shown_by_python(case.octets) if not octets.startswith(b"--")]
        hidden += [case.kind for octets in shown if octets.rstrip() not in seen and octets.strip()]
    assert hidden == []


def test_the_payload_is_not_found_where_there_is_none():
    verdict = inspected(SINGLES["base64 clean"].octets.replace(b"WDVP", b"WDVQ"))
    assert not verdict.is_infected
    assert verdict.banned == (None,)


@pytest.mark.parametrize("kind", [kind for kind, case in SINGLES.items() if not case.is_name])
def test_mail_that_readers_take_differently_is_ambiguous_and_other_mail_is_not(kind: str):
    assert is_ambiguous(decode(SINGLES[kind].octets)) == (kind not in UNAMBIGUOUS)


def test_of_honest_mail_at_most_one_in_a_hundred_is_called_unchecked():
    mails = {**dict(honest.written()), **honest.samples()}
    assert len(mails) > 1000
    unchecked = [name for name, octets in mails.items() if decode(octets).unchecked]
    assert len(unchecked) * 100 <= len(mails), unchecked


def test_honest_mail_has_one_reading():
    more = [name for name, octets in honest.written(each=3) if len(list(readings(octets, 1500))) > 1]
    assert len(more) * 20 <= len(list(honest.written(each=3))), more


def test_what_ordinary_mailers_get_wrong_is_noted():
    noted = {kind for _, octets in honest.written(each=4) for kind in kinds(octets)}
    assert {
        DefectKind.NO_CLOSING_BOUNDARY, DefectKind.ENCODED_PARAMETER, DefectKind.SEVERAL_NAMES,
        DefectKind.DUPLICATE_TYPE, DefectKind.UNKNOWN_ENCODING, DefectKind.LOOSE_BASE64,
        DefectKind.LOOSE_QUOTED_PRINTABLE,
    } <= noted  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "defect"),
    [
        ("part: type twice last counts", DefectKind.DUPLICATE_TYPE),
        ("part: encoding twice first counts", DefectKind.DUPLICATE_ENCODING),
        ("name: disposition twice, last", DefectKind.DUPLICATE_DISPOSITION),
        ("multipart: type in quotes", DefectKind.ODD_TYPE),
        ("multipart: boundary twice last counts", DefectKind.ODD_BOUNDARY),
        ("multipart: no boundary", DefectKind.NO_BOUNDARY),
        ("lies: inner boundary begins with outer", DefectKind.PREFIX_BOUNDARY),
        ("lies: delimiter goes on", DefectKind.PREFIX_BOUNDARY),
        ("lies: same boundary inside", DefectKind.NESTED_BOUNDARY),
        ("lies: reopened inner multipart", DefectKind.REOPENED_MULTIPART),
        ("lies: in preamble", DefectKind.PART_IN_MARGIN),
        ("lies: without closing boundary", DefectKind.NO_CLOSING_BOUNDARY),
        ("part: no blank line", DefectKind.NO_BLANK_LINE),
        ("part: blank line of blanks", DefectKind.BLANK_FOLD),
        ("part: fold before colon", DefectKind.ODD_FIELD_NAME),
        ("part: comment in front", DefectKind.COMMENT_IN_FIELD),
        ("part: nul behind value", DefectKind.CONTROL_IN_FIELD),
        ("lies: delimiter behind bare cr", DefectKind.BARE_CR),
        ("name: encoded word in base64", DefectKind.ENCODED_PARAMETER),
        ("name: extended beside plain", DefectKind.CONFLICTING_NAMES),
        ("base64 with junk", DefectKind.BROKEN_BASE64),
        ("base64 without padding", DefectKind.LOOSE_BASE64),
        ("quoted printable soft break and blanks", DefectKind.BROKEN_QUOTED_PRINTABLE),
        ("quoted printable false escape", DefectKind.LOOSE_QUOTED_PRINTABLE),
        ("lies: multipart in base64", DefectKind.ENCODED_CONTAINER),
        ("lies: message in base64", DefectKind.ENCODED_CONTAINER),
        ("encoding in quotes", DefectKind.ODD_ENCODING),
        ("encoding unknown", DefectKind.UNKNOWN_ENCODING),
        ("utf16 text", DefectKind.WIDE_TEXT),
        ("lies: partial message", DefectKind.PARTIAL_MESSAGE),
        ("lies: external body", DefectKind.EXTERNAL_BODY),
    ],
)
def test_each_defect_has_a_name(kind: str, defect: DefectKind):
    assert defect in kinds(SINGLES[kind].octets)


def test_every_kind_of_defect_is_found_in_some_mail_of_the_corpus():
    found = {kind for case in SINGLES.values() for kind in kinds(case.octets)}
    found |= {kind for _, octets in honest.written(each=2) for kind in kinds(octets)}
    assert found == set(DefectKind) - {DefectKind.TOO_MANY_READINGS}


def test_a_reason_names_the_part_and_its_defect():
    unchecked = decode(SINGLES["lies: in epilogue"].octets).unchecked
    assert [(u.minor, u.text) for u in unchecked] == [(3, "ambiguous content: p002 (a part outside the boundaries)")]


def test_what_several_readers_see_alike_is_a_part_once():
    parts = decode(SINGLES["multipart: boundary twice first counts"].octets).parts
    contents = [part.octets for part in parts if part.octets]
    assert len(contents) == len(set(contents))


def test_locations_are_unique_but_for_margins():
    for case in islice(pairs(), 0, None, 40):
        parts = [p for p in decode(case.octets).parts if p.names not in (("preamble",), ("epilogue",))]
        assert len({(part.parent, part.location) for part in parts}) == len(parts), case.kind


# Hostile mail: bounded time and memory

_ODD = b"Content-Type : multipart/mixed (a; boundary=z) ; boundary=x; boundary=y; boundary*=''w\0\r\n"
HOSTILE: dict[str, Callable[[], bytes]] = {
    "deep multiparts": lambda: build.nested_multiparts(20_000),
    "deep messages": lambda: build.nested_messages(5_000),
    "a hundred thousand parts": lambda: build.many_parts(100_000),
    "a million header lines": lambda: build.header() + b"X-A: b\r\n" * 1_000_000 + b"\r\nhello\r\n",
    "a million odd header lines": lambda: build.header() + b"X A b\r\n \r\n" * 500_000 + b"\r\nhello\r\n",
    "a million Content-Type fields": lambda: build.header() + b"Content-Type: a/b\r\n" * 500_000 + b"\r\nhello\r\n",
    "all oddities at once": lambda: (
        build.header() + _ODD * 40 + b"no field\r\n \r\nX: a\rb\r\n\r\n" + b"--x\r\n" * 400_000
    ),
    "odd parts": lambda: build.multipart([_ODD + b"junk\r\n\r\n--y\r\n\r\nhello"] * 3000),
    "a very long odd value": lambda: build.mail(b"", {"Content-Type": "multipart/mixed; " + '(("' * 3_000_000}),
    "lines that begin with the boundary": lambda: build.multipart([build.plain(b"--b1x\r\n" * 1_500_000)]),
    "bare CRs before delimiters": lambda: build.multipart([build.plain(b"a\r--b1\r" * 1_000_000)]),
    "base64 of paddings": lambda: build.mail(b"=" * 10_000_000, {"Content-Transfer-Encoding": "base64"}),
    "base64 of short runs": lambda: build.mail(b"A=" * 5_000_000, {"Content-Transfer-Encoding": "base64"}),
    "base64 of junk": lambda: build.mail(b"A!" * 5_000_000, {"Content-Transfer-Encoding": "base64"}),
    "quoted-printable of signs": lambda: build.mail(
        b"= " * 5_000_000, {"Content-Transfer-Encoding": "quoted-printable"}
    ),
    "uuencode begins": lambda: build.mail(b"begin 644 a\r\n" * 500_000),
    "yEnc begins": lambda: build.mail(b"=ybegin name=a\r\n" * 400_000),
    "BinHex of runs": lambda: build.mail(b"(This file must be converted with BinHex 4.0)\r\n:" + b"*$!0" * 2_000_000),
    "encoded multiparts in each other": lambda: build.mail(
        b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\nContent-Transfer-Encoding: base64\r\n\r\n" * 10_000,
        {"Content-Type": "multipart/mixed; boundary=x"},
    ),
    "names with NULs": lambda: build.header() + b"\rmessage/rfc822\0multipart/mixed" * 30_000 + b"\r\n\r\nhello",
    "margins in margins": lambda: build.mail(
        b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n" % n for n in range(20_000)),
        {"Content-Type": "multipart/mixed; boundary=x"},
    ),
    "a CMS of open lengths": lambda: build.mail(
        b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02" + b"\xa0\x80" * 2_000_000
    ),
}  # fmt: skip


def measured(octets: bytes) -> tuple[float, int, int]:
    """Seconds of CPU, octets of memory and parts that decoding takes, in a process of its own."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            started = time.process_time()
            parts = len(decode(octets).parts)
            seconds = time.process_time() - started
            peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024
            os.write(writer, f"{seconds} {peak - before} {parts}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as answer:
        seconds_said, memory, count = answer.read().split()
    os.waitpid(child, 0)
    return float(seconds_said), int(memory), int(count)


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_mail_takes_bounded_time_and_memory(kind: str):
    seconds, memory, parts = measured(HOSTILE[kind]())
    assert seconds < 10
    assert memory < 160 << 20
    assert parts


def test_more_readings_than_are_looked_at_are_told():
    decoded = decode(HOSTILE["odd parts"]())
    assert DefectKind.TOO_MANY_READINGS in {d.kind for part in decoded.parts for d in part.defects}
    assert is_ambiguous(decoded)


def test_the_first_reading_is_that_of_the_splitter():
    octets = SINGLES["multipart: boundary twice last counts"].octets
    one, other = next(readings(octets, 100)), split(octets, 100)
    assert [(e.start, e.end, e.types) for e in one.entities] == [(e.start, e.end, e.types) for e in other.entities]


_PIECES = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"--x", b"--y", b"--xy", b"--", b"\r\n--x\r\n", b"\r\n--x--\r\n",
        b"Content-Type", b": ", b" : ", b"multipart/mixed", b"; boundary=x", b"; boundary=\"y\"", b"; boundary*0=x",
        b"(", b")", b"\"", b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: quoted-printable",
        b"Content-Disposition: a; filename*=utf-8''%41", b"message/rfc822", b"message/partial", b"begin 644 a\r\n",
        b"QUJD", b"=", b"=\r\n", b"\x30\x80\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02", b"\x00\x05\x16\x07",
    ]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(_PIECES | st.binary(max_size=4), max_size=50).map(b"".join))
def test_no_mixture_of_tricks_makes_a_reading_fail(octets: bytes):
    for structure in readings(octets, 50):
        for entity in structure.entities:
            assert 0 <= entity.start <= entity.end <= len(structure.octets)
    decode(octets)

"""How much the splitter, the header checks and the banned rules look at: it grows with the mail, not faster."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from amavispy.inspection.banned import BannedTables
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.inspection.header_checks import check_header
from amavispy.inspection.mime import split
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.headers import Headers
from amavispy.mail.message import Content
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import Settings
from tests.corpus import build


class Counted(bytes):
    """Octets that count how many of them were searched through."""

    searched = 0

    def find(self, sub, start=0, end=sys.maxsize):
        found = super().find(sub, start, end)
        self.searched += (found if found >= 0 else len(self)) - start + 1
        return found


def calls(work: Callable[[], object]) -> int:
    """How many functions, Python's and C's, `work` calls."""
    count = 0

    def note(frame: object, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


MIXED = build.header({"Content-Type": "multipart/mixed; boundary=x"}) + b"\r\n"

MAILS: dict[str, Callable[[int], bytes]] = {
    "parts": lambda n: build.many_parts(n),
    "depth": lambda n: build.nested_multiparts(n),
    "lines that look like delimiters": lambda n: MIXED + b"--x\r\n\r\n" + b"--nearly\r\n" * n,
    "parts without header ends": lambda n: MIXED + b"--x\r\nA: b\r\n" * n,
    "delimiters and nothing else": lambda n: MIXED + b"--x\r\n" * n,
    "one long line": lambda n: MIXED + b"--" + b"x" * (10 * n),
    "nested containers never closed": lambda n: (
        MIXED + b"".join(b"--x\r\nContent-Type: multipart/a; boundary=x%d\r\n\r\n--x%d\r\n" % (i, i) for i in range(n))
    ),
    "header fields": lambda n: build.header({f"Content-Type-{i}": "x" for i in range(n)}) + b"\r\n",
    "parameters": lambda n: build.mail(b"", {"Content-Type": "a/b" + "; a=b" * n}),
}


@pytest.mark.parametrize("kind", MAILS)
def test_splitting_twice_as_much_is_twice_the_work(kind: str):
    small, large = Counted(MAILS[kind](400)), Counted(MAILS[kind](1600))
    few, many = (calls(lambda m=mail: split(m, 1500)) for mail in (small, large))
    assert many <= 5 * few + 100
    assert large.searched <= 5 * small.searched + 4 * len(large)


@pytest.mark.parametrize("kind", MAILS)
def test_decoding_twice_as_much_is_twice_the_work(kind: str):
    decoder = Decoder(Limits())
    few, many = (calls(lambda n=n: decoder.decode(Content(MAILS[kind](n)))) for n in (300, 1200))
    assert many <= 6 * few + 500


@pytest.mark.parametrize(
    "line", [b"X-A: b\r\n", b"X-A: \xe9\r\n", b"\tfold\r\n", b"nonsense\r\n", b"From: x\r\n", b" \r\n"]
)
def test_checking_twice_the_header_is_twice_the_work(line: bytes):
    tests = Settings().allowed_header_tests
    headers = [Headers.parse(build.header() + line * n + b"\r\n") for n in (1000, 4000)]
    few, many = (calls(lambda h=h: check_header(h, tests)) for h in headers)
    assert many <= 5 * few + 100


def test_banned_rules_are_asked_once_a_part_however_deep_it_lies():
    settings = Settings(banned_filename_re=DEFAULT_BANNED_FILENAME_RE)
    recipients = recipient_policies(Envelope("", (Recipient("a@example.net"),)), settings)
    tables = BannedTables()
    tables.prepare(settings)
    decoder = Decoder(Limits())
    trees = [decoder.decode(Content(build.nested_multiparts(n))).parts for n in (200, 800)]
    few, many = (calls(lambda t=tree: tables.find(t, settings, recipients)) for tree in trees)
    assert many <= 5 * few

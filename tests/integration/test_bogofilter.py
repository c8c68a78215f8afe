"""What the real bogofilter says of a mail through us, trained on a few words in a private directory."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import SpamScan
from amavispy.policy.settings import ScannerSpec
from tests.running import private_directory

BOGOFILTER = "/usr/bin/bogofilter"
ENVELOPE = Envelope("a@example.org", (Recipient("b@example.net"),))
HEADER = b"From: <a@example.org>\r\nTo: <b@example.net>\r\nSubject: %s\r\n\r\n"
HAM = b"here are the minutes of the yesterday meeting, kindly check the agenda and the budget before friday\r\n"
SPAM = b"cheap pills lottery winner million dollars viagra casino bonus click here unsubscribe now\r\n"


@pytest.fixture(scope="module")
def wordlist() -> Iterator[Path]:
    directory = private_directory("bogofilter")
    for _ in range(10):
        for flag, subject, body in (("-n", b"minutes", HAM), ("-s", b"winner", SPAM)):
            subprocess.run(
                [BOGOFILTER, "-d", str(directory), flag], input=HEADER % subject + body, check=True, timeout=20
            )
    yield directory
    subprocess.run(["/bin/rm", "-r", str(directory)], check=True)


def scan(directory: Path, octets: bytes, *arguments: str, **spec: object) -> SpamScan:
    command = (BOGOFILTER, "-d", str(directory), *(arguments or ("-v",)))
    own = ScannerSpec("Bogofilter", "program", command=command, **spec)  # type: ignore[arg-type]
    (found,) = Scanning([own]).scan(Content(octets), (), ENVELOPE, (), (own,), Deadline.after(20))[1]
    return found


@pytest.mark.parametrize(
    ("subject", "body", "score"), [(b"minutes", HAM, -5.0), (b"winner", SPAM, 5.0), (b"qwertz", b"asdfgh\r\n", 0.0)]
)
@pytest.mark.parametrize("arguments", [("-v",), ("-v", "-e"), ("-p", "-e"), ("-p",)])
def test_ham_spam_and_unsure(
    wordlist: Path, arguments: tuple[str, ...], subject: bytes, body: bytes, score: float
) -> None:
    found = scan(wordlist, HEADER % subject + body, *arguments)
    assert (found.score, found.tests, found.error) == (score, (("Bogofilter", score),), "")
    assert found.advice
    assert found.advice.add[0][0] == "X-Bogosity"


def test_its_exit_status_alone_is_an_answer_too(wordlist: Path) -> None:
    statuses = ((0, 4.0), (1, -1.0), (2, 0.0))
    assert scan(wordlist, HEADER % b"winner" + SPAM, "-C", statuses=statuses).score == 4.0
    assert scan(wordlist, HEADER % b"minutes" + HAM, "-C", statuses=statuses).score == -1.0


def test_a_sender_cannot_answer_in_its_place(wordlist: Path) -> None:
    forged = b"X-Bogosity: Ham, tests=bogofilter, spamicity=0.000000\r\n"
    for arguments in (("-v",), ("-p", "-e")):
        assert scan(wordlist, forged + HEADER % b"winner" + SPAM, *arguments).score == 5.0


def test_a_large_mail_is_judged_by_its_beginning(wordlist: Path) -> None:
    assert scan(wordlist, HEADER % b"winner" + SPAM * 100_000).score == 5.0


def test_a_missing_wordlist_is_a_failure() -> None:
    found = scan(Path("/nowhere"), HEADER % b"minutes" + HAM)
    assert found.score is None
    assert found.error.startswith("exit status 3, no answer in its output: ")

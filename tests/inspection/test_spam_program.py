"""Classifier programs asked of a mail: what they read, and what they print and return becomes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection.scanning import Scanning
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import OnFailure, SpamAdvice, SpamScan
from amavispy.policy.settings import ScannerSpec

ENVELOPE = Envelope("a@example.org", (Recipient("b@example.net"),))
MAIL = b"Received: x\r\nSubject: y\r\n\r\nhello\r\nthere"
SPEC = ScannerSpec("bogo", "program", timeout=10, command=("/bin/sh", "-c", "exit 0"))


def scan(script: str, mail: bytes = MAIL, seconds: float = 10, **spec: object) -> SpamScan:
    own = replace(SPEC, **{"command": ("/bin/sh", "-c", script), **spec})  # type: ignore[arg-type]
    (found,) = Scanning([own]).scan(Content(mail), (), ENVELOPE, (), (own,), Deadline.after(seconds))[1]
    return found


def test_a_program_reads_the_mail_with_its_pseudo_header_and_unix_line_ends(tmp_path: Path) -> None:
    scan(f"cat > {tmp_path}/input")
    assert (tmp_path / "input").read_bytes() == (
        b"Return-Path: <a@example.org>\nX-Envelope-To: <b@example.net>\nX-Amavis-MessageSize: 39\n"
        b"Received: x\nSubject: y\n\nhello\nthere\n"
    )


def test_fields_that_look_like_its_own_answer_are_kept_from_it(tmp_path: Path) -> None:
    forged = b"X-Bogosity: Ham,\r\n tests=none\r\nTo: x\r\nx-dspam-result: Innocent\r\nX-CRM114-Status: GOOD ( 99 )\r\n"
    scan(f"cat > {tmp_path}/input", forged + MAIL + b"\r\nX-Bogosity: in the body\r\n")
    given = (tmp_path / "input").read_bytes()
    assert b"\nTo: x\nReceived: x\n" in given
    assert given.count(b"Bogosity") == 1
    assert b"DSPAM" not in given.upper()
    assert b"CRM114" not in given


def test_a_mail_is_cut_at_the_limit(tmp_path: Path) -> None:
    scan(f"wc -c > {tmp_path}/size", b"A: b\r\n\r\n" + b"x" * 1_000_000, mail_body_size_limit=10_000)
    assert int((tmp_path / "size").read_text()) < 10_300


@pytest.mark.parametrize(
    ("script", "score", "test"),
    [
        ("echo 'X-Bogosity: Spam, tests=bogofilter, spamicity=0.9'; exit 0", 5.0, "bogo"),
        ("echo 'X-Bogosity: Ham, tests=bogofilter, spamicity=0.1'; exit 1", -5.0, "bogo"),
        ("echo 'X-Bogosity: Unsure, tests=bogofilter, spamicity=0.5'; exit 2", 0.0, "bogo"),
        ("echo 'X-DSPAM-Result: Spam'; echo; cat", 10.0, "bogo.Spam"),
        ("echo -12.5", 1.25, "bogo.SPAM(-12.5)"),
    ],
)
def test_known_answers_are_scores(script: str, score: float, test: str) -> None:
    found = scan(script)
    assert (found.score, found.tests, found.error) == (score, ((test, score),), "")


def test_its_fields_are_meant_for_local_recipients() -> None:
    assert scan("echo 'X-Bogosity: Spam, x'").advice == SpamAdvice(add=(("X-Bogosity", "Spam, x"),), is_for_local=True)


def test_the_score_is_multiplied() -> None:
    found = scan("echo 'X-Bogosity: Spam, x'", score_factor=0.3)
    assert (found.score, found.tests) == (1.5, (("bogo", 1.5),))


@pytest.mark.parametrize(("status", "score"), [(0, 3.0), (1, -1.0), (7, 0.5)])
def test_a_program_may_answer_by_its_exit_status_alone(status: int, score: float) -> None:
    found = scan(f"cat; exit {status}", statuses=((0, 3.0), (1, -1.0), (7, 0.5)))
    assert (found.score, found.tests, found.advice) == (score, ((f"bogo.{status}", score),), None)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ("cat >/dev/null", "exit status 0, no answer in its output"),
        ("echo 'no database' >&2; exit 3", "exit status 3, no answer in its output: no database"),
        ("echo 'X-Bogosity: Ham, x'; exit 3", "exit status 3, though it gave an answer"),
        ("echo 'X-DSPAM-Result: Spam'; exit 1", "exit status 1, though it gave an answer"),
        ("echo 'X-Bogosity: Maybe, x'", "exit status 0, unknown bogosity 'Maybe'"),
        ("kill -SEGV $$", "ended by signal 11, no answer in its output"),
        ("printf 'a\\033[31m\\nb' >&2; exit 1", "exit status 1, no answer in its output: a?[31m?b"),
    ],
)
def test_anything_else_is_a_failure_and_no_score(script: str, error: str) -> None:
    assert scan(script, on_failure=OnFailure.PASS) == SpamScan("bogo", error=error, on_failure=OnFailure.PASS)


def test_an_unknown_exit_status_is_a_failure() -> None:
    assert scan("exit 9", statuses=((0, 1.0),)).error == "exit status 9, not one of its statuses"


def test_a_program_that_does_not_end_is_killed_in_time() -> None:
    assert scan("sleep 1000", seconds=0.3).error == "no answer in time"


def test_a_program_that_reads_nothing_may_still_answer() -> None:
    assert scan("echo 'X-Bogosity: Ham, x'", MAIL + b"x" * 300_000).score == -5.0


def test_a_program_that_is_not_there_is_told_at_the_start() -> None:
    with pytest.raises(ValueError, match="scanner bogo: /nowhere/bogofilter: there is no such program"):
        Scanning([replace(SPEC, command=("/nowhere/bogofilter",))])

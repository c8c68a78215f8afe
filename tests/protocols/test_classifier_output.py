"""What bogofilter, DSPAM and CRM114 print, and what amavis makes of it (specification, chapter 8.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.protocols.classifier_output import ClassifierError, judgement

DSPAM = b"""Received: x
X-DSPAM-Result: Spam
X-DSPAM-Processed: Sun Nov 22 10:00:00 2026
X-DSPAM-Confidence: 0.9899
X-DSPAM-Signature: 4e5f
Subject: hello

X-DSPAM-Result: Innocent
"""
DSPAM_SUMMARY = (
    b'X-DSPAM-Result: amavis; result="Innocent"; class="Innocent"; probability=0.0023; confidence=1.00; signature=N/A\n'
)
CRM = b"X-CRM114-Version: 20100106\nX-CRM114-CacheID: sfid-\nX-CRM114-Status: SPAM  ( -12.50 )\n\n"


@pytest.mark.parametrize(
    ("output", "score", "suffix"),
    [
        (b"X-Bogosity: Spam, tests=bogofilter, spamicity=0.999995, version=1.2.5\n", 5.0, ""),
        (b"X-Bogosity: Ham, tests=bogofilter, spamicity=0.000000, version=1.2.5\n", -5.0, ""),
        (b"X-Bogosity: Unsure, tests=bogofilter, spamicity=0.520000, version=1.2.5\n", 0.0, ""),
        (b"X-Bogosity: Yes, tests=bogofilter\n", 5.0, ""),
        (b"From: a\r\nx-bogosity :\r\n Ham, tests=bogofilter\r\n\r\nX-Bogosity: Spam\r\n", -5.0, ""),
        (b"X-Bogosity: Spam, x\nX-Bogosity: Ham, x\n", -5.0, ""),
        (DSPAM, 10.0, ".Spam"),
        (DSPAM.replace(b"Result: Spam", b"Result: Whitelisted"), -1.0, ".Whitelisted"),
        (DSPAM_SUMMARY, -1.0, ".Innocent"),
        (DSPAM_SUMMARY.replace(b"Innocent", b"Spam"), 10.0, ".Spam"),
        (CRM, 1.25, ".SPAM(-12.5)"),
        (CRM.replace(b"SPAM  ( -12.50 )", b"GOOD (  34.1 )"), -3.41, ".GOOD(34.1)"),
        (b"-10.0\n", 1.0, ".SPAM(-10)"),
        (b" 10\n", -1.0, ".GOOD(10)"),
        (b"+3.5", -0.35, ".UNSURE(3.5)"),
    ],
)
def test_known_answers_have_a_score(output: bytes, score: float, suffix: str) -> None:
    found = judgement(output)
    assert found.score == pytest.approx(score)
    assert found.suffix == suffix


def test_fields_to_be_added_are_told() -> None:
    assert judgement(DSPAM).fields == (
        ("X-DSPAM-Result", "Spam"),
        ("X-DSPAM-Processed", "Sun Nov 22 10:00:00 2026"),
        ("X-DSPAM-Confidence", "0.9899"),
        ("X-DSPAM-Signature", "4e5f"),
    )
    assert judgement(DSPAM_SUMMARY).fields == (
        ("X-DSPAM-Result", "Innocent"),
        ("X-DSPAM-Class", "Innocent"),
        ("X-DSPAM-Probability", "0.0023"),
        ("X-DSPAM-Confidence", "1.00"),
    )
    assert judgement(CRM).fields == (("X-CRM114-Version", "20100106"), ("X-CRM114-Status", "SPAM ( -12.50 )"))
    assert judgement(b"-12").fields == (("X-CRM114-Status", "SPAM ( -12 )"),)


def test_exit_statuses_of_bogofilter_are_answers() -> None:
    assert judgement(b"X-Bogosity: Ham, x\n").statuses == (1, 2)
    assert judgement(DSPAM).statuses == ()


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (b"", "no answer"),
        (b"Subject: x\n\nX-Bogosity: Spam\n", "no answer"),
        (b"\nX-Bogosity: Spam\n", "no answer"),
        (b"can't open the database", "no answer"),
        (b"X-Bogosity: Maybe, x\n", "unknown bogosity 'Maybe'"),
        (b"X-DSPAM-Result: \n", "unknown DSPAM result"),
        (b"X-DSPAM-Result: \xff\x1b[31m\n", "unknown DSPAM result"),
        (b"X-CRM114-Status: SPAM\n", "unknown CRM114 status"),
        (b"nan\n", "no answer"),
        (b"1e400\n", "no answer"),
    ],
)
def test_anything_else_is_no_answer(output: bytes, message: str) -> None:
    with pytest.raises(ClassifierError, match=message) as raised:
        judgement(output)
    assert str(raised.value).isprintable()


@given(st.binary(max_size=200))
def test_whatever_is_printed_is_an_answer_or_an_error(noise: bytes) -> None:
    for output in (noise, b"X-DSPAM-Result: " + noise, b"X-CRM114-Status: " + noise, b"X-Bogosity: Spam " + noise):
        try:
            judgement(output)
        except ClassifierError:
            pass

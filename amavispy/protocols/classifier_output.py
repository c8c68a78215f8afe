"""Classifier output - what spam classifiers print: bogofilter, DSPAM, CRM114, as header fields or a bare number.

In: the beginning of a program's output. Out: its Judgement: a score as amavis gives it to that answer, the name of its
status, and the header fields it would add. The last of several fields of a name counts, as for amavis.

Must not know how programs are run. **Failures:** ClassifierError: nothing in it that is known, or an unknown answer.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_HEAD_LIMIT = 65_536
_FIELD = re.compile(rb"(X-DSPAM[!-9;-~]*|X-CRM114[!-9;-~]*|X-Bogosity)[ \t]*:[ \t]*(.*)", re.I | re.S)
_DSPAM_PARTS = re.compile(r'(\w+)="?([^";]*)"?')
_NUMBER = re.compile(rb"\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*")
_CRM_STATUS = re.compile(r"([A-Za-z]+)\s*\(\s*([+-]?\d{1,12}(?:\.\d{1,12})?)\s*\)")
_CRM_SURE = 10.0
_CRM_FACTOR = -0.10
_BOGOSITY = {"spam": 5.0, "yes": 5.0, "ham": -5.0, "no": -5.0, "unsure": 0.0}
_DSPAM_SPAM, _DSPAM_OTHER = 10.0, -1.0
_VALUE_LIMIT = 900


class ClassifierError(Exception):
    """The output does not tell what the program thinks."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """`suffix` goes behind the scanner's name in the test's name: ".Spam", ".GOOD(12.3)". `statuses`: exit statuses
    that go with an answer, beside 0.
    """

    score: float
    suffix: str
    fields: tuple[tuple[str, str], ...] = ()
    statuses: tuple[int, ...] = ()


def judgement(output: bytes) -> Judgement:
    """What the output says."""
    fields = _fields(output)
    if "x-bogosity" in fields:
        return _bogofilter(fields)
    if "x-dspam-result" in fields:
        return _dspam(fields)
    if "x-crm114-status" in fields:
        return _crm114(fields)
    if number := _NUMBER.fullmatch(output[:200]):  # crm114 --stats_only
        return _crm_score(float(number[1]), "")
    raise ClassifierError("no answer in its output")


Fields = dict[str, tuple[str, str]]  # by lower-case name: name, value


def _fields(output: bytes) -> Fields:
    """The fields that are known, of the header section that the output begins with."""
    head = output[:_HEAD_LIMIT].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    found: Fields = {}
    for line in () if head.startswith(b"\n") else re.split(rb"\n(?![ \t])", head):
        if match := _FIELD.fullmatch(line):
            name = match[1].decode("ascii")
            value = " ".join(match[2].decode("utf-8", "replace").split())[:_VALUE_LIMIT]
            found[name.lower()] = name, value
    return found


def _bogofilter(fields: Fields) -> Judgement:
    """`X-Bogosity: Spam, tests=bogofilter, spamicity=0.99, version=1.2.5`; exit status 0 spam, 1 ham, 2 unsure."""
    status = fields["x-bogosity"][1].partition(",")[0].strip()
    score = _BOGOSITY.get(status.lower())
    if score is None:
        raise ClassifierError(f"unknown bogosity {_shown(status)}")
    return Judgement(score, "", tuple(fields.values()), (1, 2))


def _dspam(fields: Fields) -> Judgement:
    """`X-DSPAM-Result: Spam`, or all in one: `X-DSPAM-Result: user; result="Spam"; class="Spam"; ...`."""
    name, value = fields["x-dspam-result"]
    parts = dict(_DSPAM_PARTS.findall(value)) if ";" in value else {}
    if "result" in parts:
        fields = {f"x-dspam-{key}": (f"X-DSPAM-{key.capitalize()}", text) for key, text in parts.items()}
        fields["x-dspam-result"] = name, parts["result"]
    result = fields["x-dspam-result"][1]
    if not re.fullmatch(r"[A-Za-z]{1,30}", result):
        raise ClassifierError(f"unknown DSPAM result {_shown(result)}")
    kept = tuple(field for key, field in fields.items() if not (key == "x-dspam-signature" and field[1] == "N/A"))
    return Judgement(_DSPAM_SPAM if result == "Spam" else _DSPAM_OTHER, f".{result}", kept)


def _crm114(fields: Fields) -> Judgement:
    """`X-CRM114-Status: SPAM ( -12.34 )`: the number says how good, -10 and less is spam."""
    value = fields["x-crm114-status"][1]
    match = _CRM_STATUS.match(value)
    if not match:
        raise ClassifierError(f"unknown CRM114 status {_shown(value)}")
    told = _crm_score(float(match[2]), match[1])
    kept = (field for key, field in fields.items() if not (key == "x-crm114-cacheid" and field[1].lower() == "sfid-"))
    return Judgement(told.score, told.suffix, tuple(kept))


def _crm_score(number: float, status: str) -> Judgement:
    if not math.isfinite(number):
        raise ClassifierError("a score that is no number")
    status = status or ("SPAM" if number <= -_CRM_SURE else "GOOD" if number >= _CRM_SURE else "UNSURE")
    field = ("X-CRM114-Status", f"{status} ( {number:g} )")
    return Judgement(_CRM_FACTOR * number, f".{status}({number:g})", (field,))


def _shown(text: str) -> str:
    return repr(text[:60].encode("ascii", "backslashreplace").decode())

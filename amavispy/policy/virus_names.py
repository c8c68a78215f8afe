"""Virus names - what else a virus's name decides: that it is spam rather than a virus, and which policy banks apply.

A scanner whose names all have a score in `virus_name_to_spam_score_maps` has found spam: the highest of the scores
counts, and each name is told as a test `AV:name`. A name that two scanners report counts once. A scanner that reports
one name without a score has found a virus, whatever else it reports. False means "no score" in such a list.

**Failures:** none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from amavispy.mail.address import Address
from amavispy.mail.verdict import SpamScan, VirusScan
from amavispy.policy.lookup import LookupList, is_true

_log = logging.getLogger("amavispy.policy")
_LEVEL_2 = 15
_SCANNER = "AV"
_BANK = "VIRUS"


def as_spam(scans: tuple[VirusScan, ...], scores: LookupList) -> tuple[tuple[VirusScan, ...], tuple[SpamScan, ...]]:
    """The scans with those that found spam turned clean, and a SpamScan of what they found, if they did."""
    if not scores or not any(scan.is_infected for scan in scans):
        return scans, ()
    left: list[VirusScan] = []
    tests: dict[str, float] = {}
    total = 0.0
    for scan in scans:
        found = _scores(scan.names, scores) if scan.is_infected else None
        if found is None:
            left.append(scan)
            continue
        new = {name: score for name, score in found.items() if name not in tests}
        total += max(new.values(), default=0.0)
        tests.update(new)
        left.append(replace(scan, names=(), is_infected=False, parts=()))
    if not tests:
        return scans, ()
    told = tuple((f"AV:{name}", score) for name, score in tests.items())
    _log.log(_LEVEL_2, "Turning AV infection into a spam report: score=%g, %s", total, ",".join(tests))
    return tuple(left), (SpamScan(_SCANNER, total, told),)


def _scores(names: Sequence[str], scores: LookupList) -> dict[str, float] | None:
    """The score of every name, None when one has none."""
    found: dict[str, float] = {}
    for name in names:
        score = scores.find(Address.of(name))
        if score is None or score is False:
            return None
        found[name] = float(score)
    return found


def banks_of(names: Iterable[str], banks: LookupList) -> tuple[str, ...]:
    """Names of policy banks for these viruses, in order, each once."""
    if not banks:
        return ()
    return tuple(dict.fromkeys(bank for name in names for bank in banks_in(banks.find(Address.of(name)))))


def banks_in(answer: Any) -> list[str]:
    """The names in one answer: a comma list, none for a false one; True stands for the bank VIRUS."""
    if not is_true(answer):
        return []
    return [_BANK] if answer in (True, "1") else [bank.strip() for bank in str(answer).split(",") if bank.strip()]

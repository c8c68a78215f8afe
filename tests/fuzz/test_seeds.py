"""Every seed, and everything a fuzzer has ever found, goes through its target without a complaint."""

from __future__ import annotations

import pytest

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_the_seeds_of_a_target_break_nothing(target: str) -> None:
    tried = 0
    for seed in seeds(target):
        TARGETS[target](seed)
        tried += 1
    assert tried


def test_a_target_can_fail() -> None:
    """The property of SMTP bodies, on an engine that would pass a bare line end on."""
    from tests.fuzz import targets

    with pytest.raises(AssertionError):
        targets._check_replies(b"250 ok\x07\r\n")

"""Virus scanners of every type as a file writes them, what they become, and how `explain` shows them again."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from amavispy.mail.verdict import OnFailure
from amavispy.policy.explain import written
from amavispy.policy.inquiry import Inquiry
from amavispy.policy.settings import ScannerSpec
from tests.config.loading import load

SCANNERS = {
    'type = "clamd"\naddress = "/run/c.ctl"': ScannerSpec("x", "clamd", "/run/c.ctl"),
    'type = "clamd"\naddress = ["/run/c.ctl", "[::1]:3310"]': ScannerSpec(
        "x", "clamd", "/run/c.ctl", inquiry=Inquiry(fallbacks=("[::1]:3310",))
    ),
    'type = "yara"\nrules = ["builtin", "heuristics", "/etc/own"]': ScannerSpec(
        "x", "yara", rules=("builtin", "heuristics", "/etc/own")
    ),
    'type = "sssp"\naddress = "/run/s"\nsends = "paths"': ScannerSpec(
        "x", "sssp", "/run/s", inquiry=Inquiry(sends="paths")
    ),
    'type = "savapi"\naddress = "/run/s"\nproduct = "10776"': ScannerSpec(
        "x", "savapi", "/run/s", inquiry=Inquiry(product="10776")
    ),
    'type = "icap"\naddress = "192.0.2.1:1344"\nservice = "avscan?mode=simple"\nmethod = "REQMOD"': ScannerSpec(
        "x", "icap", "192.0.2.1:1344", inquiry=Inquiry(service="avscan?mode=simple", method="REQMOD")
    ),
    'type = "daemon"\naddress = "/run/d"\nquery = "SCAN {}/*\\n"\ninfected = "FOUND$"\nends = "line"': ScannerSpec(
        "x", "daemon", "/run/d", inquiry=Inquiry(query="SCAN {}/*\n", infected="FOUND$", ends="line")
    ),
    (
        'type = "command"\ncommand = ["/bin/av", "{}"]\ninfected = [1, 2]\nclean = [0]\nnames = "(.*) FOUND"\n'
        'timeout = "2m"\non_failure = "unchecked"'
    ): ScannerSpec(
        "x",
        "command",
        command=("/bin/av", "{}"),
        timeout=120.0,
        on_failure=OnFailure.UNCHECKED,
        inquiry=Inquiry(infected=(1, 2), clean=(0,), names="(.*) FOUND"),
    ),
}


@pytest.mark.parametrize("list_name", ["av_scanners", "av_scanners_backup"])
@pytest.mark.parametrize("text", SCANNERS)
def test_a_scanner_is_read_as_it_is_written(text: str, list_name: str, tmp_path: Path) -> None:
    settings = load(tmp_path, f'[[{list_name}]]\nname = "x"\n{text}\n').banks.base.settings
    assert getattr(settings, list_name) == (SCANNERS[text],)


@pytest.mark.parametrize("text", SCANNERS)
def test_explain_shows_what_could_have_been_written(text: str, tmp_path: Path) -> None:
    shown = written(SCANNERS[text])
    given = tomllib.loads(text)
    assert {key: shown[key] for key in given} == {**given, **{k: shown[k] for k in ("timeout",) if k in given}}
    assert set(shown) == {"name", "type", "timeout", "on_failure", *given}


def test_the_settings_by_virus_name_are_lookup_lists(tmp_path: Path) -> None:
    text = (
        'first_infected_stops_scan = true\nvirus_name_to_spam_score_maps = [{ "A" = 3, "B" = false }]\n'
        'virus_name_to_policy_bank_maps = [{ "A" = "VIRUS" }]\n[policy_bank.VIRUS]\n'
    )
    settings = load(tmp_path, text).banks.base.settings
    assert settings.first_infected_stops_scan
    assert written(settings.virus_name_to_spam_score_maps) == [{"A": 3.0, "B": False}]
    assert written(settings.virus_name_to_policy_bank_maps) == [{"A": "VIRUS"}]

"""Spam scanners and sender lists as files write them; the documentation's examples are sound."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from amavispy.mail.address import Address
from amavispy.mail.verdict import OnFailure
from amavispy.policy.explain import written
from amavispy.policy.settings import ScannerSpec
from tests.config.loading import load

DOCUMENT = Path(__file__).parents[2] / "docs/scanners-spam.md"
EXAMPLES: list[str] = re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.S)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_documentation_is_sound(tmp_path: Path, example: str) -> None:
    assert tomllib.loads(example)
    load(tmp_path, example)


def example_with(word: str) -> str:
    return next(example for example in EXAMPLES if word in example)


def test_programs_have_commands_and_statuses(tmp_path: Path) -> None:
    bogofilter, other = load(tmp_path, example_with("bogofilter")).banks.base.settings.spam_scanners
    assert bogofilter == ScannerSpec(
        "Bogofilter",
        "program",
        command=("/usr/bin/bogofilter", "-d", "/var/lib/amavispy/bogofilter", "-v"),
        score_factor=0.3,
    )
    assert (other.statuses, other.on_failure) == (((0, 0.0), (1, 4.5)), OnFailure.PASS)


def test_spamd_has_users_and_limits(tmp_path: Path) -> None:
    members = 'name="s", type="spamd", address="h:783", user="u", compress=true, mail_body_size_limit="1MiB"'
    text = f"spam_scanners = [{{{members}}}]"
    (spec,) = load(tmp_path, text).banks.base.settings.spam_scanners
    assert spec == ScannerSpec("s", "spamd", "h:783", user="u", compress=True, mail_body_size_limit=1 << 20)


def test_users_may_be_made_from_the_address(tmp_path: Path) -> None:
    users = load(tmp_path, example_with("sa_username_maps")).banks.base.settings.sa_username_maps
    assert users.find(Address.of("info@example.com")) == "team"
    assert users.find(Address.of("Ann@example.com")) == "Ann@example.com"
    assert users.find(Address.of("ann@example.org")) is None


def test_score_and_sender_lists_are_lists_within_lists(tmp_path: Path) -> None:
    settings = load(tmp_path, example_with("score_sender_maps")).banks.base.settings
    sender, ann = Address.of("bulk@news.example.net"), Address.of("ann@example.com")
    assert [table.find(sender) for table in settings.score_sender_maps.find_all(ann)] == [2.0, 5.0]
    own = settings.per_recip_whitelist_sender_lookup_tables.find(ann)
    assert own
    assert own.find(Address.of("friend@example.net")) is True
    assert settings.whitelist_sender_maps.find(Address.of("bulk@partner.example")) is False


def test_lists_within_lists_can_be_explained(tmp_path: Path) -> None:
    settings = load(tmp_path, example_with("score_sender_maps")).banks.base.settings
    assert json.loads(json.dumps(written(settings.score_sender_maps))) == [
        {
            ".": [{"newsletter@example.org": -3.0}, {"regexp": [["^(bulk|offers)@", 5.0]]}],
            "ann@example.com": [{".example.net": 2.0}],
        }
    ]


def test_a_bank_may_honour_other_advice(tmp_path: Path) -> None:
    text = '[policy_bank.X]\nhonoured_scanner_advice = ["greylist", "soft reject"]\n'
    banks = load(tmp_path, text).banks
    assert banks.for_names(banks.base, ["X"]).settings.honoured_scanner_advice == {"greylist", "soft reject"}
    assert "greylist" not in banks.base.settings.honoured_scanner_advice

"""Banned rules against what amavisd 2.13 logged for the same mails and rules."""

from __future__ import annotations

import re

import pytest

from amavispy.inspection.banned import BannedRules, BannedTables
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.mail.message import Content
from amavispy.mail.verdict import Banned, Part
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.settings import BannedRule
from tests.corpus import build

DECODER = Decoder(Limits())


def find(mail: bytes, *rules: BannedRule) -> Banned | None:
    return BannedRules.compiled(rules or DEFAULT_BANNED_FILENAME_RE).find(DECODER.decode(Content(mail)).parts)


def rule(pattern: str, value: str | bool = True) -> BannedRule:
    return BannedRule(pattern, value)


def leaf(*names: str, types: tuple[str, ...] = ("a/b",), attributes: str = "") -> tuple[Part, ...]:
    return (Part(1, "1", None, types, names, ("dat",), attributes, 1, b"x"),)


def test_a_program_in_a_zip_is_banned_with_its_whole_path():
    banned = find(build.exe_zip())
    assert banned
    assert banned.path == "multipart/mixed | application/zip,.zip,x.zip | .exe,.exe-ms,setup.exe"
    assert banned.attributes_path == (
        "P=p003,L=1,M=multipart/mixed | P=p002,L=1/2,M=application/zip,T=zip,N=x.zip"
        " | P=p004,L=1/2/1,T=exe,T=exe-ms,N=setup.exe"
    )
    assert banned.reason == ".exe,.exe-ms,setup.exe"
    assert banned.rule_value == "1"


def test_the_reason_begins_with_the_rules_comment_when_it_has_one():
    banned = find(build.attachment(build.PDF, "a.pdf"), rule(r"(?# my comment )^\.pdf$"))
    assert banned
    assert banned.reason == "my comment:application/octet-stream,.pdf,a.pdf"
    assert banned.rule_comment == "my comment"


def test_a_rule_without_comment_is_its_own_comment():
    banned = find(build.attachment(build.PDF, "a.pdf"), rule(r"^\.pdf$"))
    assert banned
    assert (banned.rule_key, banned.rule_comment) == (r"^\.pdf$", r"^\.pdf$")


def test_the_right_hand_side_is_kept():
    banned = find(build.double_extension(), rule("exe$", "DISCARD:sent"))
    assert banned
    assert banned.rule_value == "DISCARD:sent"


@pytest.mark.parametrize(
    "name",
    ["a.exe", "A.EXE", "invoice.pdf.exe", "x.pdf.scr.", "readme.com", "a.{3f2504e0-4f89-11d3-9a0c-0305e82c3301}"],
)
def test_the_default_rules_ban_what_windows_would_run(name: str):
    assert BannedRules.compiled(DEFAULT_BANNED_FILENAME_RE).find(leaf(name))


@pytest.mark.parametrize("name", ["exe", "notes.txt", "a.exe.txt", "report.2026.pdf", "archive.zip"])
def test_the_default_rules_let_harmless_names_pass(name: str):
    assert BannedRules.compiled(DEFAULT_BANNED_FILENAME_RE).find(leaf(name)) is None


def test_a_declared_type_is_enough():
    assert BannedRules.compiled(DEFAULT_BANNED_FILENAME_RE).find(leaf(types=("application/x-msdownload",)))


def test_a_program_without_a_name_is_banned_by_its_type():
    assert find(build.attachment(build.exe(), "notes.txt"))


def test_an_earlier_rule_that_allows_ends_the_search_for_a_part():
    rules = (rule(r"^setup\.exe$", False), rule(r"\.exe$"), rule(r"^\.exe-ms$"))
    assert find(build.exe_zip("setup.exe"), *rules) is None
    assert find(build.exe_zip("other.exe"), *rules)


def test_rules_are_tried_in_order_and_keys_within_a_rule():
    rules = (rule(r"\.exe$"), rule(r"^setup\.exe$", False))
    assert find(build.exe_zip("setup.exe"), *rules)


def test_a_rule_can_match_what_contains_the_part():
    allowed = (rule(r"^\.zip$", False), rule(r"\.exe$"))
    assert find(build.exe_zip(), *allowed) is None
    assert find(build.double_extension(), *allowed)


def test_containers_themselves_are_not_banned_by_a_leafs_exception():
    rules = (rule(r"^\.exe$", False), rule(r"^\.zip$"))
    assert find(build.exe_zip(), *rules) is None


def test_names_in_an_encrypted_archive_are_searched():
    assert find(build.encrypted_zip(), rule(r"^secret\.txt$"))
    assert find(build.encrypted_zip(), rule("^UNDECIPHERABLE$"))


def test_the_first_banned_part_in_breadth_is_reported():
    inner = b"Content-Type: multipart/mixed; boundary=b2\r\n\r\n"
    inner += build.multipart_body([build.entity(b"x", name="deep.exe")], "b2")
    banned = find(build.multipart([inner, build.entity(b"x", name="flat.exe")]))
    assert banned
    assert banned.path.endswith("flat.exe")


def test_control_characters_of_a_name_are_escaped():
    banned = BannedRules.compiled((rule("exe"),)).find(leaf("a\r\nX: y\x1b.exe"))
    assert banned
    assert banned.reason == r"a/b,.dat,a\x0D\x0AX: y\x1B.exe"


@pytest.mark.parametrize("pattern", [r"(a)\1\.exe$", r"(?P<x>a)(?P=x)\.exe$", r"(?i)AA\.exe$"])
def test_patterns_that_cannot_be_combined_still_work(pattern: str):
    rules = BannedRules.compiled((rule("^never$"), rule(pattern)))
    assert rules.find(leaf("aa.exe"))
    assert rules.find(leaf("ab.exe")) is None


def test_no_rules_ban_nothing():
    assert BannedRules.compiled(()).find(leaf("a.exe")) is None


def test_a_broken_pattern_is_told_at_once():
    with pytest.raises(re.error):
        BannedRules.compiled((rule("("),))


def test_a_table_is_compiled_once():
    tables = BannedTables()
    assert tables.prepare(DEFAULT_BANNED_FILENAME_RE) is tables.prepare(DEFAULT_BANNED_FILENAME_RE)


def test_tables_do_not_grow_without_end():
    tables = BannedTables()
    kept = [tables.prepare((rule(f"a{i}"),)) for i in range(300)]
    assert len(kept) == 300
    assert len(tables._compiled) <= 200

"""Banned rules against what amavisd 2.13 logged for the same mails and rules."""

from __future__ import annotations

import logging
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.inspection.banned import BannedTables
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.mail.envelope import Envelope, Recipient
from amavispy.mail.message import Content
from amavispy.mail.verdict import Banned, Part
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.lookup import AccessList, Constant, Hash, LookupList, RegexpList
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import BannedRule, Settings
from tests.corpus import build

DECODER = Decoder(Limits())


def find(mail: bytes, *rules: BannedRule, paths: tuple[BannedRule, ...] = ()) -> Banned | None:
    return find_in(DECODER.decode(Content(mail)).parts, *rules, paths=paths)


def find_in(parts: tuple[Part, ...], *rules: BannedRule, paths: tuple[BannedRule, ...] = ()) -> Banned | None:
    """What the rules say for the only recipient; the default ones when there are none."""
    listed = () if paths else DEFAULT_BANNED_FILENAME_RE
    (banned,) = find_each(parts, "ann@example.net", banned_filename_re=rules or listed, banned_namepath_re=paths)
    return banned


def find_each(parts: tuple[Part, ...], *addresses: str, **settings: object) -> tuple[Banned | None, ...]:
    held = Settings(**settings)  # type: ignore[arg-type]
    policies = recipient_policies(Envelope("", tuple(Recipient(address) for address in addresses)), held)
    return BannedTables().find(parts, held, policies)


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
    assert find_in(leaf(name))


@pytest.mark.parametrize("name", ["exe", "notes.txt", "a.exe.txt", "report.2026.pdf", "archive.zip"])
def test_the_default_rules_let_harmless_names_pass(name: str):
    assert find_in(leaf(name)) is None


def test_a_declared_type_is_enough():
    assert find_in(leaf(types=("application/x-msdownload",)))


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
    banned = find_in(leaf("a\r\nX: y\x1b\u202efdp.exe"), rule("exe"))
    assert banned
    assert banned.reason == r"a/b,.dat,a\x0D\x0AX: y\x1B\x{202E}fdp.exe"


@pytest.mark.parametrize("pattern", [r"(a)\1\.exe$", r"(?P<x>a)(?P=x)\.exe$", r"(?i)AA\.exe$"])
def test_patterns_that_cannot_be_combined_still_work(pattern: str):
    rules = (rule("^never$"), rule(pattern))
    assert find_in(leaf("aa.exe"), *rules)
    assert find_in(leaf("ab.exe"), *rules) is None


def test_no_rules_ban_nothing():
    assert find_each(leaf("a.exe"), "a@b") == (None,)


def test_a_broken_pattern_is_told_at_once():
    with pytest.raises(re.error):
        BannedTables().prepare(Settings(banned_filename_re=(rule("("),)))


def test_everything_is_compiled_before_it_is_needed(monkeypatch: pytest.MonkeyPatch):
    inline = (rule("e"),)
    settings = Settings(
        banned_filename_re=(rule("a"),),
        banned_rules={"X": (rule("b"),)},
        banned_namepath_re=(rule("c"),),
        banned_filename_maps=LookupList.of([Hash({"a@b": ("X", inline)}), Constant("DEFAULT")]),
    )
    tables = BannedTables()
    tables.prepare(settings)
    monkeypatch.setattr(re, "compile", lambda *_: pytest.fail("compiled late"))
    policies = recipient_policies(Envelope("", (Recipient("a@b"), Recipient("c@d"))), settings)
    assert all(tables.find(leaf("abce"), settings, policies))


def test_tables_do_not_grow_without_end():
    tables = BannedTables()
    kept = [Settings(banned_filename_re=(rule(f"a{number}"),)) for number in range(1200)]
    for settings in kept:
        tables.prepare(settings)
    assert len(tables._compiled) <= 1000


def test_several_comments_are_all_told():
    banned = find_in(leaf("a.exe"), rule(r"(?# one )\.(?# two )exe$"))
    assert banned
    assert banned.reason == "one two:a/b,.dat,a.exe"


def test_wide_blanks_are_shortened_in_the_reason():
    banned = find_in(leaf("a.pdf" + " " * 60 + ".exe"))
    assert banned
    assert banned.reason == "a/b,.dat,a.pdf ... .exe"


def test_a_rule_that_discards_silences_although_another_part_comes_first():
    rules = (rule(r"^a\.exe$"), rule(r"\.exe$", "DISCARD"))
    banned = find(build.multipart([build.entity(b"x", name="a.exe"), build.entity(b"x", name="b.exe")]), *rules)
    assert banned
    assert banned.rule_value == "DISCARD"
    assert banned.reason.endswith("a.exe")


# --- forms of names


@pytest.mark.parametrize(
    "name",
    [
        "setup.exe.",
        "setup.exe .. ",
        "setup.exe\u00a0",
        "setup.exe\u3000\u2003",
        "setup.exe\x00",
        "setup.exe\x00.txt",
        "setup.exe\n",
        "setup.exe:zone",
        "setup.exe::$DATA",
        "readme.txt/../setup.exe ",
        "C:\\temp\\setup.exe.",
        "setup\u2024exe",
        "setup\uff0eexe",
        "setup\u3002exe",
        "setup\uff61exe",
        "setup\u00b7exe",
        "setup.\uff45\uff58\uff45",
        "setup.e\u200bxe",
        "setup.ex\u00ade",
        "setup.\u202eexe",
        "setup.exe\u202c",
        "setup.e\u0301xe",
        "setup.e\u034fxe",
        "setup.exe\ufeff",
        "setup.exe\u3164",
        "setup%2eexe",
        "setup%252eexe",
        "setup.e%78e",
        "setup&#46;exe",
        "setup&period;exe",
        '"setup.exe"',
        "setup.exe'",
        "setup.e|xe",
        "setup.exe?",
        "setup.exe" + " " * 300 + ".txt",
        "s" * 251 + ".exe.txt",
        "\u00e9" * 125 + ".exe.txt" + "x" * 20,
        "{3f2504e0-4f89-11d3-9a0c-0305e82c3301}x.exe ",
    ],
)
def test_a_name_is_banned_in_every_form_a_client_might_give_it(name: str):
    assert find_in(leaf(name), rule(r".\.exe$"))


@pytest.mark.parametrize(
    "name", ["exe", "setup.exe.txt", "r\u00e9sum\u00e9.pdf", "\u65e5\u672c\u8a9e.pdf", "100% exe", "a&b"]
)
def test_honest_names_have_no_form_that_is_banned(name: str):
    assert find_in(leaf(name)) is None


def test_a_rule_that_allows_a_name_does_not_allow_its_other_forms():
    rules = (rule(r"\.txt$", False), rule(r"\.exe$"))
    assert find_in(leaf("setup.txt"), *rules) is None
    assert find_in(leaf("setup.exe:x.txt"), *rules)
    assert find_in(leaf("setup.exe\x00.txt"), *rules)


def test_a_rule_that_allows_a_form_does_not_allow_the_name():
    assert find_in(leaf("setup.txt "), rule(r"\.txt$", False), rule("^a/b$"))


def test_names_that_are_allowed_stay_allowed_beside_their_encoded_form():
    names = ("bericht.pdf", "=?utf-8?q?bericht.pdf?=")
    assert find_in(leaf(*names), rule(r"^bericht\.pdf$", False), rule("^a/b$")) is None


def test_odd_forms_of_what_contains_a_part_count_too():
    parts = (
        Part(1, "1", None, ("a/b",), ("x.zip.",), ("zip",), is_leaf=False),
        Part(2, "1/1", 1, (), ("a.txt.",), ("asc",)),
    )
    assert find_in(parts, rule(r"\.zip$"))
    assert find_in(parts, rule(r"^a\.txt$"))


@given(st.text(max_size=400))
def test_any_name_can_be_looked_at(name: str):
    assert find_in(leaf(name), rule("^never$")) is None


def test_hostile_names_take_bounded_time():
    started = time.process_time()
    for name in ("\ufdfa" * 4096, "%25" * 1300, "&amp;" * 800, ".\u200b" * 2000, "a:" * 2000, " \x00" * 2000):
        find_in(leaf(*[name + str(number) for number in range(20)]))
    assert time.process_time() - started < 3


# --- the whole path


@pytest.mark.parametrize(
    "pattern",
    [
        r"^P=p002\tL=1/2\tM=application/zip\tT=zip\tN=x\.zip$",
        r"^P=p004\tL=1/2/1\tT=exe\tT=exe-ms\tN=setup\.exe$",
        r"(?# a program in a zip )^(.*\t)?T=zip(\t.*)?\n(.*\t)?T=exe(\t.*)?$",
        r"\AP=p003\tL=1\tM=multipart/mixed\n",
        r"t=EXE-MS",
    ],
)
def test_the_path_is_one_text_with_a_line_a_level(pattern: str):
    assert find(build.exe_zip(), paths=(rule(pattern),))


def test_attributes_stand_in_the_path_one_by_one():
    assert find_in(leaf("a", attributes="UC"), paths=(rule(r"^P=p001\tL=1\tM=a/b\tT=dat\tN=a\tA=U\tA=C$"),))


def test_tabs_and_line_ends_of_a_name_cannot_forge_fields():
    assert find_in(leaf("a\tT=exe\nT=zip"), paths=(rule(r"(?:\t|\n)T=(?:exe|zip)"),)) is None


def test_the_path_has_the_forms_of_names_as_well():
    assert find_in(leaf("setup.exe."), paths=(rule(r"\tN=setup\.exe$"),))


def test_the_path_is_only_asked_about_parts_without_an_answer():
    rules, paths = (rule("^allowed$", False),), (rule("N="),)
    assert find_in(leaf("allowed"), *rules, paths=paths) is None
    banned = find_in(leaf("other"), *rules, paths=paths)
    assert banned
    assert banned.rule_key == "N="


def test_a_path_rule_can_allow():
    assert find_in(leaf("a.exe"), paths=(rule(r"N=a\.exe$", False), rule("N="))) is None


# --- rules by recipient

ANN, BOB, EVE = "ann@example.net", "bob@example.net", "eve@example.org"
LISTS = {
    "NO-EXE": (rule(r"\.exe$", "1 exe"),),
    "NO-ZIP": (rule(r"\.zip$", "1 zip"),),
    "ALLOW": (rule(r"^a\.", False),),
    "TWO WORDS": (rule(r"\.two$"),),
}


def values(names: tuple[str, ...], *tables: object, **settings: object) -> list[str | None]:
    """The right-hand sides that ban for Ann, Bob and Eve."""
    maps = LookupList.of(tables)  # type: ignore[arg-type]
    found = find_each(leaf(*names), ANN, BOB, EVE, banned_rules=LISTS, banned_filename_maps=maps, **settings)
    return [banned.rule_value if banned else None for banned in found]


def test_names_of_lists_lead_to_their_rules():
    tables = (Hash({ANN: "NO-EXE", BOB: "NO-ZIP", "example.org": "NO-ZIP,NO-EXE"}),)
    assert values(("b.exe",), *tables) == ["1 exe", None, "1 exe"]
    assert values(("b.zip",), *tables) == [None, "1 zip", "1 zip"]


def test_lists_are_tried_in_the_order_of_their_names():
    assert values(("a.exe",), Hash({ANN: "ALLOW NO-EXE", BOB: "NO-EXE, ALLOW"})) == [None, "1 exe", None]


def test_all_answers_of_all_tables_count():
    tables = (Hash({ANN: "ALLOW", "example.net": "NO-ZIP"}), RegexpList(((r"^bob@", "NO-ZIP"),)), Constant("NO-EXE"))
    assert values(("a.exe",), *tables) == [None, "1 exe", "1 exe"]
    assert values(("b.zip",), *tables) == ["1 zip", "1 zip", None]


def test_constants_are_all_asked_too():
    assert values(("b.zip",), Constant("NO-EXE"), Constant("NO-ZIP")) == ["1 zip"] * 3


def test_rules_may_stand_in_the_answer_itself():
    assert values(("x.pif",), Hash({ANN: ("NO-EXE", (rule("pif$", "1 pif"),)), BOB: ("NO-EXE",)})) == [
        "1 pif",
        None,
        None,
    ]


def test_a_name_in_quotes_may_have_blanks():
    assert values(("a.two",), Constant('"TWO WORDS" NO-EXE')) == ["1"] * 3


def test_default_means_banned_filename_re_unless_there_is_a_list_of_that_name():
    own = (rule("mine$", "1 mine"),)
    assert values(("a.mine",), Constant("DEFAULT"), banned_filename_re=own) == ["1 mine"] * 3
    settings = {"banned_filename_re": own, "banned_rules": {"DEFAULT": (rule("mine$", "1 other"),)}}
    (banned,) = find_each(leaf("a.mine"), ANN, **settings)
    assert banned
    assert banned.rule_value == "1 other"


def test_an_unknown_name_is_logged_and_left_out(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(15, "amavispy.policy"):
        assert values(("b.exe",), Constant("NONE NO-EXE")) == ["1 exe"] * 3
    assert caplog.messages == ["unknown list of banned rules: NONE"] * len(caplog.messages)


def test_who_bypasses_the_check_is_not_searched_for():
    bypass = LookupList.of([AccessList((BOB,))])
    assert values(("b.exe",), Constant("NO-EXE"), bypass_banned_checks_maps=bypass) == ["1 exe", None, "1 exe"]


def test_a_path_rule_holds_for_whose_lists_say_nothing():
    tables = (Hash({ANN: "ALLOW", BOB: "NO-EXE"}),)
    paths = (rule("N=a", "1 path"),)
    assert values(("a.exe",), *tables, banned_namepath_re=paths) == [None, "1 exe", "1 path"]


def test_recipients_with_the_same_rules_share_one_result():
    found = find_each(leaf("a.exe"), *(f"r{n}@example.net" for n in range(1000)), banned_filename_re=(rule("exe$"),))
    assert found[0] is found[999]


# --- the log


def test_what_is_banned_is_logged_at_level_1_for_each_recipient(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "amavispy.banned")
    find_each(
        leaf("a.exe") + (Part(2, "2", None, ("a/b",), ("b.txt",)),),
        ANN,
        BOB,
        banned_filename_re=(rule("exe$", "DISCARD"),),
    )
    path = "P=p001,L=1,M=a/b,T=dat,N=a.exe"
    assert caplog.messages == [f'p.path BANNED:DISCARD {to}: "{path}", matching_key="exe$"' for to in (ANN, BOB)]
    assert [record.levelno for record in caplog.records] == [logging.INFO] * 2


def test_every_leaf_is_logged_at_level_3(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG, "amavispy.banned")
    find_each(leaf("c.txt"), ANN, banned_filename_re=(rule("^c", False), rule("exe$")))
    assert caplog.messages == ['p.path ann@example.net: "P=p001,L=1,M=a/b,T=dat,N=c.txt", matching_key="^c"']
    find_each(leaf("b.txt"), ANN, banned_filename_re=(rule("exe$"),))
    assert caplog.messages[1:] == ['p.path ann@example.net: "P=p001,L=1,M=a/b,T=dat,N=b.txt"']

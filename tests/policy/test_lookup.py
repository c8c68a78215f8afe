"""Lookup lists: tables in order, keys from particular to general, the first defined answer wins."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.mail.address import Address
from amavispy.policy.lookup import AccessList, Constant, Hash, LookupList, RegexpList, is_true

_USER = Address.of("User+Ext@Sub.Example.COM", delimiter="+")
# What chapter 5.2 lists for this address, most specific first.
_KEYS = [
    "User+Ext@Sub.Example.COM",
    "user+ext@sub.example.com",
    "user@sub.example.com",
    "user+ext@",
    "user@",
    "sub.example.com",
    ".sub.example.com",
    ".example.com",
    ".com",
    ".",
]


class _Silent:
    """A table without an opinion, which counts how often it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def find(self, address: Address) -> Any | None:
        self.asked += 1
        return None


@given(st.sets(st.sampled_from(_KEYS), min_size=1))
def test_the_most_specific_key_of_a_hash_answers(keys: set[str]) -> None:
    table = Hash({key: key for key in keys})
    assert table.find(_USER) == next(key for key in _KEYS if key in keys)


@given(st.sets(st.sampled_from(["user@example.com", "sub.example.com", ".org", "other@", "com", "example.com"])))
def test_a_hash_without_a_key_of_the_address_has_no_opinion(keys: set[str]) -> None:
    assert Hash(dict.fromkeys(keys, 1)).find(Address.of("user@host.example.com")) is None


@pytest.mark.parametrize("key", ["User@Example.COM", ".EXAMPLE.com", "Example.Com.", "USER@"])
def test_keys_match_whatever_their_case(key: str) -> None:
    assert Hash({key: True}).find(Address.of("uSER@exAMPLE.com")) is True


@pytest.mark.parametrize("key", [".bücher.example", "bücher.example", "ich@BÜCHER.example"])
def test_international_domains_match_in_either_spelling(key: str) -> None:
    assert Hash({key: True}).find(Address.of("ich@xn--bcher-kva.example")) is True
    assert AccessList((key,)).find(Address.of("ich@bücher.example")) is True


def test_a_case_sensitive_address_matches_a_key_as_written() -> None:
    table = Hash({"John@example.com": 1, "john@example.com": 2})
    assert table.find(Address.of("John@EXAMPLE.com", case_sensitive=True)) == 1
    assert table.find(Address.of("john@EXAMPLE.com", case_sensitive=True)) == 2
    assert Hash({"john@example.com": 2}).find(Address.of("John@example.com", case_sensitive=True)) is None


def test_a_quoted_local_part_matches_with_and_without_its_quotes() -> None:
    address = Address.of('"a b"@example.com')
    assert Hash({"a b@example.com": True}).find(address) is True
    assert Hash({'"a b"@example.com': True}).find(address) is True


def test_the_null_sender_has_a_key_of_its_own() -> None:
    assert Hash({"": "null", ".": "any"}).find(Address.of("")) == "null"


@pytest.mark.parametrize("value", [False, 0, "", 0.0])
def test_false_answers_are_answers(value: Any) -> None:
    lookup = LookupList.of([Hash({".example.com": value}), Constant(True)])
    assert lookup.find(Address.of("user@example.com")) == value
    assert lookup.find(Address.of("user@example.org")) is True


@pytest.mark.parametrize(
    ("template", "result"),
    [
        ("$1", "User+Ext@Sub.Example.COM"),
        ("$2", "User+Ext"),
        ("$3", "user"),
        ("$4", "+ext"),
        ("$5", "Sub.Example.COM"),
        ("${3}-spam@$(5)", "user-spam@Sub.Example.COM"),
        ("$3$4", "user+ext"),
        ("[$6][$0][${99999999999}]", "[][][]"),
        ("$ $x ${} $(3", "$ $x ${} $(3"),
    ],
)
def test_values_hold_parts_of_the_address(template: str, result: str) -> None:
    assert Hash({".": template}).find(_USER) == result


def test_what_is_replaced_is_not_replaced_again() -> None:
    assert Hash({".": "$3"}).find(Address.of("$5@example.com")) == "$5"


@given(
    st.lists(
        st.tuples(
            st.integers(0, 3),
            st.sampled_from(["user+ext@sub.example.com", "user@sub.example.com", *_KEYS[5:], "example.com", ".org"]),
        ),
        max_size=8,
    )
)
def test_the_first_matching_entry_of_an_access_list_decides_and_exclamation_marks_invert(
    entries: list[tuple[int, str]],
) -> None:
    # Address extensions mean nothing to access lists: user@... does not match user+ext@...
    fitting = {"user+ext@sub.example.com", *_KEYS[5:]}
    first = next((bangs for bangs, key in entries if key in fitting), None)
    expected = None if first is None else first % 2 == 0
    assert AccessList(tuple("!" * bangs + key for bangs, key in entries)).find(_USER) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("a@me.ac.uk", True),
        ("a@you.ac.uk", False),
        ("a@them.co.uk", True),
        ("a@some.com", None),
        ("a@ac.uk", False),
        ("a@notac.uk", True),
        ("a", None),
    ],
)
def test_particular_entries_stand_before_general_ones(address: str, expected: bool | None) -> None:
    assert AccessList(("me.ac.uk", "!.ac.uk", ".uk")).find(Address.of(address)) is expected


@pytest.mark.parametrize("address", ["a@example.com", "a", "", "a@[192.0.2.1]"])
def test_a_lone_dot_is_everybody(address: str) -> None:
    assert AccessList((".",)).find(Address.of(address)) is True
    assert AccessList(("!.",)).find(Address.of(address)) is False
    assert Hash({".": 1}).find(Address.of(address)) == 1


def test_an_address_literal_is_a_domain() -> None:
    address = Address.of("a@[192.0.2.1]")
    assert AccessList(("[192.0.2.1]",)).find(address) is True
    assert Hash({"[192.0.2.1]": 1}).find(address) == 1


def test_a_domain_of_a_hundred_thousand_labels_is_looked_up_in_linear_time() -> None:
    address = Address.of("a@" + "b." * 100_000 + "example.com")
    assert AccessList((".example.com",)).find(address) is True
    assert AccessList((".example.org",)).find(address) is None


def test_a_regexp_list_answers_with_its_first_match_in_the_address_as_given() -> None:
    table = RegexpList(((r"^(.*)@example\.org$", "first-$1"), (r"@EXAMPLE\.", "second"), ("", False)))
    assert table.find(Address.of("Info@example.org")) == "first-Info"
    assert table.find(Address.of("info@example.com")) == "second"
    assert table.find(Address.of("info@host.test")) is False


def test_a_group_that_took_no_part_is_empty() -> None:
    assert RegexpList((("(a)|(b)", "[$1$2]"),)).find(Address.of("b")) == "[b]"


def test_a_pattern_that_does_not_compile_is_named() -> None:
    with pytest.raises(ValueError, match=r'"\(open" is no regular expression'):
        RegexpList((("(open", 1),))


def test_the_first_defined_answer_of_a_list_ends_the_search() -> None:
    before, behind = _Silent(), _Silent()
    lookup = LookupList.of([before, Hash({"example.com": 1}), behind])
    assert lookup.find(Address.of("a@example.com")) == 1
    assert (before.asked, behind.asked) == (1, 0)


def test_an_empty_list_has_no_opinion() -> None:
    assert LookupList().find(_USER) is None
    assert not LookupList()


@pytest.mark.parametrize("value", [True, False, 0, "", 2.5])
def test_a_constant_list_says_what_it_always_answers(value: Any) -> None:
    lookup = LookupList.constant(value)
    assert lookup.fixed == value
    assert lookup.is_fixed
    assert bool(lookup)
    assert lookup.find(_USER) == value


def test_a_list_that_asks_is_not_fixed() -> None:
    lookup = LookupList.of([Hash({".": 1}), Constant(2)])
    assert lookup.fixed is None
    assert not lookup.is_fixed


def test_lists_of_equal_tables_are_equal() -> None:
    assert LookupList.of([Hash({"a": 1}), AccessList((".b",))]) == LookupList.of([Hash({"a": 1}), AccessList((".b",))])
    assert LookupList.constant(1) != LookupList.constant(2)


@pytest.mark.parametrize("answer", [True, 1, "1", "yes", 0.5])
def test_true_answers(answer: Any) -> None:
    assert is_true(answer)


@pytest.mark.parametrize("answer", [None, False, 0, 0.0, "", "0"])
def test_untrue_answers(answer: Any) -> None:
    assert not is_true(answer)

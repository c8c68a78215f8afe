"""Every key and element of a TOML document is found on the line where it stands."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.config.lines import line_numbers

DOCUMENT = '''\
# a comment with [brackets] and "quotes"
plain = 1
"quoted key" = "a # no comment" # comment
'literal.key' = 'C:\\path'
"esc\\u0061ped" = 1
dotted . key = 2
date = 1979-05-27 07:32:00
long = """
several
[lines] = "of text" """
after_long = [ 1, 2,
  3, # comment ]
  "]", [ "deep",
    { inner = "x", more.dots = [ 1 ] } ],
]

[table]
key = true
  [ table . "sub table" ]
  key = { a = 1, b = { c = "}" } }
[[array]]
name = 1
[array.sub]
x = 1

[[array]]
name = 2
[[array.inner]]
y = 1
[[array.inner]]
y = \'\'\'
'' two quotes\'\'\'
z = 2
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("plain",), 2),
        (("quoted key",), 3),
        (("literal.key",), 4),
        (("escaped",), 5),
        (("dotted",), 6),
        (("dotted", "key"), 6),
        (("date",), 7),
        (("long",), 8),
        (("after_long", 1), 11),
        (("after_long", 2), 12),
        (("after_long", 3), 13),
        (("after_long", 4, 0), 13),
        (("after_long", 4, 1, "inner"), 14),
        (("after_long", 4, 1, "more", "dots", 0), 14),
        (("table",), 17),
        (("table", "sub table", "key", "b", "c"), 20),
        (("array",), 21),
        (("array", 0, "name"), 22),
        (("array", 0, "sub", "x"), 24),
        (("array", 1), 26),
        (("array", 1, "name"), 27),
        (("array", 1, "inner", 0, "y"), 29),
        (("array", 1, "inner", 1), 30),
        (("array", 1, "inner", 1, "z"), 33),
    ],
)
def test_a_path_is_found(path: tuple[str | int, ...], line: int) -> None:
    assert line_numbers(DOCUMENT)[path] == line


def test_nothing_is_found_that_is_not_there() -> None:
    found = line_numbers(DOCUMENT)
    assert ("lines",) not in found
    assert ("after_long", 5) not in found


_KEYS = st.text(string.ascii_letters + string.digits + "_-. #\"[]'\\é", max_size=8)
_ENTRIES = st.lists(
    st.tuples(_KEYS, st.integers(0, 3), st.integers(0, 3)), unique_by=lambda entry: entry[0], max_size=12
)


@given(_ENTRIES)
def test_keys_are_found_behind_any_number_of_lines(entries: list[tuple[str, int, int]]) -> None:
    document, expected, line = "", {}, 1
    for key, blank_lines, elements in entries:
        quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
        document += "\n" * blank_lines + f"{quoted} = [\n" + "1,\n" * elements + "] # end\n"
        line += blank_lines
        expected[(key,)] = line
        expected |= {(key, index): line + 1 + index for index in range(elements)}
        line += elements + 2
    assert line_numbers(document) == expected

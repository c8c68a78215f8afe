"""Habits - how readers of mail differ: each bit is one thing that some of them do otherwise than most.

A reader is a set of habits, 0 the most usual one. The splitter reads a mail with a given set and tells in the same
bits where another habit would have made a difference; `readings` then tries those too. Nothing is decided here.
"""

from __future__ import annotations

# Which of several things counts
LAST_FIELD = 1 << 0  # the last Content-Type, not the first
LAST_PARAMETER = 1 << 1  # the last boundary parameter, not the first
EXTENDED_FIRST = 1 << 2  # boundary* before boundary (RFC 2231)
# How a field's value is read
KEEPS_COMMENTS = 1 << 3  # "(" is no comment (RFC 822 3.4.3) but a character
CUTS_AT_NUL = 1 << 4  # as C strings end; most drop the NUL
LOOSE_VALUES = 1 << 5  # parameters without semicolons, values in single quotes, unquoted values that end at a blank
REJECTS_ODD_VALUES = 1 << 6  # a Content-Type that is not as in RFC 2045 5.1 is text/plain (5.2)
DECODES_WORDS = 1 << 7  # RFC 2047 words in parameters, where they have no business
KEEPS_ESCAPES = 1 << 15  # a backslash in quotes is a character: names with directories of Windows
# How a header section is read
STRICT_NAMES = 1 << 8  # "Content-Type :" is not Content-Type
EARLY_BODY = 1 << 9  # the body begins at the first line that cannot be a field
BLANK_LINE_ENDS = 1 << 10  # a line of blanks alone ends the header
CR_ENDS_LINES = 1 << 11  # a CR alone ends a line
# How delimiters are found
MATCHES_PREFIX = 1 << 12  # a line that begins with the delimiter is one (RFC 2046 5.1.1)
OUTER_FIRST = 1 << 13  # of two containers with the same boundary the outer one gets the line
GUESSES_BOUNDARY = 1 << 14  # without a boundary that occurs, the first line of "--something" is it


def each(habits: int) -> list[int]:
    """The bits of a set, lowest first."""
    return [1 << place for place in range(habits.bit_length()) if habits >> place & 1]

"""Header checks - what in a header section breaks RFC 5322, in amavis' words.

In: the parsed header section, which groups of tests are wanted, and whether the mail came with SMTPUTF8. Out: defects
in the order amavis reports them: each field's first failing test from top to bottom, then missing, then repeated
fields; never more than 100. It does not look at the body; MIME errors are the decoder's.

A clean field costs one look at its octets; only a suspicious one is examined. Texts quote the fault with a little of
its surroundings, control characters escaped as \\x{00}.

**Failures:** none.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice

from amavispy.mail.headers import HeaderField, Headers
from amavispy.mail.verdict import HeaderDefect

_LIMIT = 100
_LINE_LIMIT = 998  # RFC 5322 2.1.1
_REQUIRED = ("Date", "From")  # RFC 5322 3.6
_ONCE = (
    "Date From Sender Reply-To To Cc Bcc Subject Message-ID References In-Reply-To MIME-Version Content-Type "
    "Content-Transfer-Encoding Content-ID Content-Description Content-Disposition Auto-Submitted"
)
_ONCE_NAMES = tuple((name, name.lower().encode()) for name in _ONCE.split(" "))
_COUNTED = frozenset(key for _, key in _ONCE_NAMES)

# Printable ASCII, blanks and folds only, no line over the limit, a name before the colon: nothing more to ask.
_CLEAN = re.compile(rb"[!-9;-~]{1,90}[ \t]{0,2}:[\t -~]{0,900}(?:\r\n[ \t]{1,8}[!-~][\t -~]{0,900})*\r\n")
_NAME = re.compile(rb"[!-9;-~]+[ \t]*:")
_NAME_8BIT = re.compile(rb"[!-9;-~]*([\x80-\xff])[!-9;-~\x80-\xff]*[ \t]*:")
_BLANK_FOLD = re.compile(rb"\n([ \t]+)(?=\r?\n|$)")
_CONTROL = re.compile(rb"\x00|\r(?!\n)")
_HIGH = re.compile(rb"[\x80-\xff]")
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_UNPRINTABLE = re.compile(r"[^\t -~]")
_UNPRINTABLE_STRICT = re.compile(r"[^ -~]")


def check_header(headers: Headers, tests: Collection[str], *, smtputf8: bool = False) -> tuple[HeaderDefect, ...]:
    """All defects of the wanted groups (other mime syntax empty long control 8bit utf8 missing multiple)."""
    return tuple(islice(_defects(headers, tests, smtputf8), _LIMIT))


def _defects(headers: Headers, tests: Collection[str], smtputf8: bool) -> Iterator[HeaderDefect]:
    counts: dict[bytes, int] = {}
    is_clean = _CLEAN.fullmatch
    for field in headers.fields:
        name = field.name.lower()
        if name in _COUNTED:
            counts[name] = counts.get(name, 0) + 1
        if not is_clean(field.octets) and (defect := _field_defect(field, tests, smtputf8)):
            yield defect
    if "missing" in tests:
        for required in _REQUIRED:
            if required.lower().encode() not in counts:
                yield HeaderDefect(7, f'Missing required header field: "{required}"')
    if "multiple" in tests:
        yield from _repeated(counts)


def _repeated(counts: dict[bytes, int]) -> Iterator[HeaderDefect]:
    for name, key in _ONCE_NAMES:
        count = counts.get(key, 0)
        if count == 2:
            yield HeaderDefect(8, f'Duplicate header field: "{name}"')
        elif count > 2:
            yield HeaderDefect(8, f'Header field occurs more than once: "{name}" occurs {count} times')


def _field_defect(field: HeaderField, tests: Collection[str], smtputf8: bool) -> HeaderDefect | None:
    """The first failing test of one field, in amavis' order."""
    octets = field.octets.replace(b"\r\n", b"\n")
    if "syntax" in tests and (defect := _syntax_defect(octets)):
        return defect
    if "empty" in tests and (match := _BLANK_FOLD.search(octets)):
        text = "Improper folded header field made up entirely of whitespace"
        return HeaderDefect(4, _told(text, octets, match.start(1), match.end(1)))
    if "long" in tests and (line := _long_line(field.octets)):
        return HeaderDefect(5, f"Header line longer than {_LINE_LIMIT} characters: {line}")
    if "control" in tests and (match := _CONTROL.search(octets)):
        return HeaderDefect(3, _told("Improper use of control character", octets, match.start(), match.end()))
    return _8bit_defect(octets, tests, smtputf8)


def _syntax_defect(octets: bytes) -> HeaderDefect | None:
    if _NAME.match(octets):
        return None
    if match := _NAME_8BIT.match(octets):
        text = "Invalid header field name, contains non-ASCII char"
        return HeaderDefect(6, _told(text, octets, match.start(1), match.end(1)))
    return HeaderDefect(6, f"Invalid header field syntax: {_shown(octets[:500].rstrip())}")


def _long_line(octets: bytes) -> str:
    """The beginning of the first line over the limit, "" when there is none."""
    if len(octets) <= _LINE_LIMIT:
        return ""
    line = next((line for line in octets.split(b"\r\n") if len(line) > _LINE_LIMIT), b"")
    return _shown(line[:50]) + "[...]" if line else ""


def _8bit_defect(octets: bytes, tests: Collection[str], smtputf8: bool) -> HeaderDefect | None:
    match = _HIGH.search(octets)
    if not match:
        return None
    try:
        octets.decode()
    except UnicodeDecodeError:
        text = "Non-encoded non-ASCII data (and not UTF-8)"
        return HeaderDefect(2, _told(text, octets, match.start(), match.end())) if "8bit" in tests else None
    if "8bit" in tests and (c1 := _C1.search(octets)):
        return HeaderDefect(2, _told("UTF-8 string contains C1 Controls", octets, c1.start(), c1.end()))
    if "utf8" in tests and not smtputf8:
        return HeaderDefect(2, _told("Non-encoded UTF-8 string in non-EAI mail", octets, match.start(), match.end()))
    return None


def _told(text: str, octets: bytes, start: int, end: int) -> str:
    """`text (char XX hex): Name: ...before FAULT after[...]`, as amavis quotes a fault at octets[start:end]."""
    name_end = octets.find(b": ", 0, start) + 2
    name_end = name_end if name_end > 1 else 0
    fault = octets[start:end]
    after = octets[end:].removesuffix(b"\n")
    after = after[:15] + b"[...]" if len(after) > 20 else after
    room = 50 - len(after)
    before = octets[max(name_end, start - room - 1) : start]
    before = b"..." + before[5 - room :] if len(before) > room else before
    codes = f" (char {fault.hex(' ').upper()} hex)" if len(fault) <= 4 else ""
    fault = fault[:15] + b"[...]" if len(fault) > 20 else fault
    return f"{text}{codes}: {_shown(octets[:name_end] + before + fault + after)}"


def _shown(octets: bytes) -> str:
    """Safe to log: with non-ASCII data everything unprintable is escaped, otherwise folds are undone first."""
    text = octets.decode("latin-1")
    if octets.isascii():
        return _UNPRINTABLE.sub(_escaped, text.replace("\n", ""))
    return _UNPRINTABLE_STRICT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):02X}}}"

"""Header checks - what in a header section breaks RFC 5322, in amavis' words.

In: the parsed header section, which groups of tests are wanted, and whether the mail came with SMTPUTF8. Out: defects
in the order amavis reports them: the first failing test of each field from top to bottom (of a hundred fields at most),
then missing, then repeated fields. It does not look at the body; MIME errors are the decoder's.

A clean field costs one look at its octets; only a suspicious one is examined. Texts quote the fault with a little of
its surroundings, control characters escaped as \\x{00}. The group `other` is ours: amavis has the name but no test.

**Failures:** none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator
from itertools import islice

from amavispy.mail.headers import HeaderField, Headers
from amavispy.mail.verdict import HeaderDefect

_log = logging.getLogger("amavispy.header_checks")
_LEVEL_2 = 15  # amavis' log level 2

_LIMIT = 100
_MANY_FIELDS = 10_000  # no honest mail has a tenth of it; who parses headers slowly suffers long before
_LINE_LIMIT = 998  # RFC 5322 2.1.1
_REQUIRED = ("Date", "From")  # RFC 5322 3.6
_ONCE = (
    "Date From Sender Reply-To To Cc Bcc Subject Message-ID References In-Reply-To MIME-Version Content-Type "
    "Content-Transfer-Encoding Content-ID Content-Description Content-Disposition Auto-Submitted"
)
_ONCE_NAMES = tuple((name, name.lower().encode()) for name in _ONCE.split(" "))
_COUNTED = frozenset(key for _, key in _ONCE_NAMES)

# Printable ASCII, blanks and folds only, no line over the limit, a name before the colon: nothing more to ask.
_CLEAN = re.compile(rb"(?!--)[!-9;-~]{1,90}[ \t]{0,2}:[\t -~]{0,900}(?:\r\n[ \t]{1,8}[!-~][\t -~]{0,900})*\r\n")
_NAME = re.compile(rb"(?!--)([!-9;-~\x80-\xff]+)[ \t]*:")
_BLANK_FOLD = re.compile(rb"\n([ \t]+)(?=\r?\n|$)")
_CONTROL = re.compile(rb"[\x00\r]")  # searched when every CRLF has become LF
_HIGH = re.compile(rb"[\x80-\xff]")
_C0 = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_C1 = re.compile(rb"\xc2[\x80-\x9f]")
_CHARACTER = re.compile(rb"[\xc0-\xff][\x80-\xbf]*")
_PARTIAL = re.compile(rb"(?:[\xc0-\xff]|[\xe0-\xff][\x80-\xbf]|[\xf0-\xff][\x80-\xbf]{2})$")
_UNPRINTABLE = re.compile(r"[^\t -~]")
_UNPRINTABLE_STRICT = re.compile(r"[^ -~]|\\(?=x\{)")


def check_header(headers: Headers, tests: Collection[str], *, smtputf8: bool = False) -> tuple[HeaderDefect, ...]:
    """All defects of the wanted groups (other mime syntax empty long control 8bit utf8 missing multiple)."""
    defects = tuple(_defects(headers, tests, smtputf8))
    if defects and _log.isEnabledFor(_LEVEL_2):
        for defect in defects:
            _log.log(_LEVEL_2, "check_header: %d, %s", defect.minor, defect.text)
    return defects


def _defects(headers: Headers, tests: Collection[str], smtputf8: bool) -> Iterator[HeaderDefect]:
    counts: dict[bytes, int] = {}
    suspicious: list[HeaderField] = []
    is_clean = _CLEAN.fullmatch
    for field in headers.fields:
        name = field.name.lower()
        if name in _COUNTED:
            counts[name] = counts.get(name, 0) + 1
        if not is_clean(field.octets):
            suspicious.append(field)
    found = (_field_defect(field, tests, smtputf8) for field in suspicious)
    yield from islice((defect for defect in found if defect), _LIMIT)
    if "missing" in tests:
        for required in _REQUIRED:
            if required.lower().encode() not in counts:
                yield HeaderDefect(7, f'Missing required header field: "{required}"')
    if "multiple" in tests:
        yield from _repeated(counts)
    if "other" in tests and len(headers.fields) > _MANY_FIELDS:
        yield HeaderDefect(0, f"Too many header fields: {len(headers.fields)}")


def _repeated(counts: dict[bytes, int]) -> Iterator[HeaderDefect]:
    for name, key in _ONCE_NAMES:
        count = counts.get(key, 0)
        if count == 2:
            yield HeaderDefect(8, f'Duplicate header field: "{name}"')
        elif count > 2:
            yield HeaderDefect(8, f'Header field occurs more than once: "{name}" occurs {count} times')


def _field_defect(field: HeaderField, tests: Collection[str], smtputf8: bool) -> HeaderDefect | None:
    """The first failing test of one field, in amavis' order. What has no name has no further defect."""
    octets = field.octets.replace(b"\r\n", b"\n")
    match = _NAME.match(octets)
    if not match:
        text = f"Invalid header field syntax: {_shown(octets[:500].rstrip())}"
        return HeaderDefect(6, text) if "syntax" in tests else None
    name = match[1]
    if "syntax" in tests and (match := _HIGH.search(name)):
        return HeaderDefect(6, _told("Invalid header field name, contains non-ASCII char", name, octets, match.span()))
    if "empty" in tests and (match := _BLANK_FOLD.search(octets)):
        text = "Improper folded header field made up entirely of whitespace"
        return HeaderDefect(4, _told(text, name, octets, match.span(1)))
    if "long" in tests and (line := _long_line(field.octets)):
        return HeaderDefect(5, f"Header line longer than {_LINE_LIMIT} characters: {line}")
    if "control" in tests and (match := _CONTROL.search(octets)):
        return HeaderDefect(3, _told("Improper use of control character", name, octets, match.span()))
    return _8bit_defect(name, octets, tests, smtputf8)


def _long_line(octets: bytes) -> str:
    """The beginning of the first line over the limit, "" when there is none."""
    if len(octets) <= _LINE_LIMIT:
        return ""
    line = next((line for line in octets.split(b"\r\n") if len(line) > _LINE_LIMIT), b"")
    return _shown(line[:50]) + "[...]" if line else ""


def _8bit_defect(name: bytes, octets: bytes, tests: Collection[str], smtputf8: bool) -> HeaderDefect | None:
    """Non-ASCII octets: allowed as UTF-8 (RFC 6532), without controls (RFC 5198 2)."""
    match = _HIGH.search(octets)
    if not match:
        return None
    is_utf8 = _is_utf8(octets)
    if "8bit" in tests:
        if not is_utf8:
            return HeaderDefect(2, _told("Non-encoded non-ASCII data (and not UTF-8)", name, octets, match.span()))
        if control := _C0.search(octets):
            return HeaderDefect(2, _told("UTF-8 string contains C0 Controls", name, octets, control.span()))
        if control := _C1.search(octets):
            return HeaderDefect(2, _told("UTF-8 string contains C1 Controls", name, octets, control.span()))
    if is_utf8 and "utf8" in tests and not smtputf8 and (character := _CHARACTER.search(octets)):
        text = "Non-encoded UTF-8 string in non-EAI mail"
        return HeaderDefect(2, _told(text, name, octets, character.span()))
    return None


def _is_utf8(octets: bytes) -> bool:
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _told(text: str, name: bytes, octets: bytes, span: tuple[int, int]) -> str:
    """`text (char XX hex): Name: ...before FAULT after[...]`, as amavis quotes a fault at octets[start:end]."""
    start, end = span
    fault, after = octets[start:end], octets[end:].removesuffix(b"\n")
    codes = f" (char {fault.hex(' ').upper()} hex)" if len(fault) <= 4 else ""
    after = _cut(after) if len(after) > 20 else after
    before = octets[:start]
    if start - len(name) - 2 > 50 - len(after):
        before = name + b": ..." + before[len(after) - 45 :]
    fault = _cut(fault) if len(fault) > 20 else fault
    return f"{text}{codes}: {_shown(before + fault + after)}"


def _cut(octets: bytes) -> bytes:
    """The first 15 octets, without half a character at their end."""
    return _PARTIAL.sub(b"", octets[:15]) + b"[...]"


def _shown(octets: bytes) -> str:
    """Safe to log: with non-ASCII data everything unprintable is escaped, otherwise folds are undone first."""
    text = octets.decode("latin-1")
    if octets.isascii():
        return _UNPRINTABLE.sub(_escaped, text.replace("\n", ""))
    return _UNPRINTABLE_STRICT.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    return f"\\x{{{ord(match[0]):02X}}}"

"""MIME parameters - the values of Content-* fields: type, parameters, and every name a file might be known by.

Mail readers disagree on how a value that is not quite proper is to be read, so it can be read with any of their
habits (`habits`). They disagree on which of several names counts, so all candidates are kept: RFC 2231 continuations
and charsets decoded, RFC 2047 words decoded although they have no business there, and the raw form when it differs.

**Failures:** none; what cannot be read is skipped. Everything is bounded: the value's length, the number of parameters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from amavispy.inspection.habits import (
    CUTS_AT_NUL,
    DECODES_WORDS,
    EXTENDED_FIRST,
    KEEPS_COMMENTS,
    KEEPS_ESCAPES,
    LAST_PARAMETER,
    LOOSE_VALUES,
)

_VALUE_LIMIT = 65_536
_PARAMETER_LIMIT = 200
_TOKEN_LIMIT = 500  # quotes and parentheses
_NAME_LIMIT = 4096
_BOUNDARY_LIMIT = 998  # RFC 2046 allows 70; no line of a mail is longer than this (RFC 5322 2.1.1)

# A value as nearly every mailer writes it: no reader has trouble with it. Unquoted values may contain tspecials.
_PROPER = re.compile(
    rb"""[ \t\r\n]*+ [\w.+!\#$&^-]++ (?:/[\w.+!\#$&^-]++)?+ [ \t\r\n]*+
    (?: ; [ \t\r\n]*+
        (?: [\w.+*-]++ [ \t]*+ = [ \t]*+
            (?: "[^"\\\r\n\0]*+" | [^"\s;()'\0][^"\s;()\0]*+ | (?=[\s;]|\Z) ) [ \t\r\n]*+
        )?+
    )*+""",
    re.X,
)
_TYPE = re.compile(rb"\s*([^;\s(]*)")
_LOOSE_TYPE = re.compile(rb"\s*[\"']?([\w.+-]+(?:\s*/\s*[\w.+-]+)?)")
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"?|([^;]*))', re.S)
_LOOSE_PARAMETER = re.compile(
    rb"[;,\s]([A-Za-z][\w*.-]*)\s*=\s*(?:\"([^\"\\]*(?:\\.[^\"\\]*)*)\"?|'([^']*)'|([^\s;,\"']+))", re.S
)
_ESCAPE = re.compile(rb"\\(.)", re.S)
_NOTHING = re.compile(rb"()(?!)")
_COMMENT_OR_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*+"?|\\.|[()]', re.S)
_SECTION = re.compile(r"([^*]+)\*(\d{1,4})(\*?)")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_FOLD = re.compile(rb"[\r\n]+")
_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?]*)?\?([bBqQ])\?([^?]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t]+(=\?)")

# Charsets are looked up only among these: a codec's name from a stranger would otherwise import modules.
_NAMED = """
    utf-8 utf8 us-ascii ascii utf-7 utf-16 utf-16le utf-16be utf-32 utf-32le utf-32be gb2312 gbk gb18030 big5 euc-jp
    iso-2022-jp shift_jis shift-jis euc-kr ks_c_5601-1987 koi8-r koi8-u cp1251 cp1252 macintosh
"""
_CHARSETS = frozenset(
    _NAMED.split()
    + [f"iso-8859-{n}" for n in (*range(1, 12), *range(13, 17))]
    + [f"windows-{n}" for n in (874, *range(1250, 1259))]
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """A field's value: its main word in lower case and its parameters in order, names in lower case."""

    main: str
    pairs: tuple[tuple[str, bytes], ...]

    @classmethod
    def parse(cls, value: bytes, habits: int = 0) -> Parameters:
        """A value as a reader with these habits understands it."""
        value = _cleaned(value[:_VALUE_LIMIT], habits)
        main = (_LOOSE_TYPE if habits & LOOSE_VALUES else _TYPE).match(value)
        word = text(b"".join(main[1].split())).lower() if main else ""
        if b"=" not in value:
            return cls(word, ())
        escape = _NOTHING if habits & KEEPS_ESCAPES else _ESCAPE
        pairs = _loose_pairs(value, escape) if habits & LOOSE_VALUES else _pairs(value, escape)
        return cls(word, tuple(islice(pairs, _PARAMETER_LIMIT)))

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.pairs if key == name]


def is_proper(value: bytes) -> bool:
    """Is this a value that all readers understand alike, up to which of several parameters counts?"""
    return _PROPER.fullmatch(value, 0, _VALUE_LIMIT) is not None


def value_habits(value: bytes) -> int:
    """The habits with which this value might be read otherwise."""
    if is_proper(value):
        return 0
    return (
        LOOSE_VALUES
        | (CUTS_AT_NUL if b"\0" in value else 0)
        | (KEEPS_COMMENTS if b"(" in value else 0)
        | (KEEPS_ESCAPES if b"\\" in value else 0)
    )


def variants(value: bytes, habits: int) -> list[Parameters]:
    """The value read with every combination of these habits, the most usual first."""
    subset = 0
    found: dict[Parameters, None] = {}
    while True:
        found[Parameters.parse(value, subset)] = None
        subset = (subset - habits) & habits
        if not subset:
            return list(found)


def _cleaned(value: bytes, habits: int) -> bytes:
    """Without folds, NULs and comments, unless they are taken otherwise."""
    if b"\0" in value:
        value = value.partition(b"\0")[0] if habits & CUTS_AT_NUL else value.replace(b"\0", b"")
    if b"\n" in value or b"\r" in value:
        value = _FOLD.sub(b"", value)
    return value if b"(" not in value or habits & KEEPS_COMMENTS else _without_comments(value)


def _without_comments(value: bytes) -> bytes:
    """RFC 822 3.4.3: comments nest, and are none inside of quotes. One that does not end goes on to the end."""
    kept, at, depth = [], 0, 0
    for match in islice(_COMMENT_OR_QUOTED.finditer(value), _TOKEN_LIMIT):
        if match[0] == b"(":
            if not depth:
                kept.append(value[at : match.start()])
            depth += 1
        elif match[0] == b")" and depth:
            depth -= 1
            if not depth:
                at = match.end()
    if not depth:
        kept.append(value[at:])
    return b" ".join(kept)


def _pairs(value: bytes, escape: re.Pattern[bytes]) -> Iterator[tuple[str, bytes]]:
    for match in _PARAMETER.finditer(value):
        name, quoted, bare = text(match[1]).lower(), match[2], match[3]
        yield name, escape.sub(rb"\1", quoted) if quoted is not None else bare.strip()


def _loose_pairs(value: bytes, escape: re.Pattern[bytes]) -> Iterator[tuple[str, bytes]]:
    for match in _LOOSE_PARAMETER.finditer(value):
        quoted = match[2]
        bare = match[3] if match[3] is not None else match[4]
        yield text(match[1]).lower(), escape.sub(rb"\1", quoted) if quoted is not None else bare


def text(octets: bytes) -> str:
    """Octets without a label: UTF-8 when they are, otherwise Latin-1."""
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets.decode("latin-1")


def in_charset(octets: bytes, charset: str) -> str:
    """Octets in a charset that a stranger named; an unknown one is taken for Latin-1."""
    charset = charset.lower()
    return octets.decode(charset, "replace") if charset in _CHARSETS else text(octets)


# Boundaries


def boundary_of(parameters: Parameters, habits: int) -> bytes | None:
    """The boundary that a reader with these habits takes; None when there is none."""
    given = _boundaries(parameters, habits)
    if not given:
        return None
    chosen = given[-1] if habits & LAST_PARAMETER else given[0]
    if habits & DECODES_WORDS and b"=?" in chosen:
        chosen = decode_words(text(chosen)).encode("utf-8", "replace")
    return chosen[:_BOUNDARY_LIMIT].rstrip()


def boundary_habits(parameters: Parameters) -> int:
    """The habits with which another boundary might be taken."""
    habits, plain, extended = 0, parameters.all("boundary"), _extended(parameters, "boundary")
    if len(plain) > 1 or len(extended) > 1:
        habits |= LAST_PARAMETER
    if extended:
        habits |= EXTENDED_FIRST
    if any(b"=?" in boundary for boundary in plain):
        habits |= DECODES_WORDS
    return habits


def _boundaries(parameters: Parameters, habits: int) -> list[bytes]:
    plain = parameters.all("boundary")
    if plain and not habits & EXTENDED_FIRST:
        return plain
    return [name.encode("utf-8", "replace") for name in _extended(parameters, "boundary")] or plain


# Names


def file_names(disposition: Sequence[Parameters], types: Sequence[Parameters]) -> tuple[str, ...]:
    """Every name declared: Content-Disposition's filename before Content-Type's name, decoded before raw."""
    found: dict[str, None] = {}
    for values, key in ((disposition, "filename"), (types, "name")):
        for parameters in values:
            for name in _names(parameters, key):
                if name:
                    found[bounded(name)] = None
    return tuple(found)


def bounded(name: str) -> str:
    """A name of at most 4096 characters; what is cut out is its middle, for rules look at the end."""
    return name if len(name) <= _NAME_LIMIT else name[: _NAME_LIMIT // 2] + name[-_NAME_LIMIT // 2 :]


def _names(parameters: Parameters, key: str) -> list[str]:
    if not any(name.startswith(key) for name, _ in parameters.pairs):
        return []
    names: list[str] = []
    for raw in parameters.all(key):
        plain = text(raw)
        names += [decode_words(plain), plain]
    extended = [form for name in _extended(parameters, key) for form in (decode_words(name), name)]
    return [*extended, *names]


def _extended(parameters: Parameters, key: str) -> list[str]:
    """The RFC 2231 forms of a parameter: `key*` (each of them), and `key*0`, `key*1*` ... put together."""
    names = [_with_charset(value) for value in parameters.all(key + "*")]
    sections: dict[int, list[tuple[bytes, bool]]] = {}
    for name, value in parameters.pairs:
        match = _SECTION.fullmatch(name) if name.startswith(key) else None
        if match and match[1] == key:
            sections.setdefault(int(match[2]), []).append((value, bool(match[3])))
    if sections:
        numbers = sorted(sections)
        unbroken = [number for place, number in enumerate(numbers) if place == number]
        if 0 < len(unbroken) < len(numbers):  # some readers stop where a number is missing
            names.append(_joined([sections[number][0] for number in unbroken]))
        names.append(_joined([sections[number][0] for number in numbers]))
        if any(len(given) > 1 for given in sections.values()):
            names.append(_joined([sections[number][-1] for number in numbers]))
            names.append(_joined([section for number in numbers for section in sections[number]]))
    return list(dict.fromkeys(names))


def _joined(sections: Sequence[tuple[bytes, bool]]) -> str:
    """Sections in order; only the first may carry the charset (RFC 2231 4.1)."""
    charset, first = "", sections[0][0]
    if sections[0][1] and first.count(b"'") >= 2:
        label, _, first = first.split(b"'", 2)
        charset = text(label)
    values = [first, *(value for value, _ in sections[1:])]
    octets = b"".join(_unpercent(v) if s[1] else v for v, s in zip(values, sections, strict=True))
    return in_charset(octets, charset)


def _with_charset(value: bytes) -> str:
    label, _, rest = value.split(b"'", 2) if value.count(b"'") >= 2 else (b"", b"", value)
    return in_charset(_unpercent(rest), text(label))


def _unpercent(value: bytes) -> bytes:
    return _PERCENT.sub(lambda m: bytes.fromhex(m[1].decode()), value)


def decode_words(value: str) -> str:
    """RFC 2047 encoded words anywhere in a text decoded, blanks between two of them dropped (6.2)."""
    if "=?" not in value:
        return value
    return _WORD.sub(_decoded_word, _BETWEEN_WORDS.sub(r"\1\2", value))


def _decoded_word(match: re.Match[str]) -> str:
    charset, kind, content = match[1], match[2].lower(), match[3].encode("utf-8", "replace")
    if kind == "q":
        return in_charset(binascii.a2b_qp(content, header=True), charset)
    try:
        return in_charset(base64.b64decode(content + b"=="), charset)
    except binascii.Error:
        return match[0]

"""MIME parameters - the values of Content-* fields: type, parameters, and every name a file might be known by.

Mail readers disagree on which of several names counts, so all candidates are kept: RFC 2231 continuations and
charsets decoded, RFC 2047 words decoded although they have no business there, and the raw form when it differs.

**Failures:** none; what cannot be read is skipped. Everything is bounded: the value's length, the number of parameters.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

_VALUE_LIMIT = 65_536
_PARAMETER_LIMIT = 200
_NAME_LIMIT = 4096

_TYPE = re.compile(rb"\s*([^;\s(]*)")
_PARAMETER = re.compile(rb';\s*([^\s=;"]+)\s*=\s*(?:"([^"\\]*(?:\\.[^"\\]*)*)"?|([^;]*))', re.S)
_ESCAPE = re.compile(rb"\\(.)", re.S)
_SECTION = re.compile(r"([^*]+)\*(\d{1,4})(\*?)")
_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_FOLD = re.compile(rb"[\r\n\x00]+")
_WORD = re.compile(r"=\?([^?*\s]{1,40})(?:\*[^?]*)?\?([bBqQ])\?([^?]*)\?=")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t]+(=\?)")

# Charsets are looked up only among these: a codec's name from a stranger would otherwise import modules.
_NAMED = """
    utf-8 utf8 us-ascii ascii utf-7 utf-16 utf-16le utf-16be gb2312 gbk gb18030 big5 euc-jp iso-2022-jp shift_jis
    shift-jis euc-kr ks_c_5601-1987 koi8-r koi8-u cp1251 cp1252 macintosh
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
    def parse(cls, value: bytes) -> Parameters:
        value = _FOLD.sub(b"", value[:_VALUE_LIMIT])
        main = _TYPE.match(value)
        word = text(main[1]).lower() if main else ""
        if b";" not in value:
            return cls(word, ())
        return cls(word, tuple(islice(_pairs(value), _PARAMETER_LIMIT)))

    def all(self, name: str) -> list[bytes]:
        return [value for key, value in self.pairs if key == name]


def _pairs(value: bytes) -> Iterator[tuple[str, bytes]]:
    for match in _PARAMETER.finditer(value):
        name, quoted, bare = text(match[1]).lower(), match[2], match[3]
        if quoted is not None:
            yield name, _ESCAPE.sub(rb"\1", quoted)
            continue
        bare = bare.strip()
        yield name, bare
        if b" " in bare:  # some readers stop an unquoted value at the blank, as RFC 2045 5.1 says
            yield name, bare.split(None, 1)[0]


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
    names: list[str] = []
    for raw in parameters.all(key):
        plain = text(raw)
        names += [decode_words(plain), plain]
    extended = _extended(parameters, key)
    return [*extended, *names]


def _extended(parameters: Parameters, key: str) -> list[str]:
    """The RFC 2231 forms of a parameter: `key*` (each of them), and `key*0`, `key*1*` ... put together."""
    names = [_with_charset(value) for value in parameters.all(key + "*")]
    sections: dict[int, tuple[bytes, bool]] = {}
    for name, value in parameters.pairs:
        match = _SECTION.fullmatch(name) if name.startswith(key) else None
        if match and match[1] == key:
            sections.setdefault(int(match[2]), (value, bool(match[3])))
    if sections:
        names.append(_joined([sections[number] for number in sorted(sections)]))
    return [form for name in names for form in dict.fromkeys((decode_words(name), name))]


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

"""Header text - what a person reads in a header field: encoded words decoded, nothing in it that could do harm.

For logs, records and lists. The result is shown and searched, never sent on or believed. Reads a bounded number of
octets, so its time is linear whatever it is given.

**Failures:** none; what cannot be decoded stays as it stands there.
"""

from __future__ import annotations

from email.errors import HeaderParseError
from email.header import decode_header

_OCTETS_LIMIT = 2048
_CONTROLS = {code: f"\\x{code:02X}" for code in (*range(32), *range(127, 160))}
_CONTROLS.update({code: f"\\x{code - 0xDC00:02X}" for code in range(0xDC80, 0xDD00)})  # octets that are no UTF-8
_CONTROLS.update(dict.fromkeys(range(0xD800, 0xDC80), "\\xED"))
_CONTROLS[9] = " "


def readable(value: bytes | None, limit: int = 255) -> str:
    """The text of an unfolded field (RFC 2047), at most `limit` characters, printable; "" for None."""
    if not value:
        return ""
    raw = value[:_OCTETS_LIMIT].decode("utf-8", "surrogateescape")
    return printable(_decoded(raw) if "=?" in raw else raw, limit)


def printable(text: str, limit: int = 255) -> str:
    """The text without control characters and octets that are no UTF-8, which become \\xNN; at most `limit` long."""
    return text.translate(_CONTROLS)[:limit]


def _decoded(raw: str) -> str:
    try:
        words = decode_header(raw)
        return "".join(_word(word, charset) for word, charset in words)
    except (HeaderParseError, LookupError, UnicodeError, ValueError):
        return raw


def _word(word: str | bytes, charset: str | None) -> str:
    if isinstance(word, str):
        return word
    return word.decode(charset or "raw-unicode-escape", "replace")  # the latter is how decode_header hands out text

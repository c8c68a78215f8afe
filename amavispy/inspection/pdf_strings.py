"""pdf_strings - the two notations of a string in PDF, and the characters that it stands for.

Source: ISO 32000-1, 7.3.4 (notations) and 7.9.2.2 (text strings).

**Failures:** none.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(rb"\\([nrtbf()\\]|[0-7]{1,3}|\r?\n|\r)", re.S)
_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}


def string_of(hexadecimal: bytes | None, literal: bytes | None) -> bytes:
    """The octets of a string: what stands between its angle brackets, or between its parentheses."""
    if hexadecimal is None:
        return _ESCAPE.sub(_plain, literal or b"")
    digits = b"".join(hexadecimal.split())
    return bytes.fromhex((digits + b"0" * (len(digits) % 2)).decode("ascii"))


def _plain(match: re.Match[bytes]) -> bytes:
    text = match[1]
    if text[0] in b"01234567":
        return bytes((int(text, 8) & 255,))
    return b"" if text[-1:] in (b"\n", b"\r") else _ESCAPES.get(text, text)


def text_of(raw: bytes) -> str:
    """A text string: UTF-16 or UTF-8 with a mark, else near enough to Latin-1."""
    if raw.startswith((b"\xfe\xff", b"\xff\xfe")):
        return raw.decode("utf-16", "replace")
    return raw[3:].decode("utf-8", "replace") if raw.startswith(b"\xef\xbb\xbf") else raw.decode("latin-1")

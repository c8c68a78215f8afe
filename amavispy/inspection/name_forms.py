"""Name forms - under which other names a client or an operating system might know a file than the one it was sent with.

`forms("setup.exe.  ")` is ("setup.exe",): Windows drops dots and blanks at the end. In the same way: the last part of a
path; what stands before the colon of an NTFS stream or before a NUL; a name cut to the 255 characters that file systems
have room for; percent-encoded and entity-encoded characters; full-width letters and other compatibility characters
(Unicode NFKC, as file managers and code page conversions fold them); dots that only look like dots; invisible
characters and controls of text direction; combining marks; characters that Windows forbids.

The forms stand in an order: each is one reading of the name, the first the most usual. Names of plain ASCII, nearly
all, have none and cost one match.

**Failures:** none. Of a name longer than any file system allows only beginning and end are looked at.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from html import unescape
from urllib.parse import unquote

_LIMIT = 1024
_FILE_NAME = 255
_ROUNDS = 3

_PLAIN = re.compile(r"[A-Za-z0-9_(\[{@#$!+=-](?:[A-Za-z0-9 _()\[\]{}@#$!+=,;.~^'-]{0,250}[A-Za-z0-9_)\]}@#$!+=~^-])?")
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f<>\"|?*]")
_DRIVE = re.compile(r"[A-Za-z]:[/\\]")
_AROUND = " '`\u2018\u2019\u201c\u201d"

# Full stops and middle dots of all scripts that NFKC does not already fold.
_DOTS = (
    "\u3002\u00b7\u0387\u2027\u2219\u22c5\u30fb\u0589\u06d4\u0701\u0702"
    "\u1362\u166e\u1803\u1809\u2cf9\u2e33\u2e3c\ua4f8\ua60e\ua6f3"
)
_BLANKS = "\u1680\u2800\u3164\u115f\u1160\uffa0"
# Default ignorable code points (Unicode 15, DerivedCoreProperties), direction controls among them.
_IGNORED = (
    (0xAD, 0xAD),
    (0x34F, 0x34F),
    (0x61C, 0x61C),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFF0, 0xFFFB),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
_FOLDED: dict[int, str | None] = {
    **{point: None for first, last in _IGNORED for point in range(first, last + 1)},
    **dict.fromkeys(map(ord, _DOTS), "."),
    **dict.fromkeys(map(ord, _BLANKS), " "),
}


def forms(name: str) -> tuple[str, ...]:
    """Other readings of a file name, without the name itself; () for a plain one."""
    if _PLAIN.fullmatch(name):
        return ()
    found: dict[str, None] = {}
    for written in _decoded(_bounded(name)):
        for text in _cut(_canonical(written)):
            found[_tidy(text)] = None
    found.pop(name, None)
    found.pop("", None)
    return tuple(found)


def _decoded(name: str) -> Iterator[str]:
    """The name, and what percent signs and entities in it stand for; some clients decode more than once."""
    yield name
    for _ in range(_ROUNDS):
        decoded = unescape(unquote(name)) if "%" in name or "&" in name else name
        if decoded == name:
            return
        name = decoded
        yield name


def _canonical(name: str) -> str:
    return _bounded(unicodedata.normalize("NFKC", name.translate(_FOLDED)).translate(_FOLDED))


def _bounded(name: str) -> str:
    """Beginning and end: one compatibility character may become eighteen others."""
    return name if len(name) <= _LIMIT else name[: _LIMIT // 2] + name[-_LIMIT // 2 :]


def _cut(name: str) -> Iterator[str]:
    """The whole, and the beginnings that are left of it in places that end names early."""
    yield name
    if not name.isascii():
        yield "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    if "\0" in name:
        yield name.partition("\0")[0]
    if ":" in name:
        yield (name[2:] if _DRIVE.match(name) else name).partition(":")[0]
    if len(name) > _FILE_NAME:
        yield name[:_FILE_NAME]
    if len(name.encode("utf-8", "surrogatepass")) > _FILE_NAME:
        yield name.encode("utf-8", "surrogatepass")[:_FILE_NAME].decode("utf-8", "ignore")


def _tidy(name: str) -> str:
    """The last part of a path, without what cannot stand in a name, or not at its end."""
    base = _FORBIDDEN.sub("", name).replace("\\", "/").rstrip("/. ").rpartition("/")[2]
    return base.strip(_AROUND).rstrip(". ")

"""ole_package - the file inside of an OLE package: what one gets by dragging a file into a document.

Two forms: the Ole10Native stream of a compound file, and the OLE 1.0 object that RTF writes as hexadecimal digits.

Source: MS-OLEDS 2.2 (OLE 1.0) and 2.3.6 (OLENativeStream); the packager's own layout is not published, this is what
its files look like.

**Failures:** none: what has no such layout is given as it is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from amavispy.inspection.packed import Found, slices, unique

_COMPOUND = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_NAME = 1024


def package(native: bytes) -> Found:
    """The file in a packager's native data, under all its names; the data as they are when they are none."""
    at = 4 if native[4:6] == b"\2\0" else 0  # behind the size of it all, which an RTF object does not have
    try:
        return _file(native, at)
    except (struct.error, ValueError):
        return Found((), slices(native, at))


def _file(native: bytes, at: int) -> Found:
    if struct.unpack_from("<H", native, at)[0] != 2:
        raise ValueError("no package")
    label, at = _zero_ended(native, at + 2)
    file, at = _zero_ended(native, at)
    at += 4  # what kind of link this is
    (length,) = struct.unpack_from("<I", native, at)
    command = native[at + 4 : at + 4 + min(length, _NAME)]
    at += 4 + length
    (size,) = struct.unpack_from("<I", native, at)
    start, end = at + 4, min(at + 4 + size, len(native))
    texts = [*_wide_texts(native, at + 4 + size)]
    old = [_base(raw.split(b"\0")[0].decode("cp1252", "replace")) for raw in (label, file, command)]
    return Found(unique(*texts, *old), slices(native, start, end), declared=end - start)


def _zero_ended(octets: bytes, at: int) -> tuple[bytes, int]:
    end = octets.index(b"\0", at, at + _NAME)
    return octets[at:end], end + 1


def _wide_texts(octets: bytes, at: int) -> Iterator[str]:
    """The three names once more in UTF-16, in newer files."""
    for _ in range(3):
        if at + 4 > len(octets):
            return
        (length,) = struct.unpack_from("<I", octets, at)
        if length > _NAME:
            return
        yield _base(octets[at + 4 : at + 4 + 2 * length].decode("utf-16-le", "replace").rstrip("\0"))
        at += 4 + 2 * length


def _base(path: str) -> str:
    return path.replace("/", "\\").rpartition("\\")[2]


def old_object(octets: bytes) -> Iterator[Found]:
    """What an OLE 1.0 object embeds: a package's file, a compound file, or its native data."""
    try:
        at, texts = 8, []
        for _ in range(3):
            (length,) = struct.unpack_from("<I", octets, at)
            texts.append(octets[at + 4 : at + 4 + min(length, _NAME)].rstrip(b"\0"))
            at += 4 + length
        (size,) = struct.unpack_from("<I", octets, at)
    except struct.error:
        at, size, texts = -4, len(octets), [b""]
    native = octets[at + 4 : at + 4 + size]
    if texts[0].lower() == b"package":
        yield package(native)
        return
    # What the header says need not be what readers look for.
    start = octets.find(_COMPOUND)
    yield Found((), slices(octets, start) if start >= 0 else slices(native))

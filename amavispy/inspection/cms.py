"""CMS - what an opaque S/MIME part holds: the mail that was signed or compressed, or that it is encrypted.

In: the octets of a part that should be a CMS ContentInfo (RFC 5652 3), in DER or, as streaming signers write it, in
BER with indefinite lengths; or the same in PEM. Out: the content inside, not verified in any way: who signed it makes
no difference to what it is.

**Failures:** none; broken structures give None. Linear in the size, no recursion.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

_SIGNED = bytes.fromhex("2a864886f70d010702")
_COMPRESSED = bytes.fromhex("2a864886f70d0109100109")
_ENCRYPTED = frozenset(
    bytes.fromhex(oid)
    for oid in ("2a864886f70d010703", "2a864886f70d010704", "2a864886f70d010706", "2a864886f70d0109100117")
)
_PEM = re.compile(rb"-----BEGIN (?:PKCS ?#?7|CMS)[^\n]*\n([A-Za-z0-9+/=\s]*)")
_CONTENT_TYPES = (_SIGNED, _COMPRESSED, *_ENCRYPTED)

_OID, _OCTETS, _SEQUENCE, _CONSTRUCTED_OCTETS, _EXPLICIT = 0x06, 0x04, 0x30, 0x24, 0xA0


@dataclass(frozen=True, slots=True)
class CmsContent:
    """What was found: `octets` None when it is encrypted, or not there (a detached signature)."""

    octets: bytes | None
    is_encrypted: bool = False


@dataclass(frozen=True, slots=True)
class _Element:
    """One TLV: its content is octets[start:end], the next element begins at `after`."""

    tag: int
    start: int
    end: int
    after: int


def looks_like_cms(octets: bytes | memoryview) -> bool:
    """A cheap look at any part's first octets."""
    head = bytes(octets[:32])
    return (head[:1] == b"\x30" and any(oid in head for oid in _CONTENT_TYPES)) or head.startswith(
        (b"-----BEGIN PKCS", b"-----BEGIN CMS")
    )


def cms_content(octets: bytes, limit: int) -> CmsContent | None:
    """The content of a CMS structure, at most `limit` octets of it; None when this is none."""
    if pem := _PEM.match(octets):
        try:
            octets = base64.b64decode(pem[1])
        except binascii.Error:
            return None
    try:
        return _content(octets, limit)
    except (IndexError, ValueError, zlib.error):
        return None


def _content(octets: bytes, limit: int) -> CmsContent | None:
    kind, wrapped = _type_and_content(octets, _element(octets, 0))
    if kind in _ENCRYPTED:
        return CmsContent(None, is_encrypted=True)
    if kind not in (_SIGNED, _COMPRESSED) or wrapped is None:
        return None
    for field in _children(octets, _element(octets, wrapped.start)):
        if field.tag == _SEQUENCE:
            _, inner = _type_and_content(octets, field)
            if inner is not None:
                data = b"".join(_octet_string(octets, _element(octets, inner.start)))
                return CmsContent(zlib.decompressobj().decompress(data, limit) if kind == _COMPRESSED else data)
    return CmsContent(None)


def _type_and_content(octets: bytes, info: _Element) -> tuple[bytes, _Element | None]:
    """A ContentInfo's object identifier and its explicit [0], None when that is left out."""
    kind, content = b"", None
    for child in _children(octets, info):
        if child.tag == _OID:
            kind = octets[child.start : child.end]
        elif child.tag == _EXPLICIT:
            content = child
            break
    return kind, content


def _octet_string(octets: bytes, string: _Element) -> Iterator[bytes]:
    """The pieces of an OCTET STRING, primitive or constructed."""
    waiting = [string]
    while waiting:
        element = waiting.pop()
        if element.tag == _OCTETS:
            yield octets[element.start : element.end]
        elif element.tag == _CONSTRUCTED_OCTETS:
            waiting += reversed(list(_children(octets, element)))


def _children(octets: bytes, parent: _Element) -> Iterator[_Element]:
    at = parent.start
    while at < parent.end:
        child = _element(octets, at)
        yield child
        at = child.after


def _element(octets: bytes, at: int) -> _Element:
    """The element at `at`. One of indefinite length ends before its end-of-contents octets (X.690 8.1.5)."""
    tag, start, length = _tag_and_length(octets, at)
    if length >= 0:
        end = min(start + length, len(octets))
        return _Element(tag, start, end, end)
    depth, position = 1, start
    while depth:
        inner_tag, inner_start, inner_length = _tag_and_length(octets, position)
        if inner_length < 0:
            depth, position = depth + 1, inner_start
        elif inner_tag == 0 and inner_length == 0:
            depth, position = depth - 1, inner_start
        else:
            position = inner_start + inner_length
    return _Element(tag, start, position - 2, position)


def _tag_and_length(octets: bytes, at: int) -> tuple[int, int, int]:
    """Tag, where the content starts, and its length, -1 when indefinite. IndexError behind the end."""
    tag, first = octets[at], octets[at + 1]
    if first == 0x80:
        return tag, at + 2, -1
    if first < 0x80:
        return tag, at + 2, first
    count = first & 0x7F
    return tag, at + 2 + count, int.from_bytes(octets[at + 2 : at + 2 + count], "big")

"""MIME contents - what a leaf of a mail's structure holds that is no archive: files in texts, texts in UTF-16, signed
and wrapped content, fragments of messages.

In: a node whose types are known. Out: `Found` parts to hang below it. Attached messages are the MIME stage's.

**Failures:** none; what cannot be decoded gives nothing.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple

from amavispy.inspection.cms import cms_content, looks_like_cms
from amavispy.inspection.macintosh import apple_forks, is_apple_file, is_macbinary, macbinary_forks
from amavispy.inspection.mime_parameters import text
from amavispy.inspection.text_encodings import encoded_files, has_encoded_files
from amavispy.inspection.transfer_encodings import decode_base64
from amavispy.inspection.tree import Node
from amavispy.mail.verdict import Defect, DefectKind

PARTIAL, EXTERNAL = "message/partial", "message/external-body"
_TEXTS = frozenset(("asc", "txt", "html", "xml", "sgml", "uue", "hqx", "mail", "rtf"))
_OCTETS = ("application/octet-stream",)
_MESSAGE = ("message/rfc822",)
_BASE64_LINES = re.compile(rb"(?:[A-Za-z0-9+/]{40,76}={0,2}\r?\n){2,}[A-Za-z0-9+/=]*|[A-Za-z0-9+/]{60,}={0,2}")
_RUNS = 100
_PROBE = 512
_BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


class Found(NamedTuple):
    """A part to hang below the one it was found in; `by` names the decoder to the budget."""

    types: tuple[str, ...]
    names: tuple[str, ...]
    octets: bytes
    by: str


def has_contents(node: Node) -> bool:
    """Is there anything in it? Asked of every leaf, so it looks at little."""
    octets = node.octets
    if not octets:
        return False
    if _is_text(node) and (has_encoded_files(octets) or _wide_charset(octets) or PARTIAL in node.types):
        return True
    return looks_like_cms(octets) or is_apple_file(octets) or _is_wrapped(node)


def contents(node: Node, limit: int) -> Iterator[Found]:
    """Everything in it. A node that cannot be looked into is marked. `limit` bounds what may be inflated."""
    octets = bytes(node.octets or b"")
    if looks_like_cms(octets):
        yield from _signed(node, octets, limit)
    if is_apple_file(octets):
        yield from _forks(apple_forks(octets))
    elif _is_wrapped(node):
        yield from _forks(macbinary_forks(octets))
    if charset := _wide_charset(octets) if _is_text(node) else "":
        node.noted(Defect(DefectKind.WIDE_TEXT))
        yield Found(node.types, (), octets.decode(charset, "replace").encode("utf-8", "replace"), "wide_text")
    if PARTIAL in node.types:
        for run, _ in zip(_BASE64_LINES.finditer(octets), range(_RUNS), strict=False):
            yield Found(_OCTETS, (), decode_base64(run[0]), "partial")
    for name, content in encoded_files(octets):
        if content:
            yield Found(_OCTETS, (text(name),) if name else (), content, "do_uudecode")


def note_kind(node: Node) -> None:
    """What is to be said of messages that are not all there."""
    if PARTIAL in node.types:
        node.marked("U")
        node.noted(Defect(DefectKind.PARTIAL_MESSAGE))
    if EXTERNAL in node.types:
        node.noted(Defect(DefectKind.EXTERNAL_BODY))


def _is_text(node: Node) -> bool:
    return not _TEXTS.isdisjoint(node.short_types) or any(
        kind.startswith("text/") or kind == PARTIAL for kind in node.types
    )


def _is_wrapped(node: Node) -> bool:
    return any("macbinary" in kind for kind in node.types) and is_macbinary(node.octets or b"")


def _wide_charset(octets: bytes | memoryview) -> str:
    """The charset of a text in UTF-16 or UTF-32, by its byte order mark or by where its NULs are; "" for others."""
    head = bytes(octets[:_PROBE])
    for mark, charset in _BOMS:
        if head.startswith(mark):
            return charset
    if b"\0" not in head:
        return ""
    even, odd = head[::2].count(b"\0"), head[1::2].count(b"\0")
    half = len(head) // 2
    if odd > half * 0.6 and even < half * 0.1:
        return "utf-16-le"
    return "utf-16-be" if even > half * 0.6 and odd < half * 0.1 else ""


def _signed(node: Node, octets: bytes, limit: int) -> Iterator[Found]:
    """The entity in an opaque S/MIME part (RFC 8551 3.5); an enveloped one is encrypted."""
    found = cms_content(octets, limit)
    if found and found.is_encrypted:
        node.marked("C")
    elif found and found.octets:
        yield Found(_MESSAGE, (), found.octets, "cms")


def _forks(forks: Iterator[tuple[bytes, bytes]]) -> Iterator[Found]:
    return (Found(_OCTETS, (text(name),) if name else (), content, "macintosh") for name, content in forks)

"""tnef - what a winmail.dat holds: attachments with all their names, and the message's own body.

A TNEF stream is a sequence of attributes; attachments also come as MAPI properties inside one of them, and so does an
attached message, which is TNEF again.

Source: MS-OXTNEF (attributes), MS-OXCDATA 2.11 (property values), MS-OXPROPS.

**Failures:** CannotUnpack when it does not begin like TNEF; a stream that breaks off is marked U.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from amavispy.inspection.budget import Budget
from amavispy.inspection.compressed_rtf import rtf_of
from amavispy.inspection.packed import Buffer, CannotUnpack, Found, Packed, Remark, slices, unique

_SIGNATURE = b"\x78\x9f\x3e\x22"
_HEADER = struct.Struct("<BII")

_BODY, _ATTACHMENT_TITLE, _ATTACHMENT_DATA = 0x0002800C, 0x00018010, 0x0006800F
_RENDER_DATA, _ATTACHMENT_PROPERTIES, _MESSAGE_PROPERTIES = 0x00069002, 0x00069005, 0x00069003
_TRANSPORT_NAME = 0x00069001

_DATA_BINARY, _DATA_OBJECT, _TEXT_BODY, _RTF, _HTML = 0x37010102, 0x3701000D, 0x1000, 0x1009, 0x1013
_NAMES = frozenset((0x3001, 0x3704, 0x3707, 0x370D, 0x3712))
_FIXED = {2: 4, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 10: 4, 11: 4, 20: 8, 64: 8, 72: 16}
_STRINGS = frozenset((0x1E, 0x1F, 0x102, 0x0D))
_MULTIPLE = 0x1000
_MOST = 100_000


@dataclass(slots=True)
class _Attachment:
    names: list[str] = field(default_factory=list)
    contents: list[tuple[int, int]] = field(default_factory=list)


def unpack_tnef(packed: Packed, _budget: Budget) -> Iterator[Found | Remark]:
    """The attachments of a TNEF stream, and its bodies."""
    view = memoryview(packed.octets)
    if bytes(view[:4]) != _SIGNATURE:
        raise CannotUnpack("tnef: no signature", "U")
    current: _Attachment | None = None
    end = 6
    for identity, start, size in _attributes(view):
        end = start + size + 2
        if identity == _RENDER_DATA or (current is None and identity in (_ATTACHMENT_TITLE, _ATTACHMENT_DATA)):
            yield from _finished(view, current)
            current = _Attachment()
        if current is not None:
            _note(view, current, identity, start, size)
        if identity in (_BODY, _MESSAGE_PROPERTIES):
            yield from _bodies(view, identity, start, size)
    yield from _finished(view, current)
    if end < len(view):
        yield Remark("U", text="the stream breaks off")


def _attributes(view: memoryview) -> Iterator[tuple[int, int, int]]:
    """Identity, offset and size of each attribute."""
    at = 6
    while at + _HEADER.size <= len(view):
        level, identity, size = _HEADER.unpack_from(view, at)
        at += _HEADER.size
        if level not in (1, 2) or at + size > len(view):
            return
        yield identity, at, size
        at += size + 2


def _note(view: memoryview, attachment: _Attachment, identity: int, start: int, size: int) -> None:
    if identity in (_ATTACHMENT_TITLE, _TRANSPORT_NAME):
        attachment.names.append(_text(view[start : start + size], 0x1E))
    elif identity == _ATTACHMENT_DATA:
        attachment.contents.append((start, size))
    elif identity == _ATTACHMENT_PROPERTIES:
        for tag, at, length in _properties(view, start, start + size):
            if tag >> 16 in _NAMES:
                attachment.names.append(_text(view[at : at + length], tag & 0xFFFF))
            elif tag == _DATA_BINARY:
                attachment.contents.append((at, length))
            elif tag == _DATA_OBJECT and length > 16:
                attachment.contents.append((at + 16, length - 16))  # behind the interface's identifier


def _finished(view: memoryview, attachment: _Attachment | None) -> Iterator[Found]:
    """An attachment; the two places where its octets may be can hold different ones."""
    if attachment is None:
        return
    names = unique(*attachment.names)
    seen: list[memoryview] = []
    for at, size in attachment.contents[:8]:
        piece = view[at : at + size]
        if all(piece != other for other in seen):
            seen.append(piece)
            yield Found(names, slices(piece), declared=size)
    if not seen:
        yield Found(names, (b"",))


def _bodies(view: memoryview, identity: int, start: int, size: int) -> Iterator[Found]:
    if identity == _BODY:
        yield Found((), slices(view, start, start + size), declared=size)
        return
    for tag, at, length in _properties(view, start, start + size):
        if tag >> 16 == _RTF:
            yield Found((), rtf_of(bytes(view[at : at + length])))
        elif tag >> 16 in (_HTML, _TEXT_BODY):
            yield Found((), slices(view, at, at + length), declared=length)


def _properties(view: memoryview, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Tag, offset and size of each property value that has a size of its own."""
    (count,) = struct.unpack_from("<I", view, at) if at + 4 <= end else (0,)
    at += 4
    for _ in range(min(count, _MOST)):
        if at + 4 > end:
            return
        (tag,) = struct.unpack_from("<I", view, at)
        at += 4
        if tag >> 16 >= 0x8000:
            at = _behind_name(view, at, end)
        kind = tag & 0xFFF
        values = 1
        if tag & _MULTIPLE or kind in _STRINGS:
            (values,) = struct.unpack_from("<I", view, at) if at + 4 <= end else (0,)
            at += 4
        if kind not in _STRINGS:
            at += _FIXED.get(kind, 4) * min(values, _MOST)
            continue
        for _ in range(min(values, _MOST)):
            if at + 4 > end:
                return
            (size,) = struct.unpack_from("<I", view, at)
            yield tag, at + 4, min(size, end - at - 4)
            at += 4 + (size + 3) // 4 * 4


def _behind_name(view: memoryview, at: int, end: int) -> int:
    """A named property: the set's identifier, and a number or a name."""
    if at + 24 > end:
        return end
    kind, size = struct.unpack_from("<II", view, at + 16)
    return at + 24 + ((size + 3) // 4 * 4 if kind else 0)


def _text(octets: Buffer, kind: int) -> str:
    raw = bytes(octets)
    decoded = raw.decode("utf-16-le", "replace") if kind == 0x1F else raw.decode("cp1252", "replace")
    return decoded.rstrip("\0")

"""sandbox_frames - what a worker and its decoder child say to each other, as octets.

The worker is believed: an errand is a length and a marshalled tuple, with the packed part's descriptor beside it. The
child is not: what it says comes in small typed frames, and everything in them is checked. No value of the child's is
ever executed, opened or unpickled.

    M  a small member: attributes, names, octets
    F  a member begins: attributes and names       D  octets of it        E  it ends: further attributes
    R  a remark on the packed part
and as the last one
    .  that was all       C  cannot be unpacked: attributes, text         L  a limit was met: text

**Failures:** ValueError for anything else; the worker then ends the child.
"""

from __future__ import annotations

import marshal
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MEMBER, FOUND, DATA, END, REMARK, CANNOT, LIMIT, DONE = b"MFDERCL."

FRAME = struct.Struct("<BI")
LENGTH = struct.Struct("<I")
_LARGEST = 2 << 20
_NAMES = 16
_ATTRIBUTES = frozenset("UCBDLS")
_TYPES = frozenset(("doc-macro", "pdf-js", "pdf-launch"))
_TEXT = 200


@dataclass(frozen=True, slots=True)
class Errand:
    """What a child is to unpack, how, and within which bounds (of the whole mail, as they are left)."""

    kind: str
    names: tuple[str, ...]
    passwords: tuple[str, ...]
    size: int
    quota: int
    left: int
    files: int
    members: int
    seconds: float

    def encode(self) -> bytes:
        bounds = self.size, self.quota, self.left, self.files, self.members, self.seconds
        body = marshal.dumps((self.kind, self.names, self.passwords, *bounds))
        return LENGTH.pack(len(body)) + body

    @classmethod
    def decode(cls, body: bytes) -> Errand:
        return cls(*marshal.loads(body))  # noqa: S302 - from the worker, which could do anything to us anyway


def frame(kind: int, body: bytes = b"") -> bytes:
    return FRAME.pack(kind, len(body)) + body


def pack_texts(texts: Iterable[str]) -> bytes:
    """Texts with their lengths before them: they may contain anything."""
    encoded = (text.encode("utf-8", "surrogatepass") for text in texts)
    return b"".join(LENGTH.pack(len(text)) + text for text in encoded)


def texts_of(body: bytes) -> list[str]:
    found: list[str] = []
    at = 0
    stop = len(body)
    while at < stop:
        if at + 4 > stop or len(found) > _NAMES:
            raise ValueError("texts of a frame are broken")
        size = int.from_bytes(body[at : at + 4], "little")
        at += 4
        if at + size > stop:
            raise ValueError("a text is longer than its frame")
        found.append(body[at : at + size].decode("utf-8", "replace"))
        at += size
    return found


def member_frame(attributes: str, names: Iterable[str], octets: bytes | memoryview) -> bytes:
    """A small member in one piece: the length of its texts, the texts, its octets."""
    texts = pack_texts((attributes, *names))
    return FRAME.pack(MEMBER, 4 + len(texts) + len(octets)) + LENGTH.pack(len(texts)) + texts + octets


def member_of(body: bytes) -> tuple[list[str], bytes]:
    """The texts and the octets of such a frame."""
    size = 4 + int.from_bytes(body[:4], "little")
    if size > len(body):
        raise ValueError("the texts of a member are longer than its frame")
    return texts_of(body[4:size]), body[size:]


def attributes_of(text: str) -> str:
    """The attribute letters of a text, without any others."""
    if not text:
        return ""
    return "".join(letter for letter in dict.fromkeys(text) if letter in _ATTRIBUTES)


def types_of(texts: Iterable[str]) -> tuple[str, ...]:
    """The short types that a child may add to a part."""
    return tuple(text for text in texts if text in _TYPES)


def plain(text: str) -> str:
    """A text of the child's for a log or a header field: short and printable."""
    return "".join(c if " " <= c <= "~" else "?" for c in text[:_TEXT])


class FrameReader:
    """Takes octets as they come and gives frames; a long D frame comes in pieces, as they arrive."""

    def __init__(self) -> None:
        self._rest = b""
        self._data_left = 0

    def frames(self, octets: memoryview) -> Iterator[tuple[int, bytes]]:
        """Every frame that ends in these octets: its kind and its body. To be taken all before the next call."""
        view = memoryview(self._rest + octets) if self._rest else octets
        at, size = 0, len(view)
        while at < size:
            if self._data_left:
                piece = bytes(view[at : at + self._data_left])
                self._data_left -= len(piece)
                at += len(piece)
                yield DATA, piece
                continue
            if at + FRAME.size > size:
                break
            kind, length = FRAME.unpack_from(view, at)
            if length > _LARGEST:
                raise ValueError("a frame is too large")
            start = at + FRAME.size
            if kind == DATA:
                self._data_left, at = length, start
            elif start + length > size:
                break
            else:
                yield kind, bytes(view[start : start + length])
                at = start + length
        self._rest = bytes(view[at:])

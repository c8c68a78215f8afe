"""pdf - what a PDF file carries besides its pages: embedded files, programs it starts, scripts it runs.

Readers repair broken files, so no cross-reference table is believed: every object that stands in the file counts, those
in object streams and of earlier revisions too. Embedded files come out under the names of their file specifications,
scripts without a name; `pdf-js` and `pdf-launch` are added to the file's short types when there is a script or an
action that starts something. A file that only restricts its use is read with the empty password, as readers do.

`looks_loaded` is the quick look that spares ordinary files the way to the child.

Source: ISO 32000-1, 7.3 (objects), 7.5.7 (object streams), 7.11 (file specifications), 12.6 (actions).

**Failures:** CannotUnpack (UC) when a password is missing; streams that break keep their beginning, marked U.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from amavispy.inspection.budget import Budget
from amavispy.inspection.packed import Buffer, Chunk, Damaged, Found, Packed, Remark, unique
from amavispy.inspection.pdf_crypt import Decryption, decryption
from amavispy.inspection.pdf_filters import decoded, filters_of
from amavispy.inspection.pdf_strings import string_of, text_of

_QUICK = 8 << 20  # octets of object streams that a quick look inflates
_OBJECT_STREAM = 16 << 20
_ALL_TEXT = 64 << 20
_OBJECTS = 100_000
_DICTIONARY = 65_536  # octets of an object before its stream that are looked at

_SIGNS = re.compile(
    rb"/(?:EmbeddedFile|JavaScript|JS\s*[(<\d]|Launch\b|Encrypt[\s<]|EF\s*<<|[A-Za-z]{1,12}#[0-9a-fA-F]{2})"
)
_OBJECT_STREAMS = re.compile(rb"/ObjStm\b")
_OBJECT = re.compile(rb"(?<!\d)(\d{1,10})\s{1,20}(\d{1,5})\s{1,20}obj\b")
_STREAM = re.compile(rb"stream(?:\r\n|\n|\r)")
_BODY_ENDS = re.compile(rb"endobj|stream(?=[\r\n])")
_LENGTH = re.compile(rb"/Length\s+(\d{1,12})(?!\d|\s+\d+\s+R)")
_ESCAPED = re.compile(rb"(?<=[/A-Za-z0-9])#([0-9a-fA-F]{2})")

_EMBEDDED = re.compile(rb"/EmbeddedFile\b")
_SCRIPT = re.compile(rb"/JavaScript\b|/JS\s*(?:[(<]|\d)")
_SCRIPT_AT = re.compile(rb"/JS\s+(\d{1,10})\s+\d+\s+R")
_LAUNCH = re.compile(rb"/S\s*/Launch\b|/Launch\s*<<")
_FILES = re.compile(rb"/EF\s*<<([^<>]{0,300})>>")
_REFERENCE = re.compile(rb"(\d{1,10})\s+\d{1,5}\s+R\b")
_NAME = re.compile(
    rb"/(?:UF|F|Desc)\s*(?:\(((?:\\.|[^\\()]|\([^()]{0,200}\)){0,1000})\)|<([0-9a-fA-F\s]{0,2000})>)", re.S
)


def looks_loaded(octets: Buffer) -> bool:
    """Whether anything in it says that the file carries more than pages. A few milliseconds a megabyte."""
    view = bytes(octets) if isinstance(octets, memoryview) else octets
    if _SIGNS.search(view):
        return True
    left = _QUICK
    for match in _OBJECT_STREAMS.finditer(view):
        start = _STREAM.search(view, match.end(), match.end() + _DICTIONARY)
        if not start:
            continue
        try:
            content = zlib.decompressobj().decompress(view[start.end() : start.end() + _QUICK], left)
        except zlib.error:
            return True  # another filter, or broken: the child may find out
        left -= len(content)
        if left <= 0 or _SIGNS.search(content):
            return True
    return False


def unpack_pdf(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """Embedded files and scripts, and a remark when there are scripts or launch actions."""
    document = _Document(packed, budget)
    document.read()
    types = [name for name, is_there in document.signs.items() if is_there]
    if types:
        yield Remark(types=tuple(types), text="active content")
    if document.is_cut:
        yield Remark("U", text="object streams too large to be looked at")
    for each in document.objects:
        if each.stream and (each.number in document.files or _EMBEDDED.search(each.head)):
            yield Found(unique(*document.files.get(each.number, ())), document.content(each, is_file=True))
        elif each.stream and each.number in document.scripts:
            yield Found((), document.content(each))


@dataclass(slots=True)
class _Object:
    """An indirect object: what stands before its stream, and where that is."""

    number: int
    generation: int
    head: bytes
    stream: tuple[int, int] | None = None


@dataclass(slots=True)
class _Document:
    """One file being read. `files` are object numbers of embedded files with their names."""

    packed: Packed
    budget: Budget
    objects: list[_Object] = field(default_factory=list)
    files: dict[int, tuple[str, ...]] = field(default_factory=dict)
    scripts: set[int] = field(default_factory=set)
    signs: dict[str, bool] = field(default_factory=lambda: {"pdf-js": False, "pdf-launch": False})
    crypt: Decryption | None = None
    is_cut: bool = False

    def read(self) -> None:
        octets = self.packed.searchable()
        self.objects = list(_objects(octets, self.budget))
        self.crypt = decryption(octets, {o.number: o.head for o in self.objects}, self.packed.passwords)
        text = 0
        for each in self.objects:
            self._look(each.head, each)
            if each.stream and _OBJECT_STREAMS.search(each.head):
                self.is_cut |= text >= _ALL_TEXT
                for piece in self._object_stream(each) if text < _ALL_TEXT else ():
                    text += len(piece)
                    self._look(_unescaped(piece), None)
            self.budget.check_time()

    def content(self, each: _Object, *, is_file: bool = False) -> Iterator[Chunk]:
        """The octets of an object's stream, decrypted and decoded."""
        start, end = each.stream or (0, 0)
        data: Buffer = memoryview(self.packed.octets)[start:end]
        if self.crypt:
            data = self.crypt.stream(bytes(data), each.number, each.generation, each.head, is_file=is_file)
        return decoded(data, filters_of(each.head))

    def _object_stream(self, each: _Object) -> Iterator[bytes]:
        """The objects of an object stream (7.5.7), in one piece when its table makes no sense."""
        content = bytearray()
        try:
            for chunk in self.content(each):
                content += chunk
                if len(content) > _OBJECT_STREAM:
                    self.is_cut = True
                    break
        except Damaged:
            pass
        first = re.search(rb"/First\s+(\d{1,9})", each.head)
        start = int(first[1]) if first else 0
        offsets = sorted({int(n) for n in content[:start].split()[1::2][:_OBJECTS] if n.isdigit()})
        if not start or not offsets:
            yield bytes(content)
            return
        for offset, following in zip(offsets, [*offsets[1:], len(content)], strict=True):
            yield bytes(content[start + offset : start + following])

    def _look(self, text: bytes, owner: _Object | None) -> None:
        self.signs["pdf-js"] |= bool(_SCRIPT.search(text))
        self.signs["pdf-launch"] |= bool(_LAUNCH.search(text))
        self.scripts.update(int(match[1]) for match in _SCRIPT_AT.finditer(text))
        if b"/EF" not in text:
            return
        found = list(_FILES.finditer(text))
        bounds = [0, *(match.end() for match in found)]
        for index, match in enumerate(found):
            end = found[index + 1].start() if index + 1 < len(found) else len(text)
            names = tuple(self._names(text[bounds[index] : end], owner))
            for reference in _REFERENCE.finditer(match[1]):
                number = int(reference[1])
                self.files[number] = unique(*self.files.get(number, ()), *names)[:16]

    def _names(self, text: bytes, owner: _Object | None) -> Iterator[str]:
        for match in _NAME.finditer(text):
            raw = string_of(match[2], match[1])
            if self.crypt and owner:
                raw = self.crypt.string(raw, owner.number, owner.generation)
            yield text_of(raw)


def _objects(octets: Buffer, budget: Budget) -> Iterator[_Object]:
    """Every indirect object that stands in the file, in order."""
    at, count = 0, 0
    while match := _OBJECT.search(octets, at):
        count += 1
        if count > _OBJECTS:
            budget.foresee_files(count)
        start = match.end()
        end = _BODY_ENDS.search(octets, start, start + _DICTIONARY)
        stop = end.start() if end else min(start + _DICTIONARY, len(octets))
        each = _Object(int(match[1]), int(match[2]), _unescaped(bytes(memoryview(octets)[start:stop])))
        at = max(start, stop)
        if end and end[0] == b"stream":
            each.stream = _stream(octets, end.start(), each.head)
            at = each.stream[1]
        yield each


def _stream(octets: Buffer, at: int, head: bytes) -> tuple[int, int]:
    """Where a stream's data are: by its length when that ends at `endstream`, else up to the next `endstream`."""
    opening = _STREAM.match(octets, at)
    start = opening.end() if opening else at
    if length := _LENGTH.search(head):
        end = start + int(length[1])
        if bytes(memoryview(octets)[end : end + 12]).lstrip().startswith(b"endstream"):
            return start, end
    end = octets.find(b"endstream", start)  # type: ignore[union-attr]
    return start, end if end >= 0 else len(octets)


def _unescaped(text: bytes) -> bytes:
    """Names may hide their letters as #xx (7.3.5)."""
    return _ESCAPED.sub(lambda match: bytes((int(match[1], 16),)), text) if b"#" in text else text

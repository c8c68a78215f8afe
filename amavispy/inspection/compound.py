"""compound - what OLE compound files hold: Office documents with objects and macros, Outlook messages, installers.

Embedded packages, objects and archives come out as members, macros as their source (without a name), an Outlook
message's attachments under their names and its bodies, an installer's streams. `doc-macro` is added to the file's short
types when there is a VBA project or a sheet of Excel 4 macros. Encrypted documents are marked UC.

Source: MS-CFB by olefile; MS-OFFCRYPTO, MS-DOC 2.5.2, MS-XLS 2.4.28 and 2.4.117, MS-OXMSG 2.2.

**Failures:** CannotUnpack (U) when it is no compound file.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import olefile

from amavispy.inspection.budget import Budget
from amavispy.inspection.compressed_rtf import rtf_of
from amavispy.inspection.ole_package import package
from amavispy.inspection.packed import CannotUnpack, Found, Packed, Remark, slices, unique
from amavispy.inspection.vba import source_of

_INSTALLER = "000C1084-0000-0000-C000-000000000046"
_WORTHY = (
    b"MZ",
    b"PK\3\4",
    b"%PDF",
    b"\xd0\xcf\x11\xe0",
    b"MSCF",
    b"Rar!",
    b"7z\xbc\xaf",
    b"{\\rt",
    b"ITSF",
    b"L\0\0\0",
)
_ENCRYPTED = frozenset(("encryptedpackage", "encryptedsummary"))
_PROJECT = frozenset(("dir", "_vba_project", "project", "projectwm"))
_ATTACHMENT, _VALUE = "__attach_version1.0_", "__substg1.0_"
_BODIES = ("1000001e", "1000001f", "10130102", "1013001e", "1013001f")
_NAMES = ("3707001f", "3707001e", "3704001f", "3704001e", "3001001f", "3001001e", "370d001f", "370d001e")
_BOUND_SHEET, _FILE_PASSWORD, _MACRO_SHEET = 0x85, 0x2F, 1
_BIFF = 1 << 20

Path = tuple[str, ...]


def unpack_compound(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """Everything of interest that a compound file holds."""
    try:
        octets = packed.octets
        file = io.BytesIO(octets) if isinstance(octets, (bytes, memoryview)) else octets
        ole = olefile.OleFileIO(file)
        streams: list[Path] = [tuple(path) for path in ole.listdir()]
    except (OSError, ValueError, IndexError, TypeError, struct.error, RecursionError) as fault:
        raise CannotUnpack(f"compound file: {fault}", "U") from fault
    budget.foresee_files(len(streams))
    document = _Document(ole, streams)
    yield from document.remarks()
    if document.is_installer:
        yield from document.installer()
        return
    for path in streams:
        budget.check_time()
        yield from document.members(path)
    yield from document.attachments()


class _Document:
    """An open compound file."""

    def __init__(self, ole: Any, streams: list[Path]) -> None:
        self._ole = ole
        self._streams = streams
        self._last = {path[-1].lower() for path in streams}
        self._projects = {path[:-1] for path in streams if path[-1].lower() in ("dir", "_vba_project")}
        self.is_installer = str(ole.root.clsid) == _INSTALLER

    def remarks(self) -> Iterator[Remark]:
        workbook = b"".join(self._read(path)[:_BIFF] for path in self._streams if path[-1] in ("Workbook", "Book"))
        records = set(_records(workbook))
        if self._projects or (_BOUND_SHEET, _MACRO_SHEET) in records:
            yield Remark(types=("doc-macro",), text="macros")
        is_encrypted = not _ENCRYPTED.isdisjoint(self._last) or (_FILE_PASSWORD, 0) in records
        if is_encrypted or any(self._is_locked(path) for path in self._streams if path[-1] == "WordDocument"):
            yield Remark("UC", text="encrypted document")

    def _is_locked(self, path: Path) -> bool:
        """fEncrypted in the file information block of a Word document."""
        return bool(self._read(path)[11:12] and self._read(path)[11] & 1)

    def members(self, path: Path) -> Iterator[Found]:
        """Members of one stream, if there is any reason to look at it."""
        name = path[-1].lower()
        if name == "\x01ole10native":
            yield package(self._read(path))
        elif path[:-1] in self._projects:
            if name not in _PROJECT and (source := source_of(self._read(path))):
                yield Found((), slices(source))
        elif name.startswith(_VALUE):
            if not any(step.startswith(_ATTACHMENT) for step in path[-2:-1]):
                yield from self._body(path, name[len(_VALUE) :])
        elif name in ("package", "contents") or self._read(path, 4).startswith(_WORTHY):
            content = self._read(path)
            yield Found((), slices(content), declared=len(content))

    def _body(self, path: Path, tag: str) -> Iterator[Found]:
        if tag in _BODIES:
            yield Found((), slices(self._read(path)))
        elif tag == "10090102":
            yield Found((), rtf_of(self._read(path)))

    def attachments(self) -> Iterator[Found]:
        """An Outlook message's attachments, those of attached messages too."""
        for path in self._streams:
            if path[-1].lower() != _VALUE + "37010102" or len(path) < 2:
                continue
            names = []
            for tag in _NAMES:
                spelled = (*path[:-1], f"{_VALUE}{tag.upper()}")
                if self._ole.exists(list(spelled)):
                    charset = "utf-16-le" if tag.endswith("f") else "cp1252"
                    names.append(self._read(spelled).decode(charset, "replace").rstrip("\0"))
            content = self._read(path)
            yield Found(unique(*names), slices(content), declared=len(content))

    def installer(self) -> Iterator[Found]:
        """The streams of a Windows installer; its tables are left out."""
        for path in self._streams:
            name = _installer_name(path[-1])
            if name and not name.startswith("\x05"):
                content = self._read(path)
                yield Found((name.partition(".")[2] or name,), slices(content), declared=len(content))

    def _read(self, path: Path, size: int = -1) -> bytes:
        try:
            content: bytes = self._ole.openstream(list(path)).read(size)
        except (OSError, ValueError, IndexError, TypeError, struct.error):
            return b""
        return content


def _records(workbook: bytes) -> Iterator[tuple[int, int]]:
    """What the records at a workbook's beginning tell: sheets with their kind, and encryption."""
    at = 0
    while at + 4 <= len(workbook):
        kind, size = struct.unpack_from("<HH", workbook, at)
        if kind == _BOUND_SHEET and size >= 6:
            yield kind, workbook[at + 9] if at + 9 < len(workbook) else 0
        elif kind == _FILE_PASSWORD:
            yield kind, 0
        at += 4 + size


def _installer_name(name: str) -> str:
    """A stream's name in clear: two characters of 64 in one of 0x3800 to 0x47FF; "" for a table (0x4840)."""
    if name.startswith("\u4840"):
        return ""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz._"
    out: list[str] = []
    for character in name:
        code = ord(character)
        if 0x3800 <= code < 0x4800:
            out += (alphabet[(code - 0x3800) & 63], alphabet[(code - 0x3800) >> 6])
        elif 0x4800 <= code < 0x4840:
            out.append(alphabet[code - 0x4800])
        else:
            out.append(character)
    return "".join(out)

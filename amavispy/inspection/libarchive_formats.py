"""libarchive_formats - the members of everything that libarchive reads, one chunk at a time.

Formats: 7z, rar, cab, iso, tar, cpio, ar, xar, lha, rpm, zip; filters: zst, lz4, lz, Z, lzma. Each unpacker allows one
format only, so that nothing is guessed.

**Failures:** CannotUnpack when libarchive does not know what it sees, and when there is damage before the first
member. Damage further on ends the archive with a nameless member marked U (UC when it is encryption that stops it),
so that another tool is tried and, failing that, the part is reported.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from libarchive import ffi
from libarchive.exception import ArchiveError
from libarchive.read import ArchiveRead, new_archive_read

from amavispy.inspection.budget import Budget
from amavispy.inspection.packed import CannotUnpack, Damaged, Found, Packed, Remark, Unpacker, derived

_BLOCK = 1 << 18
_IS_ENCRYPTED = ffi.libarchive.archive_entry_is_encrypted
_IS_ENCRYPTED.argtypes, _IS_ENCRYPTED.restype = (ctypes.c_void_p,), ctypes.c_int
_ADD_PASSPHRASE = ffi.libarchive.archive_read_add_passphrase
_ADD_PASSPHRASE.argtypes, _ADD_PASSPHRASE.restype = (ctypes.c_void_p, ctypes.c_char_p), ctypes.c_int


def unpacker(format_name: str, filter_name: str = "none", signature: bytes = b"") -> Unpacker:
    """An unpacker of one of libarchive's formats; with a `signature` the archive may begin behind something else."""

    def unpack(packed: Packed, _budget: Budget) -> Iterator[Found | Remark]:
        if (start := packed.searchable().find(signature)) > 0:
            packed = replace(packed, octets=memoryview(packed.octets)[start:], descriptor=None)
        for count, found in enumerate(members(packed, format_name, filter_name=filter_name)):
            if not found.names and not count:
                raise CannotUnpack(f"{format_name}: damaged or unknown", found.attributes)
            yield found

    return unpack


def filter_unpacker(filter_name: str, endings: dict[str, str]) -> Unpacker:
    """An unpacker of a single compressed file."""

    def unpack(packed: Packed, _budget: Budget) -> Iterator[Found | Remark]:
        names = derived(packed.names, endings)
        for found in members(packed, "raw", filter_name=filter_name):
            if found.chunks is None:
                raise CannotUnpack(f"{filter_name}: damaged", "U")
            yield found._replace(names=names)

    return unpack


def members(
    packed: Packed, format_name: str, wanted: frozenset[str] | None = None, filter_name: str = "none"
) -> Iterator[Found]:
    """The members (those `wanted`, when given) in the archive's order."""
    buffer = ctypes.create_string_buffer(_BLOCK)
    try:
        with _reader(packed, format_name, filter_name) as archive:
            for entry in archive:
                name = _name(entry)
                if wanted is None or name in wanted:
                    yield _found(entry, name, buffer, bool(packed.passwords))
    except ArchiveError as fault:
        yield Found((), attributes=_attributes(str(fault)))


@contextmanager
def _reader(packed: Packed, format_name: str, filter_name: str) -> Iterator[Any]:
    first, *others = format_name.split()
    with new_archive_read(first, filter_name) as archive:
        for other in others:
            ffi.get_read_format_function(other)(archive)
        for password in packed.passwords:
            _ADD_PASSPHRASE(archive, password.encode())
        if packed.descriptor is not None:
            os.lseek(packed.descriptor, 0, os.SEEK_SET)
            ffi.read_open_fd(archive, packed.descriptor, _BLOCK)
        else:
            octets = packed.octets if isinstance(packed.octets, bytes) else bytes(memoryview(packed.octets))
            start = ctypes.cast(ctypes.c_char_p(octets), ctypes.c_void_p)
            ffi.read_open_memory(archive, start, len(octets))
        yield ArchiveRead(archive)


def _name(entry: Any) -> str:
    pathname = entry.pathname
    return pathname.decode("utf-8", "replace") if isinstance(pathname, bytes) else str(pathname or "")


def _found(entry: Any, name: str, buffer: Any, has_passwords: bool) -> Found:
    if entry.isdir:
        return Found((name,), attributes="D")
    if entry.issym or entry.islnk:
        return Found((name,), attributes="L")
    if not entry.isfile and entry.filetype:  # ar may leave it unset
        return Found((name,), attributes="S")
    if _IS_ENCRYPTED(entry._entry_p) and not has_passwords:
        return Found((name,), attributes="UC")
    return Found((name,), _blocks(entry._archive_p, buffer), declared=entry.size or 0)


def _blocks(archive: Any, buffer: Any) -> Iterator[bytes]:
    try:
        while (size := ffi.read_data(archive, buffer, _BLOCK)) > 0:
            yield ctypes.string_at(buffer, size)
    except ArchiveError as fault:
        raise Damaged(str(fault), _attributes(str(fault))) from fault
    if size < 0:
        raise Damaged("partial content")


def _attributes(fault: str) -> str:
    lowered = fault.lower()
    return "UC" if "encrypt" in lowered or "passphrase" in lowered else "U"

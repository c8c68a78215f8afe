"""archives - which unpacker takes which short type apart, in the decoder child and in the tool child.

`UNPACKERS` is what this program can do itself and through libarchive, `FALLBACKS` which external tools are asked when
that is not enough: a format nobody else reads, a method that is not supported, a password to try. Both are tables to
be read, nothing more; `unpacking` goes through them.

`is_worth_unpacking` spares ordinary documents the way to the child: most PDF and RTF files carry nothing.

**Failures:** none.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from types import MappingProxyType

from amavispy.inspection.compound import unpack_compound
from amavispy.inspection.compressed import unpack_bzip2, unpack_gzip, unpack_xz
from amavispy.inspection.libarchive_formats import filter_unpacker, unpacker
from amavispy.inspection.onenote import unpack_onenote
from amavispy.inspection.packed import Buffer, Way
from amavispy.inspection.pdf import looks_loaded, unpack_pdf
from amavispy.inspection.rtf import holds_objects, unpack_rtf
from amavispy.inspection.self_extracting import unpack_program
from amavispy.inspection.tnef import unpack_tnef
from amavispy.inspection.zip_files import unpack_zip

UNPACKERS: Mapping[str, Way] = MappingProxyType(
    {
        "zip": Way("do_unzip", unpack_zip),
        "kmz": Way("do_unzip", unpack_zip),
        "gz": Way("do_gunzip", unpack_gzip),
        "bz2": Way("do_bunzip2", unpack_bzip2),
        "xz": Way("do_unxz", unpack_xz),
        "lzma": Way("do_unxz", unpack_xz),
        "zst": Way("do_unzstd", filter_unpacker("zstd", {".zst": "", ".tzst": ".tar"})),
        "lz4": Way("do_unlz4", filter_unpacker("lz4", {".lz4": ""})),
        "lz": Way("do_lunzip", filter_unpacker("lzip", {".lz": "", ".tlz": ".tar"})),
        "Z": Way("do_uncompress", filter_unpacker("compress", {".z": "", ".taz": ".tar"})),
        "tar": Way("do_pax_cpio", unpacker("tar")),
        "cpio": Way("do_pax_cpio", unpacker("cpio")),
        "a": Way("do_ar", unpacker("ar")),
        "deb": Way("do_ar", unpacker("ar")),
        "rpm": Way("do_rpm", unpacker("cpio", "all")),
        "7z": Way("do_7zip", unpacker("7zip", signature=b"7z\xbc\xaf\x27\x1c")),
        "rar": Way("do_unrar", unpacker("rar rar5", signature=b"Rar!\x1a\x07")),
        "cab": Way("do_cabextract", unpacker("cab", signature=b"MSCF")),
        "iso": Way("do_iso", unpacker("iso9660")),
        "xar": Way("do_xar", unpacker("xar")),
        "lha": Way("do_lha", unpacker("lha")),
        "cdf-ms": Way("do_ole", unpack_compound),
        "rtf": Way("do_ole", unpack_rtf),
        "one": Way("do_onenote", unpack_onenote),
        "pdf": Way("do_pdf", unpack_pdf),
        "tnef": Way("do_tnef", unpack_tnef),
        "exe": Way("do_executable", unpack_program),
    }
)

_SEVEN = ("7zz",)
_BOTH = ("7zz", "unar")
_UNAR = ("unar",)

FALLBACKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        **dict.fromkeys(("7z", "cab", "iso", "xar", "cpio", "rpm", "deb", "a", "Z"), _SEVEN),
        **dict.fromkeys(("chm", "wim", "szdd", "img", "vhd", "vhdx", "vmdk", "qcow", "dmg"), _SEVEN),
        **dict.fromkeys(("zip", "kmz", "lha", "arj"), _BOTH),
        **dict.fromkeys(("rar", "ace", "arc", "zoo", "sit"), _UNAR),
        "exe": _SEVEN,
        "lzo": ("lzop",),
        "lrz": ("lrzip",),
    }
)

# What is an archive and cannot be looked into when nobody here reads it.
LOCKED = frozenset((*UNPACKERS, *FALLBACKS, "installshield", "F", "bz"))

_WORTH: Mapping[str, Callable[[Buffer], bool]] = MappingProxyType({"pdf": looks_loaded, "rtf": holds_objects})


_CARVED = frozenset(("7z", "rar", "cab"))


def kinds(shorts: Iterable[str], table: Container[str], octets: Buffer) -> list[str]:
    """The short types of a file by which there may be something in it: it can be several things at once.

    What stands behind a program is carved out of it, so the types that it has for that do not count.
    """
    listed = [short for short in shorts if short in table and is_worth_unpacking(short, octets)]
    return [short for short in listed if short not in _CARVED] if "exe" in listed else listed


def is_worth_unpacking(short: str, octets: Buffer) -> bool:
    """Whether there may be something inside; False only when a quick look shows that there is not."""
    look = _WORTH.get(short)
    return look is None or look(octets)

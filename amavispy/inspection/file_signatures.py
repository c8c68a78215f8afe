"""File signatures - two tables: what a binary file starts with, and what libmagic's words mean in short types.

Short types are amavis' (specification, chapter 6.3); where amavis has none for something that attackers send, there is
one of our own: lnk chm one szdd xar wim vhd vhdx vmdk qcow dmg img jar slk scpt. Data only; `file_types` looks them up.

**Failures:** none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

Types = tuple[str, ...]

EXE_MS: Types = ("exe", "exe-ms")
EXE_UNIX: Types = ("exe", "exe-unix")

# What stands at the very start of a binary file.
_STARTS: tuple[tuple[bytes, Types], ...] = (
    (b"\xff\xd8\xff", ("image", "jpg")),
    (b"\x89PNG\r\n\x1a\n", ("image", "png")),
    (b"GIF8", ("image", "gif")),
    (b"II*\x00", ("image", "tif")),
    (b"MM\x00*", ("image", "tif")),
    (b"\x00\x00\x01\x00", ("image", "ico")),
    (b"PK\x03\x04", ("zip",)),
    (b"PK\x05\x06", ("zip",)),
    (b"PK\x07\x08PK\x03\x04", ("zip",)),
    (b"PK00PK\x03\x04", ("zip",)),
    (b"%PDF-", ("pdf",)),
    (b"{\\rt", ("rtf",)),
    (b"%!PS", ("ps",)),
    (b"\xc5\xd0\xd3\xc6", ("ps",)),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ("doc", "cdf-ms")),
    (b"\x09\x00\x04\x00\x07\x00\x10\x00", ("doc",)),  # bare workbooks, Excel 2 to 5: macros without a container
    (b"\x09\x02\x06\x00\x00\x00\x10\x00", ("doc",)),
    (b"\x09\x04\x06\x00\x00\x00\x10\x00", ("doc",)),
    (b"\x09\x08\x08\x00\x00\x05", ("doc",)),
    (b"\x1f\x8b", ("gz",)),
    (b"\x1f\x9e", ("F",)),
    (b"\x1f\x9f", ("F",)),
    (b"\x1f\x9d", ("Z",)),
    (b"BZh", ("bz2",)),
    (b"BZ0", ("bz",)),
    (b"\xfd7zXZ\x00", ("xz",)),
    (b"\x28\xb5\x2f\xfd", ("zst",)),
    (b"\x04\x22\x4d\x18", ("lz4",)),
    (b"\x02\x21\x4c\x18", ("lz4",)),
    (b"\x89LZO\x00\r\n\x1a\n", ("lzo",)),
    (b"LRZI", ("lrz",)),
    (b"LZIP\x01", ("lz",)),
    (b"7z\xbc\xaf\x27\x1c", ("7z",)),
    (b"Rar!\x1a\x07", ("rar",)),
    (b"RE\x7e\x5e", ("rar",)),
    (b"MSCF\x00\x00\x00\x00", ("cab",)),
    (b"ISc(", ("installshield",)),
    (b"SZDD\x88\xf0\x27\x33", ("szdd",)),
    (b"KWAJ\x88\xf0\x27\xd1", ("szdd",)),
    (b"xar!\x00\x1c", ("xar",)),
    (b"MSWIM\x00\x00\x00", ("wim",)),
    (b"conectix", ("vhd",)),
    (b"vhdxfile", ("vhdx",)),
    (b"KDMV", ("vmdk",)),
    (b"hsqs", ("img",)),
    (b"sqsh", ("img",)),
    (b"QFI\xfb", ("qcow",)),
    (b"\x78\x9f\x3e\x22", ("tnef",)),
    (b"\xed\xab\xee\xdb", ("rpm",)),
    (b"!<arch>\ndebian-binary", ("deb",)),
    (b"!<arch>\n", ("a",)),
    (b"070707", ("cpio",)),
    (b"070701", ("cpio",)),
    (b"070702", ("cpio",)),
    (b"\xc7\x71", ("cpio",)),
    (b"\x71\xc7", ("cpio",)),
    (b"\x60\xea", ("arj",)),
    (b"ZOO ", ("zoo",)),
    (b"StuffIt ", ("sit",)),
    (b"SIT!", ("sit",)),
    (b"L\x00\x00\x00\x01\x14\x02\x00", ("lnk",)),
    (b"ITSF\x03\x00\x00\x00", ("chm",)),
    (b"\xe4\x52\x5c\x7b\x8c\xd8\xa7\x4d\xae\xb1\x53\x78\xd0\x29\x96\xd3", ("one",)),
    (b"\xa1\x2f\xff\x43\xd9\xef\x76\x4c\x9e\xe2\x10\xea\x57\x22\x76\x5f", ("one",)),
    (b"FasdUAS ", ("scpt",)),
    (b"FWS", ("swf",)),
    (b"CWS", ("swf",)),
    (b"ZWS", ("swf",)),
    (b"\x99\x01", ("pgp", "pgp.asc")),
    (b"OggS", ("audio", "ogg")),
    (b"fLaC", ("audio", "flac")),
    (b"ID3", ("audio", "mpa", "mp3")),
    (b"\x1aE\xdf\xa3", ("movie", "mkv")),
    (b"0&\xb2u\x8ef\xcf\x11", ("movie", "wmv")),
    *((bytes((0x50 + n, 0x2A, 0x4D, 0x18)), ("zst",)) for n in range(16)),  # a skippable frame may come first
)


def _by_first() -> Iterator[tuple[int, tuple[tuple[bytes, Types], ...]]]:
    for first in {start[0] for start, _ in _STARTS}:
        yield first, tuple(entry for entry in _STARTS if entry[0][0] == first)


STARTS = dict(_by_first())

# What readers accept behind some junk: searched near the start of every binary file.
NEAR_STARTS: tuple[tuple[bytes, str], ...] = ((b"%PDF-", "pdf"), (b"PK\x03\x04", "zip"))

# Archives behind anything else, and far into programs, which unpack themselves this way. The pattern tells the head of
# an archive from a program that only knows the signature.
EMBEDDED: tuple[tuple[bytes, re.Pattern[bytes], str], ...] = (
    (b"Rar!\x1a\x07", re.compile(rb".{6}(?:\x00..\x73|\x01\x00)", re.S), "rar"),
    (b"7z\xbc\xaf\x27\x1c", re.compile(rb".{6}\x00[\x00-\x05]", re.S), "7z"),
    (b"MSCF\x00\x00\x00\x00", re.compile(rb".{24}\x03\x01", re.S), "cab"),
)

_WORDS: tuple[tuple[str, Types], ...] = (
    (r"^empty", ("empty",)),
    (r"^directory", ("dir",)),
    (r"^data$|^very short file", ("dat",)),
    (r"^GNU message catalog", ("mo",)),
    (r"^PGP .*[Ee]ncrypted|^PGP message$", ("pgp", "pgp.enc")),
    (r"^PGP |^OpenPGP ", ("pgp", "pgp.asc")),
    # libmagic takes many a file that begins with a jump for a COM program.
    (r"^(?:COM executable for DOS|DOS executable \(COM|MS-DOS executable \(built-in\))", ("asc",)),
    (r"\bPE32\+? executable.*\(DLL\)|(?:DOS|MS Windows).*\bDLL\b", ("exe", "dll")),
    (r"\b(?:PE32\+? executable|MS-DOS executable|DOS executable|NE executable|LE executable)", EXE_MS),
    (r"^MS Windows.*\bexecutable|\bexecutable\b.*\bfor MS Windows", EXE_MS),
    (r"^VMS.*\bexecutable", ("exe", "exe-vms")),
    (r"^ELF .*shared object", ("so",)),
    (r"^ELF .*relocatable|^Mach-O .* object", ("o",)),
    (r"^Mach-O .*(?:shared library|bundle)", ("so",)),
    (r"^ELF |\bMach-O\b|^PA-RISC.*executable|^COFF .*executable|executable \(RISC System", EXE_UNIX),
    (r"\b(?:JPEG|JFIF|Exif)\b", ("image", "jpg")),
    (r"\bGIF image", ("image", "gif")),
    (r"\bPNG image", ("image", "png")),
    (r"\bTIFF image", ("image", "tif")),
    (r"^PCX\b", ("image", "pcx")),
    (r"^PC bitmap", ("image", "bmp")),
    (r"\bSVG\b", ("image", "svg")),
    (r"\bRIFF.*\bWeb/P", ("image", "webp")),
    (r"^ISO Media.*(?:HEIF|HEIC|AVIF)", ("image", "heic")),
    (r"\bRIFF.*\bAVI\b", ("movie", "avi")),
    (r"\bRIFF.*\bWAVE\b", ("audio", "wav")),
    (r"\bRIFF.*animated cursor", ("movie", "ani")),
    (r"^ISO Media.*3GPP", ("audio", "mpa", "3gpp")),
    (r"^ISO Media.*(?:M4A|M4B|iTunes AAC)", ("audio", "mpa", "m4a", "m4b")),
    (r"^ISO Media", ("movie", "mpv")),
    (r"^Matroska|^WebM", ("movie", "mkv")),
    (r"\bMPEG.*layer III\b", ("audio", "mpa", "mp3")),
    (r"\bMPEG.*(?:audio|layer)", ("audio", "mpa", "mp2")),
    (r"^MPEG video stream", ("movie", "mpv")),
    (r"\bMPEG\b", ("movie", "mpg")),
    (r"^Ogg data, FLAC", ("audio", "oga")),
    (r"^Microsoft ASF", ("movie", "wmv")),
    (r"^Macromedia Flash", ("swf",)),
    (r"^MS Windows.*[Ii]nternet shortcut", ("url",)),
    (r"\bHTML document", ("html",)),
    (r"\bSGML document", ("sgml",)),
    (r"\bXML\b", ("xml",)),
    (r"\bPDF document", ("pdf",)),
    (r"^PostScript document", ("ps",)),
    (r"Rich Text Format", ("rtf",)),
    (r"^Microsoft Excel [2-5]\.", ("doc",)),
    (r"^Composite Document|Microsoft Office Document|^Microsoft Installer", ("doc", "cdf-ms")),
    (r"Google KML Document", ("kmz",)),
    (r"\bZip\b.*archive|^Java archive|Microsoft (?:Word|Excel|PowerPoint|OOXML)|^OpenDocument|^EPUB", ("zip",)),
    (r"\btar archive", ("tar",)),
    (r"\bcpio archive", ("cpio",)),
    (r"^LHa\b|^LHarc", ("lha",)),
    (r"\bARC archive", ("arc",)),
    (r"\bACE archive", ("ace",)),
    (r"\bLZMA compressed", ("lzma",)),
    (r"^bzip compressed", ("bz",)),
    (r"^StuffIt", ("sit",)),
    (r"^frozen", ("F",)),
    (r"^Apple binhex|^BinHex", ("hqx",)),
    (r"ISO 9660|UDF filesystem", ("iso",)),
    (r"^LaTeX\b", ("lat",)),
    (r"^TeX DVI", ("dvi",)),
    (r"^compiled Java class", ("java",)),
    (r"^Windows metafile|Windows Enhanced Metafile|^ms-windows meta", ("wmf",)),
    (r"\bexecutable\b(?!.*\btext\b)", ("exe",)),
    (r"\bASCII text", ("asc",)),
    (r"UTF-(?:8|16|32)|Unicode text|ISO-8859|\btext\b", ("txt",)),
)

# libmagic's descriptions of what signatures leave over; the first that matches counts.
DESCRIPTIONS: tuple[tuple[re.Pattern[str], Types], ...] = tuple((re.compile(words), types) for words, types in _WORDS)

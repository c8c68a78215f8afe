"""Text encodings - files that stand in the text of a mail: uuencode, xxencode, BinHex and yEnc.

In: a text. Out: each file in it, with its name as written. Readers and news clients offer such files like attachments,
whatever the mail's header says. They are lenient, so these are: a missing end is tolerated, checksums are not looked
at, a row is taken for what it can be.

**Failures:** none; what cannot be decoded is left out. Every function is linear in its input, and what it returns is no
longer than that, but for BinHex, whose runs of one octet are cut at 64 MiB.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Iterator

_BEGIN = re.compile(rb"(?:\A|\n)begin(-base64)? +[0-7]{3,4} +([^\r\n]{1,250})\r?\n")
_YENC_BEGIN = re.compile(rb"(?:\A|\n)=ybegin [^\r\n]*?name=([^\r\n]*)\r?\n(?:=ypart [^\r\n]*\r?\n)?")
_YENC_END = re.compile(rb"\n=y(?:end|begin)\b")
_BINHEX = re.compile(rb"\(This file must be converted with BinHex[^\n]*\n\s*:([^:]{27,}):?")
_ANY = re.compile(rb"(?:\A|\n)(?:begin(?:-base64)? +[0-7]{3}|=ybegin |\(This file must be converted with BinHex)")

_UU_ALPHABET = bytes(range(32, 96))
_XX_ALPHABET = b"+-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_XX_TO_UU = bytes.maketrans(_XX_ALPHABET, _UU_ALPHABET)
_NOT_XX = bytes(set(range(256)) - set(_XX_ALPHABET))
_HQX_ALPHABET = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_HQX_TO_BASE64 = bytes.maketrans(_HQX_ALPHABET, _BASE64)
_NOT_HQX = bytes(set(range(256)) - set(_HQX_ALPHABET))
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64))
_UNPACKED_LIMIT = 64 << 20
_RUN_LIMIT = 1_000_000
_YENC_SHIFT = bytes((value - 42) % 256 for value in range(256))
_YENC_ESCAPED = tuple(bytes(((value - 64) % 256,)) for value in range(256))
_YENC_ESCAPE = re.compile(rb"=([^\r\n])", re.S)

File = tuple[bytes, bytes]


def has_encoded_files(octets: bytes | memoryview) -> bool:
    """Is there anything that begins like an encoded file? A cheap look at every text."""
    octets = octets if isinstance(octets, bytes) else bytes(octets)
    # Two plain searches first: they are a hundred times faster than the expression.
    return (b"begin" in octets or b"BinHex" in octets) and _ANY.search(octets) is not None


def encoded_files(octets: bytes) -> Iterator[File]:
    """Each encoded file in a text: its name as written, and its content."""
    yield from uuencoded_files(octets)
    for match in _YENC_BEGIN.finditer(octets):
        yield match[1].strip(), _yenc(octets, match.end())
    for match in _BINHEX.finditer(octets):
        yield from _binhex_forks(match[1])


# uuencode, xxencode


def uuencoded_files(octets: bytes) -> Iterator[File]:
    """Each uuencoded or xxencoded file, or in base64 as POSIX has it; a file that could be both is given twice."""
    at = 0
    while match := _BEGIN.search(octets, at):
        if match[1]:
            at = octets.find(b"\n====", match.end())
            at = len(octets) if at < 0 else at
            yield match[2].strip(), _base64(octets[match.end() : at])
            continue
        content, uu_end = _rows(octets, match.end(), _uu_row)
        other, xx_end = _rows(octets, match.end(), _xx_row)
        for decoded in dict.fromkeys((content, other) if uu_end >= xx_end else (other, content)):
            if decoded:
                yield match[2].strip(), decoded
        at = max(uu_end, xx_end) - 1  # the line end before the next line


def _rows(octets: bytes, at: int, row: Callable[[bytes], bytes | None]) -> tuple[bytes, int]:
    rows = []
    while at < len(octets):
        end = octets.find(b"\n", at)
        end = len(octets) if end < 0 else end
        decoded = row(octets[at : min(end, at + 100)].rstrip(b"\r"))
        if decoded is None:
            break
        rows.append(decoded)
        at = end + 1
    return b"".join(rows), at


def _uu_row(line: bytes) -> bytes | None:
    if not 32 < (line[0] if line else 0) < 96 or len(line) > 90:
        return None  # "`" or a blank is the empty last row, anything else is no row at all
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        # Rows with a character for a checksum at the end, and rows whose last group was cut off.
        length = (line[0] - 32) & 63
        try:
            return binascii.a2b_uu(line[: 1 + (length + 2) // 3 * 4])
        except binascii.Error:
            return None


def _xx_row(line: bytes) -> bytes | None:
    if not line or len(line) > 90 or line.translate(None, _XX_ALPHABET) or line[:1] == b"+":
        return None
    return _uu_row(line.translate(_XX_TO_UU))


def _base64(octets: bytes) -> bytes:
    characters = octets.translate(None, _NOT_BASE64)
    characters = characters[: len(characters) - (len(characters) % 4 == 1)]
    return binascii.a2b_base64(characters + b"=" * (-len(characters) % 4))


# yEnc


def decode_yenc_text(octets: bytes) -> bytes:
    """The file that a yEnc text holds, b"" when there is none."""
    match = _YENC_BEGIN.search(octets)
    return _yenc(octets, match.end()) if match else b""


def _yenc(octets: bytes, at: int) -> bytes:
    """yEnc 1.3: each octet plus 42; critical ones are escaped with "=" and plus another 64."""
    end = _YENC_END.search(octets, at)
    data = octets[at : end.start() if end else len(octets)].translate(None, b"\r\n")
    return _YENC_ESCAPE.sub(_yenc_escaped, data).translate(_YENC_SHIFT) if b"=" in data else data.translate(_YENC_SHIFT)


def _yenc_escaped(match: re.Match[bytes]) -> bytes:
    return _YENC_ESCAPED[match[1][0]]


# BinHex 4.0 (RFC 1741)


def decode_binhex_text(octets: bytes) -> bytes:
    """The data fork of a BinHex text, b"" when there is none."""
    match = _BINHEX.search(octets)
    return next((content for _, content in _binhex_forks(match[1])), b"") if match else b""


def _binhex_forks(characters: bytes) -> Iterator[File]:
    """The data fork and the resource fork, those that are not empty."""
    data = _expanded(_six_bits(characters.translate(None, _NOT_HQX)))
    size = data[0] if data else 0
    at = 1 + size + 1 + 4 + 4 + 2  # name and NUL, type, creator, flags
    if len(data) < at + 10:
        return
    lengths = int.from_bytes(data[at : at + 4], "big"), int.from_bytes(data[at + 4 : at + 8], "big")
    start = at + 10  # behind the header's checksum
    for length in lengths:
        if content := data[start : start + length]:
            yield data[1 : 1 + size], content
        start += length + 2


def _six_bits(characters: bytes) -> bytes:
    return _base64(characters.translate(_HQX_TO_BASE64))


def _expanded(packed: bytes) -> bytes:
    """Runs of one octet: 90 hex and a count repeat the octet before; a count of 0 is 90 hex itself."""
    out = bytearray()
    at = 0
    for _ in range(_RUN_LIMIT):
        mark = packed.find(b"\x90", at)
        if mark < 0 or len(out) >= _UNPACKED_LIMIT:
            break
        out += packed[at:mark]
        count = packed[mark + 1] if mark + 1 < len(packed) else 1
        out += b"\x90" if not count else out[-1:] * (count - 1)
        at = mark + 2
    return bytes(out + packed[at:])

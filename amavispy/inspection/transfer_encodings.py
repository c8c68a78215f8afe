"""Transfer encodings - base64, quoted-printable and uuencode turned into octets, whatever a stranger made of them.

Readers of mail are lenient, so these are: junk between base64 characters is skipped, padding in the middle starts
anew, a missing end is tolerated. Every function is linear in its input and returns at most as many octets.

**Failures:** none; broken input yields what can be had of it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64 + b"="))
_SOFT_BREAK = re.compile(rb"=[ \t]+(?=\r?\n)")
_UU_BEGIN = re.compile(rb"^begin +[0-7]{3,4} +([^\r\n]{1,250})\r?\n", re.M)

IDENTITIES = frozenset(("", "7bit", "8bit", "binary"))


def decode(octets: bytes, encoding: str) -> bytes:
    """`octets` decoded by a Content-Transfer-Encoding in lower case; an unknown one leaves them as they are."""
    if encoding == "base64":
        return decode_base64(octets)
    if encoding == "quoted-printable":
        return decode_quoted_printable(octets)
    if encoding in ("x-uuencode", "x-uue", "uuencode"):
        return b"".join(content for _, content in uuencoded_files(octets)) or octets
    return octets


def decode_base64(octets: bytes) -> bytes:
    pad = octets.find(b"=")
    if pad < 0 or not octets[pad:].strip(b"=\r\n \t"):
        try:
            return binascii.a2b_base64(octets)
        except binascii.Error:  # a cut-off last group
            pass
    # Padding in the middle ends the data for some readers, for others a new run begins: take the longer reading.
    runs = octets.translate(None, _NOT_BASE64).split(b"=")
    return b"".join(_run(run) for run in runs if run)


def _run(run: bytes) -> bytes:
    rest = len(run) % 4
    if rest == 1:  # six bits make no octet
        run, rest = run[:-1], 0
    return binascii.a2b_base64(run + b"=" * (-rest % 4 if rest else 0))


def decode_quoted_printable(octets: bytes) -> bytes:
    # RFC 2045 6.7 (3): blanks may have been appended to a soft line break on the way.
    if b"= " in octets or b"=\t" in octets:
        octets = _SOFT_BREAK.sub(b"=", octets)
    return binascii.a2b_qp(octets)


def uuencoded_files(octets: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each uuencoded file in a text: its name as written, and its content. A missing `end` is tolerated."""
    at = 0
    while match := _UU_BEGIN.search(octets, at):
        content, at = _uu_content(octets, match.end())
        if content:
            yield match[1].strip(), content


def _uu_content(octets: bytes, at: int) -> tuple[bytes, int]:
    rows = []
    while at < len(octets):
        end = octets.find(b"\n", at)
        end = len(octets) if end < 0 else end
        line = octets[at:end].rstrip(b"\r")
        if not 32 < (line[0] if line else 0) < 96 or len(line) > 90:
            break  # "`" or a blank is the empty last row, anything else is no row at all
        try:
            rows.append(binascii.a2b_uu(line))
        except binascii.Error:
            break
        at = end + 1
    return b"".join(rows), at

"""Transfer encodings - base64 and quoted-printable turned into octets, in each way in which readers of mail do it.

What decoders disagree on: characters that are no base64 (skipped, or the end), padding in the middle (the end, a new
beginning, or nothing), a last group that is too short; blanks behind a soft line break, escapes that are none. Clean
input, and that is nearly all, has one reading, found at the speed of the standard library's decoders.

**Failures:** none; broken input yields what can be had of it. Every function is linear in its input, and no reading is
longer than that.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from amavispy.inspection.text_encodings import decode_binhex_text, decode_yenc_text, uuencoded_files
from amavispy.mail.verdict import Defect, DefectKind

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_NOT_BASE64 = bytes(set(range(256)) - set(_BASE64 + b"="))
_JUNK = re.compile(rb"[^A-Za-z0-9+/=\s\0]")
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NOT_URL_SAFE = bytes(set(_NOT_BASE64) - set(b"-_")) + b"="
_URL_MARK = re.compile(rb"[A-Za-z0-9+/][-_]|[-_][A-Za-z0-9+/]")
_WORDS = re.compile(rb"[A-Za-z]+ [A-Za-z]+")
_LONG_RUN = re.compile(rb"[A-Za-z0-9+/]{24}")
_PAD = re.compile(rb"=[=\s]*")

_TOO_MANY = Defect(DefectKind.TOO_MANY_READINGS, is_ambiguous=True)
_ESCAPE_LIMIT = 50_000  # escapes that are none
_RUN_LIMIT = 10_000  # paddings in the middle
_LARGE = 16 << 20  # octets of which not more than two readings are kept

_ODD_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|\r?\n|\Z)")
_BLANK_SOFT_BREAK = re.compile(rb"=[ \t]+(?:\r?\n|\Z)")
_CR_SOFT_BREAK = re.compile(rb"=[ \t]*\r(?!\n)")
_FALSE_ESCAPE = re.compile(rb"=(?![0-9A-Fa-f]{2}|[ \t]*[\r\n]|[ \t]*\Z)")

IDENTITIES = frozenset(("", "7bit", "8bit", "binary"))
# What ordinary mailers write although it is no encoding: the text is as it is.
_HARMLESS = frozenset(
    ("7-bit", "8-bit", "7bits", "8bits", "none", "utf-8", "utf8", "us-ascii", "ascii", "text", "plain")
)
_UUENCODE = frozenset(("x-uuencode", "x-uue", "uuencode", "uue"))
_BINHEX = frozenset(("binhex", "binhex40", "x-binhex40", "mac-binhex40", "x-mac-binhex40"))
_YENC = frozenset(("x-yenc", "yenc"))
KNOWN_ENCODINGS = frozenset(("base64", "quoted-printable")) | _UUENCODE | _BINHEX | _YENC


@dataclass(frozen=True, slots=True)
class Contents:
    """The octets that an encoding hides: the most usual reading, the others, and what is wrong."""

    usual: bytes
    others: tuple[bytes, ...] = ()
    defects: tuple[Defect, ...] = ()


def decode(octets: bytes, encoding: str) -> bytes:
    """The most usual reading of `octets` in an encoding in lower case; an unknown one leaves them as they are."""
    return decodings(octets, encoding).usual


def decodings(octets: bytes, encoding: str) -> Contents:
    """Every reading of `octets` in an encoding in lower case."""
    if encoding == "base64":
        return base64_readings(octets)
    if encoding == "quoted-printable":
        return quoted_printable_readings(octets)
    if encoding in _UUENCODE:
        return _or_as_it_is(b"".join(content for _, content in uuencoded_files(octets)), octets)
    if encoding in _BINHEX:
        return _or_as_it_is(decode_binhex_text(octets), octets)
    if encoding in _YENC:
        return _or_as_it_is(decode_yenc_text(octets), octets)
    return Contents(octets) if encoding in IDENTITIES else _unknown(octets, encoding)


def _or_as_it_is(decoded: bytes, octets: bytes) -> Contents:
    """Encodings that not every reader knows: the others show the text as it is."""
    return Contents(decoded or octets, (octets,) if decoded else ())


def _unknown(octets: bytes, encoding: str) -> Contents:
    """RFC 2045 6.4: as it is. A reader may yet recognise what it is meant to be."""
    if encoding in _HARMLESS:
        return Contents(octets, (), (Defect(DefectKind.UNKNOWN_ENCODING),))
    others = []
    if not _JUNK.search(octets) and _LONG_RUN.search(octets):
        others.append(decode_base64(octets))
    if b"=" in octets and (decoded := quoted_printable_readings(octets).usual) != octets:
        others.append(decoded)
    return Contents(octets, tuple(others), (Defect(DefectKind.UNKNOWN_ENCODING, bool(others)),))


# base64


def decode_base64(octets: bytes) -> bytes:
    """The most usual reading."""
    return base64_readings(octets).usual


def base64_readings(octets: bytes) -> Contents:
    pad = octets.find(b"=")
    if pad < 0 or not octets[pad:].strip(b"=\r\n \t"):
        try:
            usual = binascii.a2b_base64(octets)
        except binascii.Error:  # a cut-off last group
            pass
        else:
            padding = 0 if pad < 0 else octets.count(b"=", pad)
            # Decoders that skip nothing need no second look: every character but line ends has become six bits.
            groups = (len(usual) + padding) // 3 * 4
            if groups == len(octets) - _even_line_ends(octets) or groups == len(octets) - _line_ends(octets):
                return Contents(usual)
    return _broken_base64(octets, pad)


def _line_ends(octets: bytes) -> int:
    return octets.count(b"\n") + octets.count(b"\r")


def _even_line_ends(octets: bytes) -> int:
    """The octets of line ends where all lines but the last are as long as the first, 0 where they are not."""
    end = octets.find(b"\n")
    if end < 1:
        return 0
    marks = octets[end :: end + 1]
    returns = octets[end - 1 :: end + 1][: len(marks)]
    if marks.strip(b"\n") or returns.strip(b"\r"):
        return 0
    return 2 * len(marks) + _line_ends(octets[end + (len(marks) - 1) * (end + 1) + 1 :])


def _broken_base64(octets: bytes, pad: int) -> Contents:
    """Each way to go on where the data are not as they should be."""
    head, tail = (octets, b"") if pad < 0 else (octets[:pad], _PAD.sub(b"", octets[pad:], count=1))
    junk = _JUNK.search(head)
    readings = [_restarted(octets)]
    if tail:  # padding ends the data, or is skipped like junk
        readings += (_run(head.translate(None, _NOT_BASE64)), _run(octets.translate(None, _NOT_BASE64 + b"=")))
    if junk:  # junk ends the data
        readings.append(_run(head[: junk.start()].translate(None, _NOT_BASE64)))
    if _URL_MARK.search(octets):
        readings.append(_run(octets.translate(_URL_SAFE, _NOT_URL_SAFE)))
    data = _before_footer(octets, head, tail, junk)
    if data is not None:
        readings.insert(0, _run(data.translate(None, _NOT_BASE64)))
    is_ambiguous = data is None and bool(tail or junk) and len(set(readings)) > 1
    if is_ambiguous:  # who cannot decode it shows it as it is
        readings.append(octets)
    kind = DefectKind.BROKEN_BASE64 if is_ambiguous else DefectKind.LOOSE_BASE64
    return _contents(readings, Defect(kind, is_ambiguous))


def _before_footer(octets: bytes, head: bytes, tail: bytes, junk: re.Match[bytes] | None) -> bytes | None:
    """The data in front of a mailing list's footer, None when there is none.

    Readers end there, or show a few odd characters behind; a text of words is no second file.
    """
    if junk:  # a footer behind data that need no padding begins on a line of its own
        start = octets.rfind(b"\n", 0, junk.start()) + 1
        head, tail = octets[:start], octets[start:]
        if len(head.translate(None, _NOT_BASE64)) % 4:
            return None
    return head if _WORDS.search(tail) and not _LONG_RUN.search(tail) else None


def _restarted(octets: bytes) -> bytes:
    """A new beginning after each padding."""
    runs = re.split(rb"=+", octets.translate(None, _NOT_BASE64), maxsplit=_RUN_LIMIT)
    return b"".join(_run(run.replace(b"=", b"")) for run in runs if run)


def _contents(readings: Sequence[bytes], defect: Defect) -> Contents:
    usual, *others = dict.fromkeys(readings)
    if others[1:] and len(usual) > _LARGE:
        return Contents(usual, tuple(others[:1]), (defect, _TOO_MANY))
    return Contents(usual, tuple(others), (defect,))


def _run(run: bytes) -> bytes:
    """One run of base64 characters; a last group that is too short gives what it holds."""
    rest = len(run) % 4
    if rest == 1:  # six bits make no octet
        run, rest = run[:-1], 0
    return binascii.a2b_base64(run + b"=" * (-rest % 4 if rest else 0))


# quoted-printable


def decode_quoted_printable(octets: bytes) -> bytes:
    """The most usual reading."""
    return quoted_printable_readings(octets).usual


def quoted_printable_readings(octets: bytes) -> Contents:
    if not _ODD_ESCAPE.search(octets):
        return Contents(binascii.a2b_qp(octets))
    if next(islice(_ODD_ESCAPE.finditer(octets), _ESCAPE_LIMIT, None), None):
        return Contents(binascii.a2b_qp(octets), (), (_TOO_MANY,))
    has_odd_breaks = bool(_BLANK_SOFT_BREAK.search(octets) or _CR_SOFT_BREAK.search(octets))
    # RFC 2045 6.7 (3): blanks may have been appended to a soft line break on the way.
    joined = _CR_SOFT_BREAK.sub(b"=\n", _BLANK_SOFT_BREAK.sub(b"=\n", octets))
    literal = binascii.a2b_qp(_FALSE_ESCAPE.sub(b"=3D", joined))
    dropped = binascii.a2b_qp(_FALSE_ESCAPE.sub(b"", joined))
    strict = binascii.a2b_qp(_ODD_ESCAPE.sub(b"=3D", octets))
    kind = DefectKind.BROKEN_QUOTED_PRINTABLE if has_odd_breaks else DefectKind.LOOSE_QUOTED_PRINTABLE
    return _contents((literal, dropped, strict, binascii.a2b_qp(octets)), Defect(kind, has_odd_breaks))

"""Leaves - a payload in one entity, encoded in each way that some reader of mail undoes.

Each function takes a payload and gives the entity that carries it. The payload is the EICAR test file, found only when
a reading yields it from its first octet to its end.
"""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Callable, Mapping
from random import Random

from tests.corpus.build import EICAR
from tests.corpus.entities import CRLF, Entity, entity

NAME = b"report.dat"
PAYLOAD = EICAR
_WITH_SYMBOLS = EICAR + b"\n>>>???>>>"  # its base64 contains + and /

Leaf = Callable[[Random], Entity]


def _base64(octets: bytes = PAYLOAD) -> bytes:
    return base64.encodebytes(octets).replace(b"\n", CRLF)


def _attached(body: bytes, encoding: bytes = b"base64", kind: bytes = b"application/octet-stream") -> Entity:
    return entity(kind, body, encoding=encoding, name=NAME)


def _text(body: bytes, encoding: bytes = b"7bit") -> Entity:
    return entity(b"text/plain; charset=us-ascii", body, encoding=encoding)


def _more() -> bytes:
    """More base64, of something harmless."""
    return _base64(b"The committee met on Monday and agreed upon the date of the next meeting.")


def base64_clean(_: Random) -> Entity:
    return _attached(_base64())


def base64_with_junk(random: Random) -> Entity:
    junk = [bytes((octet, random.choice(b"!*#~%@.,")) if random.random() < 0.3 else (octet,)) for octet in _base64()]
    return _attached(b"".join(junk))


def base64_with_padding_in_the_middle(random: Random) -> Entity:
    cut = random.choice((10, 22, 31, 40))
    return _attached(_base64(PAYLOAD[:cut]) + _base64(PAYLOAD[cut:]))


def base64_that_ends_at_its_padding(_: Random) -> Entity:
    return _attached(_base64() + _more())


def base64_with_padding_to_skip(random: Random) -> Entity:
    octets = _base64()
    at = random.choice((9, 21, 33))
    return _attached(octets[:at] + b"=" + octets[at:])


def base64_that_ends_at_junk(_: Random) -> Entity:
    return _attached(_base64(PAYLOAD + b"  ").rstrip() + b"!" + CRLF + _more())


def base64_url_safe(_: Random) -> Entity:
    return _attached(_base64(_WITH_SYMBOLS).replace(b"+", b"-").replace(b"/", b"_"))


def base64_without_padding(_: Random) -> Entity:
    return _attached(_base64().replace(b"=", b""))


def base64_with_one_character_too_many(_: Random) -> Entity:
    return _attached(_base64(PAYLOAD + b" ").rstrip() + b"A" + CRLF)


def base64_one_character_a_line(_: Random) -> Entity:
    return _attached(b"".join(bytes((octet,)) + CRLF for octet in _base64().replace(CRLF, b"")))


def base64_with_footer(_: Random) -> Entity:
    return _attached(_base64() + b"_______________________________________________\r\nlist mailing list\r\n")


def base64_in_name_only(_: Random) -> Entity:
    """Who cannot decode it shows it as it is."""
    return _attached(PAYLOAD + CRLF)


def quoted_printable(_: Random) -> Entity:
    return _attached(b"".join(b"=%02X" % octet for octet in PAYLOAD), b"quoted-printable")


def quoted_printable_lower_case(_: Random) -> Entity:
    return _attached(b"".join(b"=%02x" % octet for octet in PAYLOAD), b"quoted-printable")


def _soft_broken(random: Random, line_end: bytes) -> bytes:
    at = random.randrange(5, 60)
    return PAYLOAD[:at] + b"=" + line_end + PAYLOAD[at:]


def quoted_printable_soft_break(random: Random) -> Entity:
    return _attached(_soft_broken(random, CRLF), b"quoted-printable")


def quoted_printable_soft_break_and_blanks(random: Random) -> Entity:
    return _attached(_soft_broken(random, b" \t" + CRLF), b"quoted-printable")


def quoted_printable_soft_break_by_cr(random: Random) -> Entity:
    return _attached(_soft_broken(random, b"\r"), b"quoted-printable")


def quoted_printable_false_escape(random: Random) -> Entity:
    """A reader who drops the "=" of what is no escape gets the payload."""
    at = PAYLOAD.index(b"STANDARD")
    return _attached(PAYLOAD[:at] + b"=" + PAYLOAD[at:], b"quoted-printable")


def encoding_in_quotes(_: Random) -> Entity:
    return _attached(_base64(), b'"base64"')


def encoding_with_comma(_: Random) -> Entity:
    return _attached(_base64(), b"base64,")


def encoding_with_words(_: Random) -> Entity:
    return _attached(_base64(), b"7bit base64")


def encoding_as_encoded_word(_: Random) -> Entity:
    return _attached(_base64(), b"=?us-ascii?q?base64?=")


def encoding_in_pieces(_: Random) -> Entity:
    return _attached(_base64(), b"base 64")


def encoding_unknown(_: Random) -> Entity:
    return _attached(_base64(), b"base65")


def encoding_unknown_for_quoted_printable(_: Random) -> Entity:
    return _attached(b"".join(b"=%02X" % octet for octet in PAYLOAD), b"quoted-printible")


def _uu_rows(alphabet: bytes | None = None) -> bytes:
    rows = [binascii.b2a_uu(PAYLOAD[at : at + 45]).rstrip(b"\n") for at in range(0, len(PAYLOAD), 45)]
    table = bytes.maketrans(bytes(range(32, 96)), alphabet) if alphabet else None
    return CRLF.join(row.translate(table) if table else row for row in rows) + CRLF


_XX = b"+-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _uuencoded(rows: bytes, last: bytes = b"`") -> bytes:
    return b"begin 644 " + NAME + CRLF + rows + last + CRLF + b"end" + CRLF


def uuencode_in_text(_: Random) -> Entity:
    return _text(b"Here it is:" + CRLF + _uuencoded(_uu_rows()) + b"Bye" + CRLF)


def uuencode_without_end(_: Random) -> Entity:
    return _text(b"begin 0644  " + NAME + CRLF + _uu_rows())


def uuencode_as_encoding(_: Random) -> Entity:
    return _attached(_uuencoded(_uu_rows()), b"x-uuencode")


def uuencode_in_base64_text(_: Random) -> Entity:
    return _text(_base64(b"Here it is:\n" + _uuencoded(_uu_rows())), b"base64")


def xxencode_in_text(_: Random) -> Entity:
    return _text(b"Here it is:" + CRLF + _uuencoded(_uu_rows(_XX), b"+"))


def posix_base64_in_text(_: Random) -> Entity:
    return _text(b"begin-base64 644 " + NAME + CRLF + _base64() + b"====" + CRLF)


def yenc_in_text(_: Random) -> Entity:
    head = b"=ybegin line=128 size=%d name=%s\r\n" % (len(PAYLOAD), NAME)
    data = b"".join(_yenc_octet(octet) for octet in PAYLOAD)
    return _text(head + data + b"\r\n=yend size=%d\r\n" % len(PAYLOAD), b"8bit")


def _yenc_octet(octet: int) -> bytes:
    shifted = (octet + 42) % 256
    return bytes((61, (shifted + 64) % 256)) if shifted in (0, 10, 13, 61) else bytes((shifted,))


_HQX = b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr"
_STANDARD = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def binhex_in_text(_: Random) -> Entity:
    header = bytes((len(NAME),)) + NAME + b"\0TEXTttxt\0\0" + struct.pack(">II", len(PAYLOAD), 0) + b"\0\0"
    packed = (header + PAYLOAD + b"\0\0\0\0").replace(b"\x90", b"\x90\x00")
    characters = base64.b64encode(packed + b"\0" * (-len(packed) % 3)).translate(bytes.maketrans(_STANDARD, _HQX))
    rows = CRLF.join(characters[at : at + 64] for at in range(0, len(characters), 64))
    return _text(b"(This file must be converted with BinHex 4.0)\r\n\r\n:" + rows + b":\r\n")


def utf16_text(_: Random) -> Entity:
    return entity(b"text/plain; charset=utf-16", _base64(PAYLOAD.decode().encode("utf-16")), encoding=b"base64")


def utf16_text_without_mark(_: Random) -> Entity:
    return entity(b"text/plain; charset=utf-16be", _base64(PAYLOAD.decode().encode("utf-16-be")), encoding=b"base64")


def uuencode_in_utf16_text(_: Random) -> Entity:
    octets = _uuencoded(_uu_rows()).decode().encode("utf-16")
    return entity(b"text/plain; charset=utf-16", _base64(octets), encoding=b"base64")


def _apple(magic: int, kind: int) -> bytes:
    entries = ((3, NAME), (kind, PAYLOAD))
    at = 26 + 12 * len(entries)
    table = b""
    for number, content in entries:
        table += struct.pack(">III", number, at, len(content))
        at += len(content)
    return struct.pack(">II16xH", magic, 0x20000, len(entries)) + table + NAME + PAYLOAD


def apple_single(_: Random) -> Entity:
    return entity(b"application/applefile", _base64(_apple(0x00051600, 1)), encoding=b"base64")


def apple_double(_: Random) -> Entity:
    return entity(b"application/applefile", _base64(_apple(0x00051607, 2)), encoding=b"base64")


def mac_binary(_: Random) -> Entity:
    header = bytearray(128)
    header[1 : 2 + len(NAME)] = bytes((len(NAME),)) + NAME
    header[65:73] = b"TEXTttxt"
    header[83:91] = struct.pack(">II", len(PAYLOAD), 0)
    octets = bytes(header) + PAYLOAD + b"\0" * (-len(PAYLOAD) % 128)
    return entity(b"application/macbinary", _base64(octets), encoding=b"base64", name=b"x.bin")


LEAVES: Mapping[str, Leaf] = {
    leaf.__name__.replace("_", " "): leaf
    for leaf in (
        base64_clean, base64_with_junk, base64_with_padding_in_the_middle, base64_that_ends_at_its_padding,
        base64_with_padding_to_skip, base64_that_ends_at_junk, base64_url_safe, base64_without_padding,
        base64_with_one_character_too_many, base64_one_character_a_line, base64_with_footer, base64_in_name_only,
        quoted_printable,
        quoted_printable_lower_case, quoted_printable_soft_break, quoted_printable_soft_break_and_blanks,
        quoted_printable_soft_break_by_cr, quoted_printable_false_escape,
        encoding_in_quotes, encoding_with_comma, encoding_with_words, encoding_as_encoded_word, encoding_in_pieces,
        encoding_unknown, encoding_unknown_for_quoted_printable, uuencode_in_text, uuencode_without_end,
        uuencode_as_encoding, uuencode_in_base64_text, xxencode_in_text, posix_base64_in_text, yenc_in_text,
        binhex_in_text, utf16_text, utf16_text_without_mark, uuencode_in_utf16_text, apple_single, apple_double,
        mac_binary,
    )
}  # fmt: skip

"""Wrappings - the ways in which an entity can lie in a mail so that only some readers come upon it.

Each function takes an entity and gives a larger one with it inside.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random

from tests.corpus import build
from tests.corpus.entities import CRLF, Entity, boundary, container, entity, field, text_part, whole_mail

Wrapping = Callable[[Random, Entity], Entity]


def mixed(random: Random, inner: Entity) -> Entity:
    return container(boundary(random), [text_part(), inner])


def alone(_: Random, inner: Entity) -> Entity:
    return inner


def nested_in_multiparts(random: Random, inner: Entity) -> Entity:
    for _ in range(20):
        inner = container(boundary(random), [text_part(), inner], b"alternative")
    return inner


def without_closing_boundary(random: Random, inner: Entity) -> Entity:
    made = mixed(random, inner)
    return replace(made, body=made.body[: made.body.rindex(b"--", 0, -6)].rstrip(b"-"))


def behind_closing_boundary(random: Random, inner: Entity) -> Entity:
    mark = boundary(random)
    made = container(mark, [text_part()])
    return replace(made, body=made.body + b"--" + mark + CRLF + inner.octets + CRLF + b"--" + mark + b"--" + CRLF)


def in_epilogue(random: Random, inner: Entity) -> Entity:
    made = container(boundary(random), [text_part()])
    return replace(made, body=made.body + inner.octets)


def in_preamble(random: Random, inner: Entity) -> Entity:
    made = container(boundary(random), [text_part()])
    return replace(made, body=inner.octets + CRLF + made.body)


def reopened_inner_multipart(random: Random, inner: Entity) -> Entity:
    one, two = boundary(random), boundary(random)
    first = container(two, [text_part()])
    again = b"--" + two + CRLF + inner.octets + CRLF + b"--" + two + b"--" + CRLF
    return container(one, [replace(first, body=first.body + again), text_part()])


def inner_boundary_begins_with_outer(random: Random, inner: Entity) -> Entity:
    mark = boundary(random)
    return container(mark, [container(mark + b"a", [text_part(), inner]), text_part()])


def outer_boundary_begins_with_inner(random: Random, inner: Entity) -> Entity:
    mark = boundary(random)
    return container(mark + b"a", [container(mark, [text_part(), inner]), text_part()])


def delimiter_goes_on(random: Random, inner: Entity) -> Entity:
    """A line that begins with the delimiter: enough for RFC 2046, and for some readers."""
    mark = boundary(random)
    made = container(mark, [text_part()])
    return replace(made, body=b"--" + mark + b"xyz" + CRLF + inner.octets + CRLF + made.body)


def same_boundary_inside(random: Random, inner: Entity) -> Entity:
    mark = boundary(random)
    return container(mark, [container(mark, [text_part(), inner]), text_part()])


def delimiters_in_text(random: Random, inner: Entity) -> Entity:
    """The text part speaks of a boundary that another reader takes, so that for him the payload is a text's end."""
    mark = boundary(random)
    made = container(mark, [text_part(b"--decoy\r\n\r\nhello\r\n--decoy--"), inner])
    return made.with_field(b"Content-Type", lambda line: line.rstrip() + b'; boundary="decoy"' + CRLF)


def delimiter_behind_bare_cr(random: Random, inner: Entity) -> Entity:
    mark = boundary(random)
    made = container(mark, [text_part()])
    head, _, tail = made.body.rpartition(b"--" + mark + b"--")
    return replace(made, body=head[:-2] + b"\r--" + mark + b"\r\n" + inner.octets + CRLF + b"--" + mark + b"--" + tail)


def delimiter_with_blanks(random: Random, inner: Entity) -> Entity:
    made = mixed(random, inner)
    return replace(made, body=made.body.replace(b"\r\nContent-Type", b" \t\r\nContent-Type"))


def empty_boundary(random: Random, inner: Entity) -> Entity:
    return container(b"", [text_part(), inner])


def lines_end_in_lf(random: Random, inner: Entity) -> Entity:
    made = mixed(random, inner)
    return replace(made, fields=tuple(f.replace(CRLF, b"\n") for f in made.fields), gap=b"\n",
                   body=made.body.replace(CRLF, b"\n"))  # fmt: skip


def multipart_in_base64(random: Random, inner: Entity) -> Entity:
    made = mixed(random, inner)
    return _encoded(made, b"base64", base64.encodebytes(made.body).replace(b"\n", CRLF))


def multipart_in_quoted_printable(random: Random, inner: Entity) -> Entity:
    made = mixed(random, inner)
    return _encoded(made, b"quoted-printable", _quoted(made.body))


def _quoted(octets: bytes) -> bytes:
    return CRLF.join(b"".join(b"=%02X" % octet for octet in line) for line in octets.split(CRLF))


def _encoded(made: Entity, encoding: bytes, body: bytes) -> Entity:
    return replace(made, fields=(*made.fields, field(b"Content-Transfer-Encoding", encoding)), body=body)


def _attached_mail(inner: Entity) -> bytes:
    return build.header({"Subject": "inner", "MIME-Version": "1.0"}) + inner.octets


def message(random: Random, inner: Entity) -> Entity:
    return container(boundary(random), [text_part(), entity(b"message/rfc822", _attached_mail(inner))])


def message_in_base64(random: Random, inner: Entity) -> Entity:
    body = base64.encodebytes(_attached_mail(inner)).replace(b"\n", CRLF)
    return container(boundary(random), [text_part(), entity(b"message/rfc822", body, encoding=b"base64")])


def message_in_quoted_printable(random: Random, inner: Entity) -> Entity:
    body = _quoted(_attached_mail(inner))
    return container(boundary(random), [text_part(), entity(b"message/rfc822", body, encoding=b"quoted-printable")])


def message_said_to_be_base64(random: Random, inner: Entity) -> Entity:
    return container(boundary(random), [entity(b"message/rfc822", _attached_mail(inner), encoding=b"base64")])


def digest(random: Random, inner: Entity) -> Entity:
    return container(boundary(random), [Entity((), _attached_mail(inner))], b"digest")


def partial_message(_: Random, inner: Entity) -> Entity:
    return entity(b'message/partial; id="a@example.org"; number=1; total=1', _attached_mail(inner))


def external_body(random: Random, inner: Entity) -> Entity:
    kind = b'message/external-body; access-type=URL; URL="http://example.org/"'
    return container(boundary(random), [text_part(), entity(kind, inner.octets)])


def unknown_message_type(random: Random, inner: Entity) -> Entity:
    return container(boundary(random), [text_part(), entity(b"message/news", _attached_mail(inner))])


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 128 | len(length))) + length + content


_DATA = _tlv(6, bytes.fromhex("2a864886f70d010701"))
_SIGNED = _tlv(6, bytes.fromhex("2a864886f70d010702"))
_COMPRESSED = _tlv(6, bytes.fromhex("2a864886f70d0109100109"))
_ZLIB = _tlv(48, _tlv(6, bytes.fromhex("2a864886f70d0109100308")))


def signed_data(content: bytes) -> bytes:
    """A SignedData without any signer, in DER."""
    fields = _tlv(2, b"\1") + _tlv(49, b"") + _tlv(48, _DATA + _tlv(0xA0, _tlv(4, content))) + _tlv(49, b"")
    return _tlv(48, _SIGNED + _tlv(0xA0, _tlv(48, fields)))


def signed_data_streamed(content: bytes) -> bytes:
    """The same in BER, with indefinite lengths and the content in pieces."""
    pieces = b"".join(_tlv(4, content[at : at + 100]) for at in range(0, len(content), 100))
    inner = b"\x30\x80" + _DATA + b"\xa0\x80\x24\x80" + pieces + b"\0\0" * 3
    fields = _tlv(2, b"\1") + _tlv(49, b"") + inner + _tlv(49, b"")
    return b"\x30\x80" + _SIGNED + b"\xa0\x80\x30\x80" + fields + b"\0\0" * 3


def compressed_data(content: bytes) -> bytes:
    packed = _tlv(48, _DATA + _tlv(0xA0, _tlv(4, zlib.compress(content))))
    return _tlv(48, _COMPRESSED + _tlv(0xA0, _tlv(48, _tlv(2, b"\0") + _ZLIB + packed)))


def _smime(octets: bytes, kind: bytes) -> Entity:
    body = base64.encodebytes(octets).replace(b"\n", CRLF)
    return entity(b"application/pkcs7-mime; smime-type=" + kind, body, encoding=b"base64", name=b"smime.p7m")


def smime_signed(_: Random, inner: Entity) -> Entity:
    return _smime(signed_data(inner.octets), b"signed-data")


def smime_signed_in_pieces(_: Random, inner: Entity) -> Entity:
    return _smime(signed_data_streamed(inner.octets), b"signed-data")


def smime_compressed(_: Random, inner: Entity) -> Entity:
    return _smime(compressed_data(inner.octets), b"compressed-data")


WRAPPINGS: Mapping[str, Wrapping] = {
    wrapping.__name__.replace("_", " "): wrapping
    for wrapping in (
        mixed, alone, nested_in_multiparts, without_closing_boundary, behind_closing_boundary, in_epilogue, in_preamble,
        reopened_inner_multipart, inner_boundary_begins_with_outer, outer_boundary_begins_with_inner, delimiter_goes_on,
        same_boundary_inside, delimiters_in_text, delimiter_behind_bare_cr, delimiter_with_blanks, empty_boundary,
        lines_end_in_lf, multipart_in_base64, multipart_in_quoted_printable, message, message_in_base64,
        message_in_quoted_printable, message_said_to_be_base64, digest, partial_message, external_body,
        unknown_message_type, smime_signed, smime_signed_in_pieces, smime_compressed,
    )
}  # fmt: skip
__all__ = ["WRAPPINGS", "Wrapping", "compressed_data", "signed_data", "signed_data_streamed", "whole_mail"]

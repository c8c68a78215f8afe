"""The forms in which files stand in mails: transfer encodings, encodings in texts, S/MIME, Macintosh wrappings."""

from __future__ import annotations

import base64
import binascii
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amavispy.inspection.budget import Limits
from amavispy.inspection.cms import CmsContent, cms_content, looks_like_cms
from amavispy.inspection.decoder import Decoded, Decoder
from amavispy.inspection.macintosh import apple_forks, is_apple_file, is_macbinary, macbinary_forks
from amavispy.inspection.text_encodings import encoded_files, has_encoded_files, uuencoded_files
from amavispy.inspection.transfer_encodings import (
    base64_readings,
    decode_base64,
    decode_quoted_printable,
    decodings,
    quoted_printable_readings,
)
from amavispy.mail.message import Content
from tests.corpus import build, leaves
from tests.corpus.wrappings import compressed_data, signed_data, signed_data_streamed

DECODER = Decoder(Limits())
INNER = b"Content-Type: text/plain\r\n\r\nhello\r\n"
ENVELOPED = bytes.fromhex("302006092a864886f70d010703a0130201003100300c06092a864886f70d0107018000")


def decode(octets: bytes) -> Decoded:
    return DECODER.decode(Content(octets))


def are_ambiguous(found: object) -> bool:
    return any(defect.is_ambiguous for defect in found.defects)  # type: ignore[attr-defined]


# base64


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"\r\n", b"\n"]))
def test_clean_base64_has_one_reading(content: bytes, line_end: bytes):
    found = base64_readings(base64.encodebytes(content).replace(b"\n", line_end))
    assert (found.usual, found.others, found.defects) == (content, (), ())


@pytest.mark.parametrize(
    ("octets", "readings", "is_ambiguous"),
    [
        (b"aGVsbG8=\r\nIHdvcmxk", {b"hello world", b"hello", b"hello\x08\x1d\xdb\xdc\x9b\x19"}, True),
        (b"aGVs!bG8=", {b"hello", b"hel"}, True),
        (b"aGVs\0bG8=", {b"hello"}, False),
        (b"aGVs bG8=", {b"hello"}, False),
        (b"aGVsbG8", {b"hello"}, False),
        (b"aGVsb", {b"hel"}, False),
        (b"aGVsbG8=\r\n-- \r\nlist of friends\r\n", None, False),
        (b"aGVs\r\n-- \r\nlist of friends\r\n", None, False),
        (b"aGVs\r\n-- \r\nlist of friends\r\n" + b"Q" * 40, None, True),
        (b"_-8=", {b"\xff\xef", b""}, True),
    ],
)
def test_base64_is_read_in_every_way(octets: bytes, readings: set[bytes] | None, is_ambiguous: bool):
    found = base64_readings(octets)
    if is_ambiguous and readings:
        readings = readings | {octets}  # who cannot decode it shows it as it is
    assert readings is None or readings == {found.usual, *found.others}
    assert are_ambiguous(found) == is_ambiguous


def test_a_footer_behind_base64_is_not_decoded_by_most():
    assert decode_base64(b"aGVsbG8=\r\n-- \r\nlist of friends\r\n") == b"hello"
    assert decode_base64(b"aGVs\r\n-- \r\nlist of friends\r\n") == b"hel"


def test_junk_that_takes_the_place_of_line_ends_is_noticed():
    lines = base64.encodebytes(bytes(range(200))).replace(b"\n", b"\r\n").split(b"\r\n")
    assert are_ambiguous(base64_readings(b"\r\n".join(lines[:2]) + b"!!" + b"\r\n".join(lines[2:])))


# quoted-printable


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_clean_quoted_printable_has_one_reading(content: bytes):
    encoded = b"=\r\n".join(b"=%02X" % octet for octet in content)
    found = quoted_printable_readings(encoded)
    assert (found.usual, found.others, found.defects) == (content, (), ())


@pytest.mark.parametrize(
    ("octets", "readings", "is_ambiguous"),
    [
        (b"a= \r\nb", [b"ab", b"a= \r\nb"], True),
        (b"a=\rb", [b"ab", b"a=\rb"], True),
        (b"a=zzb", [b"a=zzb", b"azzb"], False),
        (b"a==3Db", [b"a==b", b"a=b"], False),
        (b"a=", [b"a"], False),
    ],
)
def test_quoted_printable_is_read_in_every_way(octets: bytes, readings: list[bytes], is_ambiguous: bool):
    found = quoted_printable_readings(octets)
    assert found.usual == decode_quoted_printable(octets) == readings[0]
    assert set(readings) <= {found.usual, *found.others}
    assert are_ambiguous(found) == is_ambiguous


def test_more_false_escapes_than_anybody_writes_are_ambiguous_at_once():
    found = quoted_printable_readings(b"=zz" * 60_000)
    assert found.others == ()
    assert are_ambiguous(found)


@pytest.mark.parametrize(
    ("octets", "encoding", "is_ambiguous"),
    [
        (b"hello there\r\n", "8-bit", False),
        (b"hello there\r\n", "x-foo", False),
        (base64.encodebytes(b"x" * 90), "x-foo", True),
        (b"=41=42=43\r\n", "x-foo", True),
        (b"a = b\r\n", "x-foo", False),
    ],
)
def test_an_unknown_encoding_is_ambiguous_when_it_can_be_guessed(octets: bytes, encoding: str, is_ambiguous: bool):
    found = decodings(octets, encoding)
    assert found.usual == octets
    assert are_ambiguous(found) == is_ambiguous


# In texts


@settings(max_examples=150, deadline=None)
@given(st.binary(min_size=1, max_size=200))
def test_what_is_uuencoded_is_found_again(content: bytes):
    rows = b"".join(binascii.b2a_uu(content[at : at + 45]) for at in range(0, len(content), 45))
    assert (b"a b.exe", content) in list(uuencoded_files(b"hi\nbegin 644 a b.exe\n" + rows + b"`\nend\n"))


def test_two_files_in_one_text_are_both_found():
    one = b"begin 644 one\n#86)C\n`\nend\n"
    assert [name for name, _ in uuencoded_files(one + b"text\n" + one.replace(b"one", b"two"))] == [b"one", b"two"]


@pytest.mark.parametrize("text", [b"begin the day\n", b"we begin 644 things\n", b"=y begin\n", b"BinHex is old\n", b""])
def test_ordinary_text_holds_no_files(text: bytes):
    assert not has_encoded_files(text)
    assert list(encoded_files(text)) == []


def test_binhex_expands_runs_and_its_own_mark():
    packed = b"aaaaa\x90b"
    header = b"\x01x\0TEXTtext\0\0" + struct.pack(">II", len(packed), 0) + b"\0\0"
    data = (header + packed + b"\0\0\0\0").replace(b"\x90", b"\x90\0").replace(b"aaaaa", b"a\x90\x05")
    table = bytes.maketrans(
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        b"!\"#$%&'()*+,-012345689@ABCDEFGHIJKLMNPQRSTUVXYZ[`abcdefhijklmpqr",
    )
    characters = base64.b64encode(data + b"\0" * (-len(data) % 3)).translate(table)
    text = b"(This file must be converted with BinHex 4.0)\n:" + characters + b":\n"
    assert list(encoded_files(text)) == [(b"x", packed)]


def test_several_kinds_in_one_text_are_all_found():
    mail = b"".join(
        leaf(None).body + b"\r\n"  # type: ignore[arg-type]
        for leaf in (leaves.uuencode_in_text, leaves.yenc_in_text, leaves.binhex_in_text, leaves.posix_base64_in_text)
    )
    assert [content for _, content in encoded_files(mail)].count(build.EICAR) == 4


# S/MIME


@pytest.mark.parametrize("wrapped", [signed_data(INNER), signed_data_streamed(INNER * 9), compressed_data(INNER)])
def test_the_content_of_cms_is_found(wrapped: bytes):
    assert looks_like_cms(wrapped)
    found = cms_content(wrapped, 1 << 20)
    assert found
    assert found.octets in (INNER, INNER * 9)


def test_cms_in_pem_is_read():
    pem = b"-----BEGIN PKCS7-----\n" + base64.encodebytes(signed_data(INNER)) + b"-----END PKCS7-----\n"
    assert looks_like_cms(pem)
    assert cms_content(pem, 1 << 20) == CmsContent(INNER)


def test_enveloped_data_is_encrypted_and_the_mail_unchecked():
    assert cms_content(ENVELOPED, 1000) == CmsContent(None, is_encrypted=True)
    decoded = decode(build.attachment(ENVELOPED, "smime.p7m", "application/pkcs7-mime"))
    assert [unchecked.minor for unchecked in decoded.unchecked] == [1]


def test_a_compressed_content_grows_to_its_limit_only():
    found = cms_content(compressed_data(bytes(1 << 20)), 1000)
    assert found
    assert found.octets == bytes(1000)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([signed_data(INNER), signed_data_streamed(INNER), ENVELOPED]), st.integers(0, 120), st.binary())
def test_no_damage_makes_cms_fail(wrapped: bytes, at: int, damage: bytes):
    cms_content(wrapped[:at] + damage + wrapped[at + 1 :], 1000)
    cms_content(wrapped[:at], 1000)


# Macintosh


def test_an_apple_double_of_no_forks_still_tells_its_name():
    octets = struct.pack(">II16xHIII", 0x00051607, 0x20000, 1, 3, 38, 9) + b"setup.exe"
    assert is_apple_file(octets)
    assert list(apple_forks(octets)) == [(b"setup.exe", b"")]


def test_both_forks_of_mac_binary_are_found():
    header = bytearray(128)
    header[1:4] = b"\x02ab"
    header[83:91] = struct.pack(">II", 5, 3)
    octets = bytes(header) + b"hello".ljust(128, b"\0") + b"xyz"
    assert is_macbinary(octets)
    assert list(macbinary_forks(octets)) == [(b"ab", b"hello"), (b"ab", b"xyz")]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_no_octets_make_an_apple_file_fail(octets: bytes):
    list(apple_forks(b"\x00\x05\x16\x07" + octets))
    list(macbinary_forks(octets.ljust(128, b"\0")))


# In the tree


def test_a_text_in_utf16_is_looked_into():
    text = "begin 644 setup.exe\r\n#86)C\r\n`\r\nend\r\n"
    decoded = decode(build.multipart([build.entity(text.encode("utf-16"), "text/plain; charset=utf-16")]))
    assert [part.octets for part in decoded.parts if "setup.exe" in part.names] == [b"abc"]


def test_a_picture_with_nuls_is_no_text():
    decoded = decode(build.attachment(b"\x89PNG\r\n\x1a\n" + b"a\0" * 300, "a.png", "image/png"))
    assert len(decoded.parts) == 3


def test_names_in_external_bodies_are_told():
    body = b'Content-Type: application/octet-stream; name="setup.exe"\r\n\r\n'
    mail = build.mail(body, {"Content-Type": 'message/external-body; access-type=URL; URL="http://example.org/x"'})
    assert any("setup.exe" in part.names for part in decode(mail).parts)


def test_base64_in_the_middle_of_a_message_is_decoded_from_a_fragment():
    body = base64.encodebytes(b"MZ" + bytes(300)).replace(b"\n", b"\r\n")
    mail = build.mail(body, {"Content-Type": 'message/partial; id="x"; number=2; total=3'})
    decoded = decode(mail)
    assert any(part.octets == b"MZ" + bytes(300) for part in decoded.parts)
    assert decoded.unchecked[0].minor == 0

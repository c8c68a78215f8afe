"""The decoder against trees recorded from amavisd 2.13, against Python's own parser, and against hostile mail."""

from __future__ import annotations

import email
import email.policy
import mmap
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amavispy.deadline import Deadline
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoded, Decoder
from amavispy.mail.message import Content
from amavispy.mail.verdict import Part
from tests.corpus import build

DECODER = Decoder(Limits())
MIXED = {"MIME-Version": "1.0", "Content-Type": "multipart/mixed; boundary=x"}


def decode(octets: bytes, decoder: Decoder = DECODER) -> Decoded:
    return decoder.decode(Content(octets))


def by_name(decoded: Decoded, name: str) -> Part:
    return next(part for part in decoded.parts if name in part.names)


def tree(decoded: Decoded) -> dict[str, tuple[int, str]]:
    """Location of each part that is no preamble -> its number and first type."""
    return {
        p.location: (p.number, (p.types or p.short_types or ("",))[0])
        for p in decoded.parts
        if "preamble" not in p.names
    }


def one_part(head: str, content: bytes = b"hello") -> bytes:
    return build.mail(b"--x\r\n" + head.encode("latin-1") + b"\r\n\r\n" + content + b"\r\n--x--\r\n", MIXED)


def test_a_plain_text_mail_is_one_part():
    (part,) = decode(build.text()).parts
    assert (part.number, part.location, part.parent) == (1, "1", None)
    assert (part.types, part.short_types, part.names) == (("text/plain",), ("asc",), ())
    assert part.is_leaf
    assert part.size == len(part.octets or b"") > 3000


def test_leaves_are_numbered_before_their_containers_and_members_last():
    inner = b"Content-Type: multipart/alternative; boundary=b2\r\n\r\n"
    inner += build.multipart_body([build.plain(b"a\r\n"), build.plain(b"b\r\n")], "b2")
    packed = build.zip_of({"a.txt": b"a", "d/b.txt": b"b", "e/": b"", "z": b""})
    decoded = decode(build.multipart([build.plain(), inner, build.entity(packed, "application/zip", "x.zip")]))
    assert tree(decoded) == {
        "1": (5, "multipart/mixed"),
        "1/1": (1, "text/plain"),
        "1/2": (6, "multipart/alternative"),
        "1/2/1": (2, "text/plain"),
        "1/2/2": (3, "text/plain"),
        "1/3": (4, "application/zip"),
        "1/3/1": (7, "dat"),
        "1/3/2": (8, "dat"),
        "1/3/3": (9, ""),
        "1/3/4": (10, "empty"),
    }
    assert by_name(decoded, "e/").attributes == "D"


def test_parents_stand_before_their_children():
    seen: set[int | None] = {None}
    for part in decode(build.nested_messages(3, build.exe_zip())).parts:
        assert part.parent in seen
        seen.add(part.number)


def test_an_attached_message_is_taken_apart():
    inner = b"Content-Type: message/rfc822\r\n\r\n" + build.double_extension()
    decoded = decode(build.multipart([build.plain(), inner], "digest", "outer"))
    assert by_name(decoded, "invoice.pdf.exe").location == "1/2/1/2"
    assert by_name(decoded, "invoice.pdf.exe").short_types == ("exe", "exe-ms")


def test_an_attached_message_in_base64_is_taken_apart_too():
    attached = build.entity(build.double_extension(), "message/rfc822", "old.eml")
    assert by_name(decode(build.multipart([attached])), "invoice.pdf.exe").octets == build.exe()


def test_parts_of_a_digest_are_messages_unless_they_say_otherwise():
    body = build.multipart_body([b"\r\n" + build.double_extension()], "x")
    decoded = decode(build.mail(body, {"Content-Type": "multipart/digest; boundary=x"}))
    assert by_name(decoded, "invoice.pdf.exe")


def test_uuencoded_files_in_a_text_become_parts():
    part = by_name(decode(build.uuencoded(build.exe(), "setup.exe")), "setup.exe")
    assert part.octets == build.exe()
    assert part.types == ("application/octet-stream",)


def test_a_long_preamble_and_epilogue_become_parts_of_their_own():
    body = b"pre\r\n" * 7 + b"--x\r\n\r\nhello\r\n--x--\r\n" + b"epi\r\n" * 7
    decoded = decode(build.mail(body, MIXED))
    assert by_name(decoded, "preamble").number == 2
    assert by_name(decoded, "epilogue").number == 4
    assert {p.location for p in decoded.parts if p.number in (2, 3, 4)} == {"1"}


def test_the_usual_line_for_old_readers_is_no_part():
    body = b"This is a multi-part message.\r\n--x\r\n\r\nhello\r\n--x--\r\n"
    assert len(decode(build.mail(body, MIXED)).parts) == 2


def test_a_preamble_with_odd_characters_is_a_part():
    body = b"\x01MZ\r\n--x\r\n\r\nhello\r\n--x--\r\n"
    assert by_name(decode(build.mail(body, MIXED)), "preamble").octets == b"\x01MZ"


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (b"", "error: unexpected end of preamble"),
        (b"hello\r\n", "error: unexpected end of preamble"),
        (
            b"--x\r\n\r\nhello\r\n",
            "error: part did not end with expected boundary; error: unexpected end of parts before epilogue",
        ),
        (b"--x\r\nContent-Type: text/html\r\n--x--\r\n", "error: unexpected end of header"),
    ],
)
def test_broken_structures_are_mime_errors_in_amavis_words(body: bytes, errors: str):
    (defect,) = decode(build.mail(body, MIXED)).mime_errors
    assert (defect.minor, defect.text) == (1, f"MIME error: {errors}")


def test_a_multipart_without_boundary_is_a_leaf():
    decoded = decode(build.mail(b"--x\r\n\r\nhello\r\n", {"Content-Type": "multipart/mixed"}))
    assert decoded.parts[0].types == ("multipart/mixed", "application/x-unparseable-multipart")
    assert "boundary is missing" in decoded.mime_errors[0].text


def test_a_sound_mail_has_no_mime_errors():
    for mail in (build.text(), build.html(), build.exe_zip(), build.nested_multiparts(5)):
        assert decode(mail).mime_errors == ()


def test_two_boundary_parameters_are_ambiguous_and_both_split():
    body = b"--y\r\n\r\none\r\n--x\r\n\r\ntwo\r\n--x--\r\n"
    decoded = decode(build.mail(body, {"Content-Type": "multipart/mixed; boundary=x; boundary=y"}))
    assert [p.octets for p in decoded.parts if p.is_leaf] == [b"two", b"one\r\n--x\r\n\r\ntwo\r\n--x--\r\n"]
    assert decoded.parts[0].attributes == "B"
    assert [u.minor for u in decoded.unchecked] == [3]


def test_parts_behind_the_closing_delimiter_are_seen_and_ambiguous():
    body = (
        b"--x\r\n\r\none\r\n--x--\r\n--x\r\nContent-Disposition: attachment; filename=late.exe\r\n\r\nMZ\r\n--x--\r\n"
    )
    decoded = decode(build.mail(body, MIXED))
    assert by_name(decoded, "late.exe").octets == b"MZ"
    assert [u.minor for u in decoded.unchecked] == [3]


def test_an_outer_delimiter_ends_inner_parts():
    inner = b"Content-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\nin\r\n"
    decoded = decode(build.mail(b"--x\r\n" + inner + b"--x\r\n\r\nout\r\n--x--\r\n", MIXED))
    assert {p.location: p.octets for p in decoded.parts if p.is_leaf} == {"1/1/1": b"in", "1/2": b"out"}


def test_the_inner_of_two_equal_boundaries_counts_first():
    inner = b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nin\r\n--x--\r\n"
    decoded = decode(build.mail(b"--x\r\n" + inner + b"--x--\r\n", MIXED))
    assert [p.octets for p in decoded.parts if p.is_leaf] == [b"in"]


def test_lines_that_end_in_lf_alone_are_split_too():
    decoded = decode(build.exe_zip().replace(b"\r\n", b"\n"))
    assert by_name(decoded, "setup.exe").octets == build.exe()


@pytest.mark.parametrize(
    ("head", "names"),
    [
        ('Content-Type: a/b; name="a.txt"\r\nContent-Disposition: attachment; filename="b.txt"', ("b.txt", "a.txt")),
        ("Content-Disposition: attachment; FILENAME=Foo.TXT", ("Foo.TXT",)),
        ('Content-Disposition: attachment; filename*0="b"; filename*1="c.txt"', ("bc.txt",)),
        ("Content-Disposition: attachment; filename*1*=%2Eexe; filename*0*=utf-8''%C3%A9", ("é.exe",)),
        (
            "Content-Disposition: attachment; filename*=utf-8''%C3%A9%20x.exe; filename=plain.txt",
            ("é x.exe", "plain.txt"),
        ),
        (
            'Content-Type: a/b; name="=?iso-8859-1?B?6S50eHQ=?= =?utf-8?q?=C3=A9_b?="',
            ("é.txté b", "=?iso-8859-1?B?6S50eHQ=?= =?utf-8?q?=C3=A9_b?="),
        ),
        ('Content-Type: a/b; name="\xe9.txt"', ("é.txt",)),
        ("Content-Disposition: attachment; filename=setup.exe junk", ("setup.exe junk", "setup.exe")),
        ('Content-Disposition: attachment; filename="a\\"b.exe"', ('a"b.exe', 'a\\"b.exe')),
        ('Content-Disposition: attachment; filename="unclosed.exe', ("unclosed.exe",)),
        ('Content-Disposition: attachment;\r\n\tfilename="fol\r\n ded.exe"', ("fol ded.exe",)),
        ("Content-Disposition: attachment; filename*=x-unknown''a%E9", ("aé",)),
        ('Content-Disposition: attachment; filename="a.txt"; filename="b.exe"', ("a.txt", "b.exe")),
        ("Content-Type : a/b; name=spaced.exe", ("spaced.exe",)),
    ],
)
def test_every_candidate_name_is_kept(head: str, names: tuple[str, ...]):
    assert decode(one_part(head)).parts[1].names == names


def test_an_endless_name_keeps_its_ending():
    for mail in (
        build.attachment(b"x", "a" * 9000 + ".exe"),
        build.attachment(build.zip_of({"a" * 9000 + ".exe": b"x"}), "a.zip"),
    ):
        names = [name for part in decode(mail).parts for name in part.names]
        assert any(name.endswith(".exe") and len(name) == 4096 for name in names)


@pytest.mark.parametrize(
    ("encoding", "given", "content"),
    [
        ("base64", b"aGVsbG8=", b"hello"),
        ("BASE64", b"aGVs\r\nbG8=\r\n", b"hello"),
        ("base64 (really)", b"aGVsbG8=", b"hello"),
        ("base64", b"aG*Vs!bG8", b"hello"),
        ("base64", b"aGVsbG8=\r\nIHdvcmxk", b"hello world"),
        ("base64", b"aGVsbG8=!!!IHdvcmxkx", b"hello world"),
        ("quoted-printable", b"a=3Db=\r\nc=zz", b"a=bc=zz"),
        ("quoted-printable", b"a= \t\r\nb", b"ab"),
        ("8bit", b"caf\xe9", b"caf\xe9"),
        ("x-uuencode", b"begin 644 a\r\n#86)C\r\n`\r\nend", b"abc"),
        ("foo", b"abc", b"abc"),
    ],
)
def test_transfer_encodings_are_undone_leniently(encoding: str, given: bytes, content: bytes):
    part = decode(one_part(f"Content-Type: text/x\r\nContent-Transfer-Encoding: {encoding}", given)).parts[1]
    assert part.octets == content


def test_an_unknown_encoding_makes_a_part_octets_as_well():
    part = decode(one_part("Content-Type: text/plain\r\nContent-Transfer-Encoding: foo")).parts[1]
    assert part.types == ("text/plain", "application/octet-stream")


def test_two_content_types_are_both_kept_and_ambiguous():
    decoded = decode(one_part("Content-Type: text/plain\r\nContent-Type: application/x-msdownload"))
    assert decoded.parts[1].types == ("text/plain", "application/x-msdownload")
    assert decoded.parts[1].attributes == "B"


def test_an_encrypted_type_is_unchecked():
    decoded = decode(one_part("Content-Type: application/x-encrypted"))
    assert decoded.parts[1].attributes == "UC"
    assert [u.minor for u in decoded.unchecked] == [0, 1]


def test_an_encrypted_zip_still_tells_its_names():
    decoded = decode(build.encrypted_zip())
    part = by_name(decoded, "secret.txt")
    assert (part.octets, part.attributes, part.is_leaf) == (None, "UC", True)
    assert [u.minor for u in decoded.unchecked] == [0, 1]
    assert decoded.hold == ""


def test_fourteen_levels_are_decoded_and_fifteen_are_held():
    assert by_name(decode(build.nested_zip(13)), "inner.txt").octets == b"the innermost\n"
    held = decode(build.nested_zip(14))
    assert held.hold == "Maximum decoding depth (14) exceeded"
    assert [(u.minor, u.text) for u in held.unchecked] == [(2, held.hold)]


def test_messages_in_messages_count_as_levels():
    assert decode(build.nested_messages(30)).hold == "Maximum decoding depth (14) exceeded"


def test_a_thousand_nested_multiparts_are_no_depth_of_decoding():
    decoded = decode(build.nested_multiparts(1000))
    assert decoded.hold == ""
    assert sum(p.is_leaf for p in decoded.parts) == 1


def test_too_many_parts_are_held_and_a_mime_error():
    decoded = decode(build.many_parts(1600))
    assert len(decoded.parts) == 1500
    assert decoded.hold == "Maximum number of files (1500) exceeded"
    assert decoded.mime_errors[0].text.endswith("Unable to parse, perhaps message contains too many parts")


def test_too_many_members_are_held():
    decoded = decode(build.attachment(build.many_members_zip(2000), "many.zip"))
    assert decoded.hold == "Maximum number of files (1500) exceeded"
    assert all(p.short_types for p in decoded.parts if p.octets is not None)


def test_a_bomb_stops_at_the_quota_and_its_name_is_kept():
    mail = build.attachment(build.gzip_bomb(200 << 20), "setup.exe.gz")
    decoded = decode(mail)
    assert decoded.hold == (
        f"Exceeded storage quota {Limits().quota(len(mail))} bytes by do_gunzip; last chunk 1048576 bytes"
    )
    assert by_name(decoded, "setup.exe").octets is None


def test_the_quota_is_that_of_amavis():
    limits = Limits()
    assert [limits.quota(size) for size in (0, 3998, 10_000_000, 100_000_000)] == [
        102_400,
        1_999_000,
        314_572_800,
        500_000_000,
    ]


def test_a_failed_unpacker_leaves_the_part_as_it_is():
    decoded = decode(build.attachment(b"PK\x03\x04" + b"\x01" * 100, "broken.zip"))
    part = by_name(decoded, "broken.zip")
    assert part.is_leaf
    assert part.octets
    assert [u.minor for u in decoded.unchecked] == [0]


def test_a_program_with_a_zip_at_its_end_is_both():
    decoded = decode(build.attachment(build.exe() + build.zip_of({"inner.vbs": b"x" * 9}), "sfx.exe"))
    assert by_name(decoded, "sfx.exe").short_types == ("exe", "exe-ms", "zip")
    assert by_name(decoded, "inner.vbs").octets == b"x" * 9


def test_a_mapped_mail_decodes_as_one_in_memory():
    mail = build.attachment(build.zip_of({"a.bin": bytes(range(256)) * 400}), "a.zip") + b"\0" * 100_000
    with tempfile.TemporaryFile() as file:
        file.write(mail)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    decoded = DECODER.decode(Content(mapped))
    assert tree(decoded) == tree(decode(mail))
    assert by_name(decoded, "a.bin").octets == bytes(range(256)) * 400


def test_decoding_ends_when_the_time_is_over():
    with pytest.raises(TimeoutError):
        DECODER.decode(Content(build.eicar_zip()), Deadline.after(-1))


# Properties

_PIECES = [
    b"--x",
    b"--x--",
    b"--y",
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"Content-Type: multipart/mixed; boundary=x",
    b"Content-Type: multipart/x; boundary=y; boundary=x",
    b"Content-Type: message/rfc822",
    b"Content-Transfer-Encoding: base64",
    b"Content-Transfer-Encoding: quoted-printable",
    b'Content-Disposition: x; filename*0*="a%',
    b"begin 644 x\n#86)C\n",
    b"UEsDBBQAAAAIAABgwVw/ZQ1lIAAAAD",
    b"=\r\n=3",
    b"\x00\xff",
    b" ",
    b";",
]
HOSTILE = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=12), max_size=60).map(b"".join)
ARCHIVES = st.sampled_from(
    [
        build.zip_of({"a": b"a" * 99, "b/c": b"c"}),
        build.tar_of({"a": b"a" * 99}),
        build.gzip_of(b"a" * 99, "a"),
        build.bzip2_of(b"a" * 99),
        build.xz_of(b"a" * 99),
    ]
)


@settings(max_examples=300, deadline=None)
@given(HOSTILE)
def test_nothing_makes_the_decoder_raise(octets: bytes):
    decoded = decode(octets)
    numbers = sorted(part.number for part in decoded.parts)
    assert numbers == list(range(1, len(numbers) + 1))


@settings(max_examples=150, deadline=None)
@given(ARCHIVES, st.integers(0, 300), st.binary(min_size=1, max_size=4))
def test_no_damage_to_an_archive_makes_the_decoder_raise(archive: bytes, at: int, damage: bytes):
    at %= len(archive)
    damaged = archive[:at] + damage + archive[at + len(damage) :]
    assert decode(build.attachment(damaged, "x.bin")).parts
    assert decode(build.attachment(archive[:at], "x.bin")).parts


ENTITIES = st.recursive(
    st.builds(
        build.entity,
        st.text("abc déf-\n", min_size=1, max_size=40).map(lambda t: t.replace("\n", "\r\n").encode()),
        st.sampled_from(["text/plain; charset=utf-8", "application/pdf", "text/html"]),
        st.none() | st.text("abc.exe", min_size=1, max_size=12),
    ),
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(lambda entities: _wrapped(entities)),
    max_leaves=8,
)


def _wrapped(entities: list[bytes]) -> bytes:
    mark = f"={len(b''.join(entities))}="  # longer than any boundary inside, so never one of them
    head = f'Content-Type: multipart/mixed; boundary="{mark}"\r\n\r\n'.encode()
    return head + build.multipart_body(entities, mark)


@settings(max_examples=150, deadline=None)
@given(ENTITIES)
def test_well_formed_mail_is_read_as_the_standard_library_reads_it(entity: bytes):
    octets = build.header({"MIME-Version": "1.0"}) + entity
    theirs = [m for m in email.message_from_bytes(octets, policy=email.policy.compat32).walk() if not m.is_multipart()]
    ours = [part for part in sorted(decode(octets).parts, key=lambda p: p.number) if part.is_leaf]
    assert [p.octets for p in ours] == [m.get_payload(decode=True) for m in theirs]
    assert [p.types for p in ours] == [(m.get_content_type(),) for m in theirs]
    assert [p.names[:1] for p in ours] == [tuple(filter(None, [m.get_filename()])) for m in theirs]

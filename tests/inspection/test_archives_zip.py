"""Zip files that two readers understand differently: every reading comes out, and the difference is told."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import pytest

from amavispy.inspection.archives import UNPACKERS
from amavispy.inspection.budget import Budget, Limits
from amavispy.inspection.packed import Member, Packed, Remark, unpacked
from tests.corpus import build

GOOD, EVIL = b"harmless\n" * 9, b"the payload\n" * 9


def read(octets: bytes) -> tuple[dict[tuple[str, ...], bytes | None], str]:
    """Members by names, and the attributes noted on the zip."""
    found = list(unpacked(UNPACKERS["zip"], Packed(octets), Budget(Limits(), 1 << 20)))
    members = {m.names: None if m.octets is None else bytes(m.octets) for m in found if isinstance(m, Member)}
    return members, "".join(r.attributes for r in found if isinstance(r, Remark))


def contents(octets: bytes) -> set[bytes | None]:
    return set(read(octets)[0].values())


def local(name: bytes, content: bytes, *, method: int = 0, flags: int = 0, size: int | None = None) -> bytes:
    packed = content if not method else zlib.compress(content)[2:-4]
    length = len(packed) if size is None else size
    fields = struct.pack(
        "<HHHHHIIIHH", 20, flags, method, 0, 0, zlib.crc32(content), length, len(content), len(name), 0
    )
    return b"PK\3\4" + fields + name + packed


def directory(
    name: bytes, content: bytes, at: int, *, method: int = 0, flags: int = 0, size: int | None = None
) -> bytes:
    packed = content if not method else zlib.compress(content)[2:-4]
    length = len(packed) if size is None else size
    fields = struct.pack("<HHHHHIII", 20, flags, method, 0, 0, zlib.crc32(content), length, len(content))
    return b"PK\1\2\x14\3" + fields + struct.pack("<HHHHHII", len(name), 0, 0, 0, 0, 0, at) + name


def end(count: int, size: int, at: int, comment: bytes = b"") -> bytes:
    return b"PK\5\6" + struct.pack("<HHHHIIH", 0, 0, count, count, size, at, len(comment)) + comment


def archive(body: bytes, *entries: bytes) -> bytes:
    listed = b"".join(entries)
    return body + listed + end(len(entries), len(listed), len(body))


def test_an_honest_zip_is_not_ambiguous():
    body = local(b"a", GOOD)
    assert read(archive(body, directory(b"a", GOOD, 0))) == ({("a",): GOOD}, "")


def test_a_streamed_zip_is_not_ambiguous():
    out = io.BytesIO()

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, octets) -> int:
            return out.write(octets)

    with zipfile.ZipFile(Pipe(), "w", zipfile.ZIP_DEFLATED) as streamed:  # sizes stand behind the data
        streamed.writestr("a", GOOD)
        streamed.writestr("b", EVIL)
    assert read(out.getvalue()) == ({("a",): GOOD, ("b",): EVIL}, "")


def test_a_zip_of_zips_is_not_ambiguous():
    inner = build.zip_of({"x": EVIL})
    stored = archive(local(b"inner.zip", inner), directory(b"inner.zip", inner, 0))
    assert read(stored) == ({("inner.zip",): inner}, "")


def test_a_member_that_no_directory_lists_comes_out():
    body = local(b"a", GOOD) + local(b"hidden.exe", EVIL)
    assert read(archive(body, directory(b"a", GOOD, 0))) == ({("a",): GOOD, ("hidden.exe",): EVIL}, "B")


@pytest.mark.parametrize("method", [0, 8])
def test_a_streamed_member_that_no_directory_lists_comes_out(method: int):
    hidden = local(b"hidden", EVIL, method=method, flags=8, size=0) + b"PK\7\10" + bytes(12)
    members, attributes = read(archive(local(b"a", GOOD) + hidden, directory(b"a", GOOD, 0)))
    assert members[("hidden",)] == EVIL
    assert attributes == "B"


def test_a_member_with_two_names_has_both():
    octets = archive(local(b"setup.exe", EVIL), directory(b"photo.jpg", EVIL, 0))
    assert read(octets) == ({("photo.jpg", "setup.exe"): EVIL}, "B")


def test_slashes_the_other_way_are_the_same_name():
    octets = archive(local(b"d\\a.txt", GOOD), directory(b"d/a.txt", GOOD, 0))
    assert read(octets) == ({("d/a.txt",): GOOD}, "")


def test_a_member_with_two_sizes_is_read_both_ways():
    body = local(b"a", GOOD + EVIL)
    members, attributes = read(archive(body, directory(b"a", GOOD, 0)))
    assert attributes == "B"
    found = list(unpacked(UNPACKERS["zip"], Packed(archive(body, directory(b"a", GOOD, 0))), Budget(Limits(), 1 << 20)))
    assert [bytes(m.octets or b"") for m in found if isinstance(m, Member)] == [GOOD, GOOD + EVIL]


def test_a_member_with_two_methods_is_read_both_ways():
    packed = zlib.compress(EVIL)[2:-4]
    body = local(b"a", EVIL, method=8)
    stored = b"PK\1\2\x14\3" + struct.pack("<HHHHHIII", 20, 0, 0, 0, 0, 0, len(packed), len(packed))
    stored += struct.pack("<HHHHHII", 1, 0, 0, 0, 0, 0, 0) + b"a"
    found = list(unpacked(UNPACKERS["zip"], Packed(archive(body, stored)), Budget(Limits(), 1 << 20)))
    assert [bytes(m.octets or b"") for m in found if isinstance(m, Member)] == [packed, EVIL]


def test_two_zips_one_behind_the_other_are_both_read():
    assert contents(build.zip_of({"a": GOOD}) + build.zip_of({"b": EVIL})) == {GOOD, EVIL}


def test_a_zip_in_another_ones_comment_is_read_too():
    inner = build.zip_of({"b": EVIL})
    outer = build.zip_of({"a": GOOD})
    assert contents(outer[:-2] + struct.pack("<H", len(inner)) + inner) == {GOOD, EVIL}


def test_a_fake_end_record_in_the_comment_hides_nothing():
    body = local(b"a", EVIL)
    listed = directory(b"a", EVIL, 0)
    fake = end(0, 0, 0)
    assert contents(body + listed + end(1, len(listed), len(body), fake)) == {EVIL}


def test_a_zip_without_a_directory_gives_its_members():
    members, _ = read(local(b"a", GOOD, method=8) + local(b"b", EVIL))
    assert members == {("a",): GOOD, ("b",): EVIL}


def test_a_directory_that_says_a_wrong_place_is_found_where_it_is():
    body = local(b"a", EVIL)
    listed = directory(b"a", EVIL, 0)
    assert contents(body + listed + end(1, len(listed), len(body) - 7)) >= {EVIL}


def test_a_signature_in_a_programs_code_is_no_member():
    code = b"PK\3\4" + bytes(range(7, 7 + 26)) + bytes(range(1, 200))
    assert read(code + build.zip_of({"a": EVIL})) == ({("a",): EVIL}, "")


def test_members_that_overlap_are_ambiguous():
    body = local(b"a", GOOD) + local(b"b", EVIL)
    second = len(local(b"a", GOOD))
    long = directory(b"a", GOOD, 0, size=len(GOOD) + 60)
    assert read(archive(body, long, directory(b"b", EVIL, second)))[1] == "B"


def test_zip64_sizes_are_read():
    extra = struct.pack("<HHQQ", 1, 16, len(EVIL), len(EVIL))
    fields = struct.pack("<HHHHHIII", 45, 0, 0, 0, 0, zlib.crc32(EVIL), 0xFFFFFFFF, 0xFFFFFFFF)
    body = b"PK\3\4" + fields + struct.pack("<HH", 1, len(extra)) + b"a" + extra + EVIL
    extra = struct.pack("<HHQQQ", 1, 24, len(EVIL), len(EVIL), 0)
    listed = b"PK\1\2\x2d\3" + fields + struct.pack("<HHHHHII", 1, len(extra), 0, 0, 0, 0, 0xFFFFFFFF) + b"a" + extra
    tail = b"PK\6\6" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, len(listed), len(body))
    tail += b"PK\6\7" + struct.pack("<IQI", 0, len(body) + len(listed), 1)
    assert read(body + listed + tail + b"PK\5\6" + bytes(4) + b"\xff" * 12 + bytes(2)) == ({("a",): EVIL}, "")


def test_a_directory_entry_with_octets_is_a_file():
    octets = archive(local(b"folder/", EVIL), directory(b"folder/", EVIL, 0))
    assert contents(octets) == {EVIL}


def test_a_wrong_checksum_is_noted_and_the_content_inspected():
    octets = bytearray(build.zip_of({"a": EVIL}))
    at = octets.find(b"PK\1\2")
    octets[at + 16] ^= 1
    found = list(unpacked(UNPACKERS["zip"], Packed(bytes(octets)), Budget(Limits(), 1 << 20)))
    assert found[0] == Member(("a",), EVIL, "U")


def test_names_are_read_in_every_character_set():
    raw = "grüße.exe".encode()
    names = next(iter(read(archive(local(raw, EVIL), directory(raw, EVIL, 0)))[0]))
    assert "grüße.exe" in names
    assert raw.decode("cp437") in names


def test_the_unicode_path_field_is_a_name():
    field = b"\1" + bytes(4) + b"real.exe"
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    plain = directory(b"shown.txt", EVIL, 0)
    listed = plain[:30] + struct.pack("<H", len(extra)) + plain[32:] + extra
    assert ("shown.txt", "real.exe") in read(archive(local(b"shown.txt", EVIL), listed))[0]


@pytest.mark.parametrize("flags", [1, 65, 8193])
def test_every_kind_of_encryption_is_told(flags: int):
    found = archive(local(b"a", EVIL, flags=flags), directory(b"a", EVIL, 0, flags=flags))
    assert read(found)[0] == {("a",): None}


@pytest.mark.parametrize("name", ["word/vbaProject.bin", "xl/macrosheets/sheet1.xml", "Basic/script-lc.xml"])
def test_documents_with_macros_are_flagged(name: str):
    octets = build.zip_of({"[Content_Types].xml": b"<x/>", name: b"x"})
    remarks = [
        r for r in unpacked(UNPACKERS["zip"], Packed(octets), Budget(Limits(), 1 << 20)) if isinstance(r, Remark)
    ]
    assert [r.types for r in remarks] == [("doc-macro",)]

"""Unpackers: what comes out, what only shows its name, and what stops at the budget."""

from __future__ import annotations

import bz2
import io
import stat
import tarfile
import zipfile

import pytest

from amavispy.inspection.archives import UNPACKERS
from amavispy.inspection.budget import Budget, LimitExceeded, Limits
from amavispy.inspection.packed import CannotUnpack, Member, Packed, Remark, Unpacked, unpacked
from tests.corpus import build

MEMBERS = {"a.txt": b"alpha" * 20, "dir/b.bin": bytes(range(256)) * 10}


def unpack(kind: str, octets: bytes, *names: str, quota: int = 1 << 24) -> list[Member]:
    limits = Limits(min_expansion_quota=quota, max_expansion_quota=quota, min_expansion_factor=0)
    return [found for found in _unpacked(kind, octets, names, limits) if isinstance(found, Member)]


def remarks(kind: str, octets: bytes) -> list[Remark]:
    return [found for found in _unpacked(kind, octets, (), Limits()) if isinstance(found, Remark)]


def _unpacked(kind: str, octets: bytes, names: tuple[str, ...], limits: Limits) -> Unpacked:
    return unpacked(UNPACKERS[kind], Packed(octets, names), Budget(limits, 0))


def contents(members: list[Member]) -> dict[str, bytes | None]:
    return {m.names[0]: None if m.octets is None else bytes(m.octets) for m in members}


def until_limit(kind: str, octets: bytes, quota: int) -> tuple[list[Member], str]:
    """The members that came before the budget was used up, and the text it ended with."""
    limits = Limits(min_expansion_quota=quota, max_expansion_quota=quota, min_expansion_factor=0)
    members: list[Member] = []
    try:
        for found in _unpacked(kind, octets, ("x.gz",), limits):
            if isinstance(found, Member):
                members.append(found)
    except LimitExceeded as limit:
        return members, str(limit)
    pytest.fail("the budget was never used up")


def stored_zip(info: zipfile.ZipInfo, content: bytes = b"content") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(info, content)
    return out.getvalue()


def test_a_zip_gives_its_members():
    assert contents(unpack("zip", build.zip_of(MEMBERS))) == MEMBERS


def test_a_zip_behind_other_octets_gives_its_members():
    assert contents(unpack("zip", build.exe() + build.zip_of(MEMBERS))) == MEMBERS


def test_a_stored_member_comes_out_as_it_is():
    assert contents(unpack("zip", stored_zip(zipfile.ZipInfo("a")))) == {"a": b"content"}


def test_a_bzip2_member_comes_out():
    info = zipfile.ZipInfo("a")
    info.compress_type = zipfile.ZIP_BZIP2
    assert contents(unpack("zip", stored_zip(info))) == {"a": b"content"}


def test_an_lzma_member_comes_out():
    info = zipfile.ZipInfo("a")
    info.compress_type = zipfile.ZIP_LZMA
    assert contents(unpack("zip", stored_zip(info))) == {"a": b"content"}


def test_an_unsupported_method_is_undecipherable():
    octets = bytearray(stored_zip(zipfile.ZipInfo("a")))
    octets[8] = octets[octets.find(b"PK\1\2") + 10] = 1  # shrunk
    assert unpack("zip", bytes(octets)) == [Member(("a",), None, "U")]


def test_encrypted_members_show_their_names():
    assert unpack("zip", build.encrypted_zip_of({"a": b"x"})) == [Member(("a",), None, "UC")]


def test_directories_and_links_are_told_apart():
    info = zipfile.ZipInfo("link")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert unpack("zip", stored_zip(info)) == [Member(("link",), None, "L")]
    assert unpack("zip", stored_zip(zipfile.ZipInfo("dir/"), b"")) == [Member(("dir/",), None, "D")]


def test_names_that_climb_are_only_names():
    assert contents(unpack("zip", build.zip_of({"../../etc/passwd": b"x"}))) == {"../../etc/passwd": b"x"}


def test_a_name_behind_a_nul_is_kept_as_well():
    octets = build.zip_of({"a.txt_setup.exe": b"x"}).replace(b"a.txt_setup.exe", b"a.txt\0setup.exe")
    assert unpack("zip", octets)[0].names == ("a.txt", "a.txt\0setup.exe")


def test_a_damaged_member_gives_what_could_be_had():
    octets = bytearray(build.zip_of({"a": bytes(range(256)) * 50}, level=1))
    octets[45:60] = b"\xff" * 15
    (member,) = unpack("zip", bytes(octets))
    assert member.attributes == "U"


def test_what_is_no_zip_cannot_be_unpacked():
    with pytest.raises(CannotUnpack):
        unpack("zip", b"PK\x03\x04" + b"\0" * 50)


def test_a_declared_size_beyond_the_quota_stops_before_anything_is_unpacked():
    members, text = until_limit("zip", build.zip_of({"small": b"x", "bomb.exe": bytes(100_000)}), 50_000)
    assert contents(members) == {"small": b"x", "bomb.exe": None}
    assert text == "Exceeded storage quota 50000 bytes by do_unzip; last chunk 100000 bytes"


def test_a_size_declared_too_small_is_not_trusted():
    octets = bytearray(build.zip_of({"bomb": bytes(3 << 20)}))
    central = octets.find(b"PK\x01\x02")
    octets[central + 24 : central + 28] = (1).to_bytes(4, "little")
    members, text = until_limit("zip", bytes(octets), 2 << 20)
    assert contents(members) == {"bomb": None}
    assert "by do_unzip; last chunk" in text


def test_a_directory_of_too_many_entries_is_not_even_read():
    members, text = until_limit("zip", build.zip_of({f"{i}": b"" for i in range(6001)}), 1 << 20)
    assert members == []
    assert text == "Maximum number of files (1500) exceeded"


def test_overlapping_members_are_charged_each_time():
    octets = bytearray(build.zip_of({"a": bytes(50_000), "b": bytes(50_000)}))
    second = octets.rfind(b"PK\x01\x02")
    octets[second + 42 : second + 46] = (0).to_bytes(4, "little")
    members, _ = until_limit("zip", bytes(octets), 60_000)
    assert [m.octets is None for m in members] == [False, True]


@pytest.mark.parametrize(
    ("kind", "pack", "given", "inside"),
    [
        ("gz", build.gzip_of, "a.txt.gz", "a.txt"),
        ("gz", build.gzip_of, "A.TGZ", "A.tar"),
        ("bz2", build.bzip2_of, "a.tbz2", "a.tar"),
        ("xz", build.xz_of, "a.xz", "a"),
    ],
)
def test_a_packed_file_gives_its_content_under_a_derived_name(kind: str, pack, given: str, inside: str):
    assert unpack(kind, pack(b"content"), given) == [Member((inside,), b"content")]


def test_gzips_own_name_counts_too():
    assert unpack("gz", build.gzip_of(b"x", "setup.exe"), "photo.gz")[0].names == ("photo", "setup.exe")


@pytest.mark.parametrize(("kind", "pack"), [("gz", build.gzip_of), ("bz2", build.bzip2_of), ("xz", build.xz_of)])
def test_streams_one_after_the_other_are_one_file(kind: str, pack):
    assert unpack(kind, pack(b"one ") + pack(b"two"), "x")[0].octets == b"one two"


@pytest.mark.parametrize(("kind", "pack"), [("gz", build.gzip_of), ("bz2", build.bzip2_of), ("xz", build.xz_of)])
def test_a_cut_off_stream_gives_its_beginning(kind: str, pack):
    packed = pack(bytes(range(256)) * 400)
    (member,) = unpack(kind, packed[:-12], "x")
    assert (bytes(range(256)) * 400).startswith(bytes(member.octets or b""))


def test_a_bomb_is_stopped_by_what_comes_out_of_it():
    members, text = until_limit("gz", build.gzip_bomb(40 << 20), 10 << 20)
    assert contents(members) == {"x": None}
    assert text == f"Exceeded storage quota {10 << 20} bytes by do_gunzip; last chunk {1 << 20} bytes"


def test_a_file_of_empty_streams_ends():
    (member,) = unpack("bz2", bz2.compress(b"") * 10_000, "x")
    assert member.attributes == "U"


def test_a_large_member_comes_out_whole():
    (member,) = unpack("gz", build.gzip_bomb(12 << 20), "x")
    assert len(member.octets or b"") == 12 << 20
    assert bytes((member.octets or b"")[-3:]) == b"\0\0\0"


def test_a_tar_gives_files_links_and_directories():
    out = io.BytesIO(build.tar_of({"a.txt": b"alpha"}))
    with tarfile.open(fileobj=out, mode="a") as archive:
        for name, kind in (("d", tarfile.DIRTYPE), ("l", tarfile.SYMTYPE), ("f", tarfile.FIFOTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd" if kind == tarfile.SYMTYPE else ""
            archive.addfile(info)
    members = unpack("tar", out.getvalue())
    assert [(m.names[0].rstrip("/"), m.attributes) for m in members] == [
        ("a.txt", ""),
        ("d", "D"),
        ("l", "L"),
        ("f", "S"),
    ]
    assert members[0].octets == b"alpha"


def test_a_tar_beyond_the_quota_stops():
    members, text = until_limit("tar", build.tar_of({"a": bytes(1000), "b": bytes(90_000)}), 50_000)
    assert [m.octets is None for m in members] == [False, True]
    assert "by do_pax_cpio" in text


def test_what_is_no_tar_cannot_be_unpacked():
    with pytest.raises(CannotUnpack):
        unpack("tar", b"no tar" * 200)

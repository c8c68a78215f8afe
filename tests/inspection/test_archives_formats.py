"""Every packed form that a reader of mail can open gives its content: a payload in a known place is found in each."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.corpus import build
from tests.inspection import by_hand
from tests.inspection.children import PAYLOAD, Children, holders, minors, running
from tests.inspection.packers import _FILTERS, _PACKERS, pack

ROOT = Path(__file__).parent.parent.parent
MEMBERS = {"payload.vbs": PAYLOAD, "text.txt": b"nothing\n" * 900}
SPECIAL = ["cpio", "cpio-odc", "cpio-bin", "iso", "iso-udf", "deb", "rpm", "fat", "squashfs", "ext", "msi"]


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with running() as pair:
        yield pair


@pytest.mark.parametrize("kind", [*_PACKERS, *SPECIAL])
def test_an_archive_of_a_real_packer_gives_its_members(kind: str, children: Children, tmp_path: Path):
    decoded = children.unpacked(pack(kind, MEMBERS, tmp_path))
    (found,) = {part.octets: part for part in holders(decoded)}.values()
    # An installer's cabinet knows its files by number.
    assert kind == "msi" or any(name.upper().removesuffix(";1").endswith("PAYLOAD.VBS") for name in found.names)
    assert minors(decoded) == []


@pytest.mark.parametrize("kind", [*_FILTERS, "lrz"])
def test_a_compressed_file_gives_its_content(kind: str, children: Children, tmp_path: Path):
    decoded = children.unpacked(pack(kind, {"payload.vbs": PAYLOAD * 50}, tmp_path), f"payload.vbs.{kind}")
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]
    assert minors(decoded) == []


HAND_MADE: dict[str, Callable[[str, bytes], bytes]] = {
    "rar4": by_hand.rar4,
    "rar5": by_hand.rar5,
    "xar": by_hand.xar,
    "lha": by_hand.lha,
    "tnef": by_hand.tnef,
    "onenote": lambda name, content: by_hand.onenote({name: content}),
    "pdf": by_hand.pdf_with_file,
    "rtf": by_hand.rtf_object,
    "doc": lambda name, content: by_hand.compound(
        {"WordDocument": b"\xec\xa5\xc1\0", "ObjectPool/_1/\1Ole10Native": by_hand.ole_package(name, content)}
    ),
}


@pytest.mark.parametrize("kind", HAND_MADE)
def test_a_file_made_by_its_specification_gives_its_content(kind: str, children: Children):
    decoded = children.unpacked(HAND_MADE[kind]("payload.vbs", PAYLOAD))
    assert ["payload.vbs" in part.names for part in holders(decoded)] == [True]
    assert minors(decoded) == []


def test_a_file_expanded_by_tools_gives_its_content(children: Children):
    assert holders(children.unpacked(by_hand.szdd(PAYLOAD)))


@pytest.mark.parametrize("kind", ["7z", "rar4", "rar5", "cab", "zip", "lha", "arj"])
def test_a_self_extracting_program_gives_what_it_carries(kind: str, children: Children, tmp_path: Path):
    archive = HAND_MADE[kind]("payload.vbs", PAYLOAD) if kind in HAND_MADE else pack(kind, MEMBERS, tmp_path)
    decoded = children.unpacked(build.exe() + bytes(3000) + archive, "setup.exe")
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]


def test_a_disk_in_a_virtual_disk_is_looked_into(children: Children, tmp_path: Path):
    assert holders(children.unpacked(by_hand.vhd(pack("fat", MEMBERS, tmp_path)), "disk.vhd"))


@pytest.mark.parametrize("kind", ["7z", "tar", "cab", "zip"])
def test_names_are_read_in_whatever_locale_the_daemon_was_started(kind: str, tmp_path: Path):
    archive = tmp_path / "archive"
    archive.write_bytes(pack(kind, {"grüße.exe": PAYLOAD}, tmp_path))
    code = (
        "import sys; from tests.inspection.children import *\n"
        "with running() as c: print(ascii([p.names for p in holders(c.unpacked(open(sys.argv[1], 'rb').read()))]))"
    )
    environment = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-c", code, archive], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert ascii("grüße.exe") in done.stdout


def test_what_follows_a_compressed_file_is_looked_at(children: Children):
    decoded = children.unpacked(build.gzip_of(b"harmless") + build.zip_of({"payload.vbs": PAYLOAD}))
    assert holders(decoded)


@pytest.mark.parametrize("kind", ["gz", "zst", "7z", "arj"])
def test_a_mail_in_an_archive_in_a_mail_is_a_mail(kind: str, children: Children, tmp_path: Path):
    inner = build.attachment(build.zip_of({"payload.vbs": PAYLOAD}), "x.zip")
    decoded = children.unpacked(pack(kind, {"a.eml": inner}, tmp_path))
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]


@pytest.mark.parametrize("kind", ["7z", "rar4", "rar5", "cab", "lha", "arj", "tar", "rpm", "zip", "zst", "xz"])
def test_a_damaged_archive_is_unchecked_and_gives_what_it_can(kind: str, children: Children, tmp_path: Path):
    members = {"payload.vbs": PAYLOAD, "z.bin": bytes(range(256)) * 300}
    archive = (
        HAND_MADE[kind]("payload.vbs", bytes(range(256)) * 30) if kind in HAND_MADE else pack(kind, members, tmp_path)
    )
    decoded = children.unpacked(archive[: len(archive) * 2 // 3])
    assert 0 in minors(decoded)


@pytest.mark.parametrize(
    "head", [b"7z\xbc\xaf\x27\x1c", b"Rar!\x1a\x07\x01\0", b"MSCF\0\0\0\0", b"PK\3\4", b"\x60\xea"]
)
def test_what_only_begins_like_an_archive_is_unchecked(head: bytes, children: Children):
    assert 0 in minors(children.unpacked(head + b"\1" * 300))


def test_an_archive_that_nobody_here_reads_is_unchecked(children: Children):
    assert minors(children.unpacked(b"ISc(" + bytes(range(1, 200)))) == [0]

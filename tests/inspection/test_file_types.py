"""File types: amavis' short types for the octets that mail carries."""

from __future__ import annotations

import re
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amavispy.inspection import text_types
from amavispy.inspection.file_signatures import DESCRIPTIONS, EMBEDDED, STARTS
from amavispy.inspection.file_types import FileTypes
from tests.corpus import build

TYPES = FileTypes()


def hexed(text: str, padding: int = 60) -> bytes:
    return bytes.fromhex(text) + b"\0" * padding


@pytest.mark.parametrize(
    ("octets", "types"),
    [
        (b"", ("empty",)),
        (b"x", ("dat",)),
        (b"hello world\n", ("asc",)),
        ("grüße\n".encode(), ("txt",)),
        (b"gr\xfc\xdfe\n", ("txt",)),
        ("hello there\n".encode("utf-16"), ("txt",)),
        ("<html><body>".encode("utf-16"), ("html",)),
        (b"#!/bin/sh\necho\n", ("txt",)),
        (b"<html><body>x</body></html>", ("html",)),
        (b"\n\xef\xbb\xbf <!DOCTYPE html><p>", ("html",)),
        (b"hello\n<body onload=x>", ("html",)),
        (b'<?xml version="1.0"?><a/>', ("xml",)),
        (b'<?xml version="1.0"?>\n<!DOCTYPE html>\n<html>', ("html",)),
        (b'<?xml version="1.0"?>\n<svg xmlns="x">', ("image", "svg")),
        (b"<svg width=1>", ("image", "svg")),
        (b"{\\rt1 odd but opened by readers}", ("rtf",)),
        (b"%!PS-Adobe-3.0\n", ("ps",)),
        (b"Received: from a by b\r\n", ("mail",)),
        (b"-----BEGIN PGP MESSAGE-----\n", ("pgp", "pgp.enc")),
        (b"-----BEGIN PGP SIGNATURE-----\n", ("pgp", "pgp.asc")),
        (b"begin 644 a.exe\nM", ("uue",)),
        (build.PDF, ("pdf",)),
        (b"junk before\n" + build.PDF, ("pdf",)),
        (b"\x00\x01junk" + build.PDF, ("pdf",)),
        (build.exe(), ("exe", "exe-ms")),
        (build.dll(), ("exe", "exe-ms", "dll")),
        (b"MZ" + b"\x90\x00" * 200, ("exe", "exe-ms")),
        (b"MZ is how this letter begins\n", ("asc",)),
        (build.exe() + build.zip_of({"a": b"b"}), ("exe", "exe-ms", "zip")),
        (hexed("7f454c4602010100000000000000000002003e00"), ("exe", "exe-unix")),
        (build.office_file(), ("doc", "cdf-ms")),
        (build.zip_of({"a": b"b"}), ("zip",)),
        (b"\x00junk" + build.zip_of({"a": b"b"}), ("zip",)),
        (build.zip_of({"[Content_Types].xml": b"<x/>", "word/document.xml": b"<w/>"}), ("zip", "doc")),
        (build.gzip_of(b"x"), ("gz",)),
        (build.bzip2_of(b"x"), ("bz2",)),
        (build.xz_of(b"x"), ("xz",)),
        (build.tar_of({"a": b"b"}), ("tar",)),
        (build.PNG, ("image", "png")),
        (hexed("ffd8ffe000104a46494600"), ("image", "jpg")),
        (b"GIF89a\1\0\1\0\x80\0\0", ("image", "gif")),
        (hexed("49492a0008000000"), ("image", "tif")),
        (hexed("28b52ffd24"), ("zst",)),
        (hexed("04224d18"), ("lz4",)),
        (hexed("377abcaf271c0004"), ("7z",)),
        (hexed("526172211a0701"), ("rar",)),
        (hexed("4d53434600000000"), ("cab",)),
        (hexed("789f3e22"), ("tnef",)),
        (hexed("edabeedb0300"), ("rpm",)),
        (b"!<arch>\ndebian-binary   0\n", ("deb",)),
        (b"!<arch>\nfoo.o/\n", ("a",)),
        (b"070701" + b"0" * 104, ("cpio",)),
        (b"\0" * 32769 + b"CD001" + b"\0" * 99, ("iso",)),
        (hexed("4c0000000114020000000000c000000000000046"), ("lnk",)),
        (hexed("a12fff43d9ef764c9ee210ea5722765f"), ("one",)),
        (b"ITSF\3\0\0\0" + b"\0" * 60, ("chm",)),
        (b"SZDD\x88\xf0\x27\x33A\0" + b"\0" * 60, ("szdd",)),
        (b"xar!\0\x1c\0\1" + b"\0" * 60, ("xar",)),
        (b"MSWIM\0\0\0" + b"\0" * 60, ("wim",)),
        (b"vhdxfile" + b"\0" * 60, ("vhdx",)),
        (b"\0" * 1024 + b"conectix" + b"\0" * 504, ("vhd",)),
        (b"\x78\xda" + b"\0" * 1024 + b"koly\0\0\0\4" + b"\0" * 504, ("dmg",)),
        (b"\xeb\x3c\x90MSDOS5.0".ljust(54, b"\0") + b"FAT12   ".ljust(456, b"\0") + b"\x55\xaa", ("img",)),
        (hexed("feedfacf0100000c0000000000000002"), ("exe", "exe-unix")),
        (hexed("cffaedfe0c0000010000000006000000"), ("so",)),
        (hexed("cafebabe00000002"), ("exe", "exe-unix")),
        (hexed("cafebabe00000034"), ("java",)),
        (hexed("7f454c460201010000000000000000000300"), ("so",)),
        (hexed("7f454c4602010100000000000000000003003e00") + b"\0" * 4, ("so",)),
        (hexed("7f454c460201010000000000000000000100"), ("o",)),
        (hexed("50 2a 4d 18 04 00 00 00 00 00 00 00 28 b5 2f fd"), ("zst",)),
        (hexed("0904060000001000"), ("doc",)),
        (b"RIFF\x24\0\0\0WEBPVP8 " + b"\0" * 40, ("image", "webp")),
        (build.zip_of({"META-INF/MANIFEST.MF": b"Main-Class: a\n", "a.class": b"b"}), ("zip", "jar")),
        (build.zip_of({"doc.kml": b"<kml/>"}), ("zip", "kmz")),
        (b"{\\rt\x00 with a NUL}", ("rtf",)),
        (b"<html>\x00\x01<body>", ("html",)),
        ("<html><body>".encode("utf-16-le"), ("html",)),
        ("<html><body>".encode("utf-16-be"), ("html",)),
        (b"\\documentclass{article}\n", ("lat",)),
        (bytes(range(1, 200)), ("dat",)),
        (b"\0" * 100, ("dat",)),
    ],
)
def test_short_types_are_those_of_amavis(octets: bytes, types: tuple[str, ...]):
    assert TYPES.of(octets) == types


@pytest.mark.parametrize(
    ("octets", "types"),
    [
        (b"[InternetShortcut]\r\nURL=file://x/y.exe\r\n", ("url",)),
        (b"[Shell]\r\nCommand=2\r\n", ("asc", "scf")),
        (b"[autorun]\r\nopen=a.exe\r\n", ("asc", "inf")),
        (b"[Desktop Entry]\nExec=sh\n", ("asc", "desktop")),
        (b"Windows Registry Editor Version 5.00\r\n", ("asc", "reg")),
        (b"WEB\r\n1\r\nhttp://x/\r\n", ("asc", "iqy")),
        (b"ID;PWXL;N;E\r\n", ("asc", "slk")),
        (b"full address:s:192.0.2.1\r\n", ("asc", "rdp")),
        (b"@echo off\r\ndel x\r\n", ("asc", "bat")),
        (b"hello\r\n@start powershell -nop -w hidden\r\n", ("asc", "bat")),
        (b'Set s = CreateObject("WScript.Shell")\r\n', ("asc", "vbs")),
        (b"'" * 5000 + b'\r\nCreateObject ( "WScript.Shell")\r\n', ("asc", "vbs")),
        (b"var s = new ActiveXObject('x');", ("asc", "js")),
        (b"iex (New-Object Net.WebClient).DownloadString('x')", ("asc", "ps1")),
        ('CreateObject("x")'.encode("utf-16"), ("txt", "vbs")),
        (b"<html><head><HTA:APPLICATION id=x>", ("html", "hta")),
        (b"<job id=x><script language=VBScript>", ("asc", "wsf")),
        (b"<?xml version='1.0'?><package><job><script>", ("xml", "wsf")),
        (b"<?xml version='1.0'?>\n<libraryDescription xmlns=x>", ("xml", "library-ms")),
        (b"<?xml version='1.0'?>\n<persistedQuery version=1>", ("xml", "search-ms")),
        (b"<?xml version='1.0'?>\n<x:PCSettings >", ("xml", "settingcontent-ms")),
        (b"<?xml version='1.0'?>\n<jnlp spec=x>", ("xml", "jnlp")),
        (b"name,mail\n=cmd|'/c calc'!A0,x\n", ("asc", "dde")),
    ],
)
def test_texts_that_windows_would_run_are_known(octets: bytes, types: tuple[str, ...]):
    assert TYPES.of(octets) == types


@pytest.mark.parametrize(
    "octets",
    [
        b"The object of PowerShell is to create objects, and I object to that.\r\n",
        b"Have you tried powershell? It has a -NoProfile option.\r\n",
        b"a | b | c\r\n- d | e\r\n",
        b"Version [autorun] is not at the beginning\r\n",
        b"(see CreateObject in the manual)\r\n",
    ],
)
def test_texts_about_scripts_are_texts(octets: bytes):
    assert TYPES.of(octets) == ("asc",)


RAR = b"Rar!\x1a\x07\x01\x00" + b"\0" * 40
SEVEN = b"7z\xbc\xaf\x27\x1c\x00\x04" + b"\0" * 40
CAB = b"MSCF" + b"\0" * 20 + b"\x03\x01" + b"\0" * 20
ZIP = build.zip_of({"a": b"b"})


@pytest.mark.parametrize(
    ("octets", "types"),
    [
        (build.exe() + b"\0" * 300_000 + RAR, ("exe", "exe-ms", "rar")),
        (build.exe() + SEVEN, ("exe", "exe-ms", "7z")),
        (build.exe() + CAB, ("exe", "exe-ms", "cab")),
        (build.exe() + b"Rar!\x1a\x07 is what archives begin with" + RAR, ("exe", "exe-ms", "rar")),
        (build.exe() + b"\0" * 300_000 + ZIP, ("exe", "exe-ms", "zip")),
        (b"\x01\x02 junk" + RAR, ("rar",)),
        (build.PNG + ZIP, ("image", "png", "zip")),
        (build.PNG + b"\0" * 300_000 + ZIP, ("image", "png", "zip")),
        (b"GIF89a\1\0" + build.PDF, ("image", "gif", "pdf")),
        (build.PDF + b"\0" + ZIP, ("pdf", "zip")),
        (build.office_file() + ZIP, ("doc", "cdf-ms", "zip")),
        (b"text\r\n" * 20_000 + ZIP, ("asc", "zip")),
        (bytes(range(256)) * 300 + ZIP, ("zip",)),
        (hexed("cafebabe00000034") + ZIP, ("java", "zip")),
    ],
)
def test_a_file_that_several_readers_open_has_all_their_types(octets: bytes, types: tuple[str, ...]):
    assert TYPES.of(octets) == types


@pytest.mark.parametrize(
    "octets",
    [
        build.exe() + b"Rar!\x1a\x07 7z\xbc\xaf\x27\x1c MSCF\0\0\0\0 are signatures" + b"\0" * 60,
        build.exe() + b"\0" * 2000 + b"%PDF- PK\x03\x04 too",
        build.exe() + b"PK\x05\x06",
        build.exe() + b"PK\x05\x06" + b"\x07" * 30,
    ],
)
def test_a_program_that_knows_signatures_is_only_a_program(octets: bytes):
    assert TYPES.of(octets) == ("exe", "exe-ms")


def test_a_program_of_today_is_told_from_a_library_by_its_interpreter():
    program = bytearray(hexed("7f454c4602010100000000000000000003003e00", 140))
    struct.pack_into("<Q", program, 32, 64)
    struct.pack_into("<HH", program, 54, 56, 1)
    assert TYPES.of(bytes(program)) == ("so",)
    struct.pack_into("<I", program, 64, 3)
    assert TYPES.of(bytes(program)) == ("exe", "exe-unix")


def test_types_are_told_in_time_whatever_a_text_repeats():
    started = time.process_time()
    for word in (
        b"createobject ",
        b"new-object\t",
        b"\n powershell ",
        b"=cmd",
        b"<",
        b"<job ",
        b"PK\5\6",
        b"Rar!\x1a\7",
    ):
        TYPES.of(word * 100_000)
        TYPES.of(build.exe() + word * 100_000)
    assert time.process_time() - started < 4


def test_views_are_classified_as_octets_are():
    assert TYPES.of(memoryview(build.exe())) == ("exe", "exe-ms")


def test_a_text_needs_no_libmagic():
    types = FileTypes()
    types._magic = None
    assert types.of(build.text()) == ("asc",)
    assert types.of(build.PNG) == ("image", "png")


@given(st.binary(max_size=300))
def test_everything_has_a_type(octets: bytes):
    types = TYPES.of(octets)
    assert types
    assert all(short and not short.startswith(".") for short in types)


def test_the_documentation_names_every_type():
    text = (Path(__file__).parent.parent.parent / "docs" / "banned.md").read_text()
    known = {short for _, types in DESCRIPTIONS for short in types}
    known |= {short for entries in STARTS.values() for _, types in entries for short in types}
    known |= {short for types in text_types.KINDS.values() for short in types}
    known |= {short for _, _, short in (*EMBEDDED, *text_types.CALLS)}
    known |= {"vhd", "dmg", "img", "jar", "kmz", "hta", "dde"}
    named = set(re.findall(r"[\w.-]*\w", text))
    assert sorted(known - named - {"dir"}) == []

"""File types: amavis' short types for the octets that mail carries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        (bytes(range(1, 200)), ("dat",)),
        (b"\0" * 100, ("dat",)),
    ],
)
def test_short_types_are_those_of_amavis(octets: bytes, types: tuple[str, ...]):
    assert TYPES.of(octets) == types


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

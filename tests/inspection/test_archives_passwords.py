"""Encrypted archives: reported as such, and opened with passwords that are configured or that the mail gives away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from amavispy.inspection.passwords import Passwords, candidates
from tests.corpus import build
from tests.inspection.children import PAYLOAD, Children, holders, minors, running
from tests.inspection.packers import run

SECRET = "s3cret!"
PACKERS = {
    "zip": ("zip", "-q", "-P", SECRET, "OUT.zip"),
    "zip-aes": ("7zz", "a", "-bd", "-tzip", "-mem=AES256", f"-p{SECRET}", "OUT.zip"),
    "7z": ("7zz", "a", "-bd", f"-p{SECRET}", "OUT.7z"),
    "7z-headers": ("7zz", "a", "-bd", "-mhe=on", f"-p{SECRET}", "OUT.7z"),
    "arj": ("arj", "a", "-y", f"-g{SECRET}", "OUT.arj"),
}


@pytest.fixture(scope="module")
def children() -> Iterator[Children]:
    with running() as pair:
        yield pair


def locked(kind: str, directory: Path) -> bytes:
    source = directory / "source"
    source.mkdir()
    (source / "payload.vbs").write_bytes(PAYLOAD)
    run(source, *(word.replace("OUT", str(directory / "out")) for word in PACKERS[kind]), "payload.vbs")
    return next(directory.glob("out.*")).read_bytes()


@pytest.mark.parametrize("kind", PACKERS)
def test_an_encrypted_archive_is_reported_with_its_names(kind: str, children: Children, tmp_path: Path):
    decoded = children.unpacked(locked(kind, tmp_path))
    assert minors(decoded) == [0, 1]
    assert holders(decoded) == []
    named = [part for part in decoded.parts if "payload.vbs" in part.names]
    assert [part.attributes for part in named] == ([] if kind == "7z-headers" else ["UC"])


@pytest.mark.parametrize("kind", PACKERS)
def test_a_configured_password_opens_it(kind: str, children: Children, tmp_path: Path):
    decoded = children.unpacked(locked(kind, tmp_path), passwords=Passwords(("wrong", SECRET)))
    assert [part.names for part in holders(decoded)] == [("payload.vbs",)]
    assert minors(decoded) == []


@pytest.mark.parametrize("kind", PACKERS)
def test_a_wrong_password_changes_nothing(kind: str, children: Children, tmp_path: Path):
    decoded = children.unpacked(locked(kind, tmp_path), passwords=Passwords(("wrong",)))
    assert minors(decoded) == [0, 1]
    assert holders(decoded) == []


@pytest.mark.parametrize("kind", ["zip-aes", "7z"])
def test_a_password_in_the_text_opens_it_when_asked_for(kind: str, children: Children, tmp_path: Path):
    text = build.plain(b"Dear customer,\r\nthe password for the file is: s3cret!\r\n")
    mail = build.multipart([text, build.entity(locked(kind, tmp_path), "application/zip", "x.zip")])
    assert holders(children.decode(mail)) == []
    assert holders(children.decode(mail, Passwords(are_looked_for=True)))


TEXTS = {
    "Password: s3cret!": SECRET,
    "The password for the attached archive is s3cret!": SECRET,
    "pass=s3cret!": SECRET,
    "Das Passwort lautet s3cret!": SECRET,
    "Kennwort: „s3cret!“": SECRET,
    "Пароль: s3cret!": SECRET,
    "密码：s3cret!": SECRET,
    "<p>Password: <b>s3cret!</b></p>": SECRET,
    "PIN 4711": "4711",
    "Use s3cret! to open it.": SECRET,
}


@pytest.mark.parametrize("text", TEXTS)
def test_what_looks_like_a_password_is_a_candidate(text: str):
    assert TEXTS[text] in list(candidates([text]))


def test_words_introduced_as_a_password_are_tried_first():
    assert next(iter(candidates(["abc123 def456", "your password is hunter2."]))) == "hunter2"


def test_only_so_many_are_tried():
    words = " ".join(f"word{n}" for n in range(1000))
    assert len(Passwords(("first",), are_looked_for=True).for_mail(lambda: [words])) == 25


def test_a_long_text_costs_little():
    hostile = ["password " + "is " * 20_000, "<" * 60_000, "pass" * 15_000]
    assert list(candidates(hostile)) != ["unreached"]

"""Where unpacked parts gather: in memory while the mail has room, then in files that leave nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from amavispy.inspection.budget import Budget, Limits
from amavispy.inspection.storage import Growing, kept
from amavispy.mail.reply import TemporaryFailure


def budget(room: int, directory: str | None = None) -> Budget:
    made = Budget(Limits(), 0, None, directory)
    made.memory_left = room
    return made


def grown(bounds: Budget, *chunks: bytes) -> bytes | memoryview:
    growing = Growing(bounds)
    for chunk in chunks:
        growing.add(chunk)
    return growing.octets()


def test_little_stays_in_memory():
    bounds = budget(10)
    assert grown(bounds, b"one ", b"two") == b"one two"
    assert bounds.memory_left == 3


def test_much_goes_to_a_file_without_a_name(tmp_path: Path):
    content = grown(budget(10, str(tmp_path)), b"x" * 9, b"y" * 9000)
    assert isinstance(content, memoryview)
    assert bytes(content) == b"x" * 9 + b"y" * 9000
    assert list(tmp_path.iterdir()) == []


def test_what_all_parts_of_a_mail_keep_in_memory_is_bounded():
    bounds = budget(10_000)
    sizes = [type(grown(bounds, b"x" * 6000)) for _ in range(3)]
    assert sizes == [bytes, memoryview, memoryview]


def test_a_small_part_that_finds_no_room_is_read_back():
    assert kept(b"small", budget(3)) == b"small"


def test_no_room_for_the_file_leaves_the_mail_with_the_client(tmp_path: Path):
    with pytest.raises(TemporaryFailure) as caught:
        grown(budget(0, str(tmp_path / "missing")), b"x")
    assert caught.value.reply.code == 452

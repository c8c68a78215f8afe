"""Small files that want to be large: bounded time, bounded memory, a verdict that names the limit, and life goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from amavispy.inspection.budget import Limits
from tests.corpus import build
from tests.inspection.bombs import BOMBS
from tests.inspection.children import minors, running

ROOT = Path(__file__).parent.parent.parent
QUOTA = "Exceeded storage quota"
FILES = "Maximum number of files (1500) exceeded"
DEPTH = "Maximum decoding depth (14) exceeded"

# What each is stopped by; "" is for those that turn out harmless when each octet is read only once.
STOPPED_BY = {
    "zip_of_zeros": QUOTA,
    "zip_that_lies": QUOTA,
    "zip_of_many_zeros": QUOTA,
    "nest_of_forty_two": QUOTA,
    "million_entries": FILES,
    "million_members": FILES,
    "zip64_lies": QUOTA,
    "overlapping": "",
    "quoted_overlap": QUOTA,
    "deep_nest": DEPTH,
    "gzip_of_zeros": QUOTA,
    "gzip_of_gzip": QUOTA,
    "xz_of_zeros": QUOTA,
    "seven_zip_of_zeros": QUOTA,
    "zst_of_zeros": QUOTA,
    "lzo_of_zeros": QUOTA,
    "sparse_tar": QUOTA,
    "pdf_of_zeros": QUOTA,
    "pdf_of_object_streams": "",
    "quine": DEPTH,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_defused(name: str):
    done = subprocess.run(
        [sys.executable, "-m", "tests.inspection.bombs", name], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seen = json.loads(done.stdout)
    assert seen["seconds"] < 10
    assert seen["worker_peak"] < 256
    assert seen["child_peak"] < 256
    assert seen["hold"].startswith(STOPPED_BY[name])
    assert (2 in seen["minors"]) == bool(STOPPED_BY[name])
    assert seen["next_parts"] == [["x.zip"], ["setup.exe"]]
    assert seen["next_minors"] == []


def test_what_cannot_be_looked_at_in_a_pdf_is_unchecked():
    with running() as children:
        decoded = children.unpacked(BOMBS["pdf_of_object_streams"]())
    assert 0 in minors(decoded)
    assert "pdf-launch" in decoded.parts[-1].short_types


def test_decoding_that_takes_too_long_is_ended_and_the_next_mail_decoded():
    with running() as children:
        decoded = children.unpacked(BOMBS["gzip_of_zeros"](), limits=Limits(seconds=0.1))
        assert decoded.hold == "Maximum decoding time (0.1 s) exceeded"
        assert minors(decoded) == [2]
        assert len(children.decode(build.exe_zip()).parts) == 4


def test_many_levels_of_many_files_end_at_four_times_the_number_for_one():
    inner = build.zip_of({f"{n}": b"x" for n in range(60)})
    with running() as children:
        decoded = children.unpacked(build.zip_of({f"{n}.zip": inner for n in range(50)}), limits=Limits(files=100))
    assert decoded.hold == "Maximum number of files (100) exceeded"
    assert len(decoded.parts) <= 402

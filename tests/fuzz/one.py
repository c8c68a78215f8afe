"""one - a single target under atheris: python -m tests.fuzz.one TARGET [libFuzzer's options] [corpus directory]."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["amavispy"]):
    from tests.fuzz.targets import TARGETS

if __name__ == "__main__":
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name])
    atheris.Fuzz()

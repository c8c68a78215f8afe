"""Honest - mails as ordinary mailers write them, with everything that they get wrong every day.

    python -m tests.corpus.honest DIRECTORY [SEED]      writes them as files

Each template (`mailers`, `sloppiness`) writes a mail in the manner of one mailer, list server, script or relay: its
boundaries, its way with names, its bad habits. None of them means to hide anything, and every reader shows the same.
The collection is that of all templates with varying contents, the same for the same seed, and the samples that
Debian's packages and Python bring along where they are installed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random

from tests.corpus.mailers import MAILERS
from tests.corpus.sloppiness import SLOPPINESS
from tests.corpus.writing import Writer

SEED = 20261122
EACH = 26


def written(seed: int = SEED, each: int = EACH) -> Iterator[tuple[str, bytes]]:
    """Name and octets of each mail of the collection; `each` of every template."""
    for template in (*MAILERS, *SLOPPINESS):
        for number in range(each):
            yield f"{template.__name__} {number}", template(Writer(Random(f"{seed} {template.__name__} {number}")))


def samples() -> Mapping[str, bytes]:
    """Mails that Debian's SpamAssassin and Python's own tests bring along, where they are installed."""
    found = sorted(Path("/usr/share/doc/spamassassin/examples").glob("sample-*.txt"))
    tests = importlib.util.find_spec("test")
    for place in (tests.submodule_search_locations or ()) if tests else ():
        found += sorted(Path(place).glob("test_email/data/msg_*.txt"))
    return {path.name: path.read_bytes() for path in found}


def main(directory: str, seed: str = str(SEED)) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    for name, octets in written(int(seed)):
        (Path(directory) / f"{name.replace(' ', '-')}.eml").write_bytes(octets)


if __name__ == "__main__":
    main(*sys.argv[1:3])

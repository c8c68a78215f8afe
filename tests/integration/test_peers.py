"""The real amavisd and rspamd of the table of kinds find what is plain to see, and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.corpus import build
from tests.corpus.kinds import singles
from tests.corpus.peers import Peers

SINGLES = {case.kind: case.octets for case in singles()}


@pytest.fixture(scope="module")
def peers() -> Iterator[Peers]:
    with Peers() as running:
        yield running


@pytest.mark.parametrize(
    ("octets", "word"),
    [
        (SINGLES["base64 clean"], "infected"),
        (SINGLES["name: filename in quotes"], "banned"),
        (build.attachment(b"harmless", "a.txt"), ""),
    ],
)
def test_both_peers_say_what_they_find(peers: Peers, octets: bytes, word: str) -> None:
    assert (peers.amavisd.finds(octets), peers.rspamd.finds(octets)) == (word, word)

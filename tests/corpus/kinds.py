"""Kinds - all mails of the corpus, by the kind of trick they are: single ones, and every pair that can be played.

    python -m tests.corpus.kinds DIRECTORY [SEED]      writes them as files

A payload lies in a leaf (`leaves`), whose header may be spoilt (`fields`), which is wrapped (`wrappings`) in something
whose header may be spoilt too. A pair takes two of these steps from their tables and the others plain, or wraps or
spoils twice. The same seed gives the same mails.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

from tests.corpus import build
from tests.corpus.entities import Entity, text_part, whole_mail
from tests.corpus.fields import CONTAINER_FIELDS, LEAF_FIELDS, Spoiler
from tests.corpus.leaves import LEAVES, Leaf, base64_clean
from tests.corpus.names import NAMES, attachment
from tests.corpus.wrappings import WRAPPINGS, Wrapping, mixed

SEED = 20261122


# Pairs that no reader at all sees through, for the second trick undoes what the first relies on.
_UNDONE = frozenset(
    {
        ("junk line in header", "no blank line"),
        ("delimiters in text", "boundary twice last counts"),
        ("delimiters in text", "no boundary"),
        ("type twice first counts", "type twice last counts"),
        ("comment in front", "type in quotes"),
        ("empty boundary", "no boundary"),
        ("empty boundary", "another boundary"),
        ("empty boundary", "boundary with junk behind"),
    }
)


@dataclass(frozen=True, slots=True)
class Case:
    """One mail: its kind, and whether the payload is its content or, for a banned rule, its name."""

    kind: str
    octets: bytes
    is_name: bool = False


def singles(seed: int = SEED) -> Iterator[Case]:
    """Each trick alone."""
    for name, leaf in LEAVES.items():
        yield _case(seed, name, leaf=leaf)
    for name, spoiler in LEAF_FIELDS.items():
        yield _case(seed, f"part: {name}", spoilers=(spoiler,))
    for name, spoiler in CONTAINER_FIELDS.items():
        yield _case(seed, f"multipart: {name}", outer=(spoiler,))
    for name, wrapping in WRAPPINGS.items():
        yield _case(seed, f"lies: {name}", wrappings=(wrapping,))
    yield from names()


def names() -> Iterator[Case]:
    for name, lines in NAMES.items():
        mail = build.multipart([text_part().octets + b"\r\n", attachment(lines)])
        yield Case(f"name: {name}", mail, is_name=True)


def pairs(seed: int = SEED) -> Iterator[Case]:
    """Every two tricks together, but for those that undo each other."""
    for case in _pairs(seed):
        one, two = (name.partition(": ")[2] or name for name in case.kind.split(" + "))
        if (one, two) not in _UNDONE and (two, one) not in _UNDONE:
            yield case


def _pairs(seed: int) -> Iterator[Case]:
    for one, leaf in LEAVES.items():
        for two, spoiler in LEAF_FIELDS.items():
            yield _case(seed, f"{one} + part: {two}", leaf=leaf, spoilers=(spoiler,))
        for two, wrapping in WRAPPINGS.items():
            yield _case(seed, f"{one} + lies: {two}", leaf=leaf, wrappings=(wrapping,))
        for two, spoiler in CONTAINER_FIELDS.items():
            yield _case(seed, f"{one} + multipart: {two}", leaf=leaf, outer=(spoiler,))
    for one, spoiler in LEAF_FIELDS.items():
        for two, other in LEAF_FIELDS.items():
            if one != two:
                yield _case(seed, f"part: {one} + {two}", spoilers=(spoiler, other))
        for two, other in CONTAINER_FIELDS.items():
            yield _case(seed, f"part: {one} + multipart: {two}", spoilers=(spoiler,), outer=(other,))
        for two, wrapping in WRAPPINGS.items():
            yield _case(seed, f"part: {one} + lies: {two}", spoilers=(spoiler,), wrappings=(wrapping,))
    yield from _wrapped_pairs(seed)


def _wrapped_pairs(seed: int) -> Iterator[Case]:
    for one, wrapping in WRAPPINGS.items():
        for two, other in WRAPPINGS.items():
            yield _case(seed, f"lies: {one} + {two}", wrappings=(wrapping, other))
        for two, spoiler in CONTAINER_FIELDS.items():
            yield _case(seed, f"lies: {one} + multipart: {two}", wrappings=(wrapping,), outer=(spoiler,))
    for one, spoiler in CONTAINER_FIELDS.items():
        for two, other in CONTAINER_FIELDS.items():
            if one != two:
                yield _case(seed, f"multipart: {one} + {two}", outer=(spoiler, other))


def _case(
    seed: int,
    kind: str,
    leaf: Leaf = base64_clean,
    spoilers: tuple[Spoiler, ...] = (),
    wrappings: tuple[Wrapping, ...] = (mixed,),
    outer: tuple[Spoiler, ...] = (),
) -> Case:
    random = Random(seed ^ zlib.crc32(kind.encode()))
    entity: Entity = leaf(random)
    for spoiler in spoilers:
        entity = spoiler(random, entity)
    for wrapping in wrappings:
        entity = wrapping(random, entity)
    for spoiler in outer:
        entity = spoiler(random, entity)
    return Case(kind, whole_mail(entity))


def main(directory: str, seed: str = str(SEED)) -> None:
    Path(directory).mkdir(parents=True, exist_ok=True)
    count = 0
    for case in (*singles(int(seed)), *pairs(int(seed))):
        name = "".join(c if c.isalnum() else "-" for c in case.kind)
        (Path(directory) / f"{count:05}-{name[:150]}.eml").write_bytes(case.octets)
        count += 1
    print(f"{count} mails in {directory}")


if __name__ == "__main__":
    main(*sys.argv[1:3])

"""The table in docs/inspection.md is that of the corpus, and what it says of us is what we find."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.compare import BEGIN, END, Ours, Row, counts, table, written_into
from tests.corpus.kinds import singles

DOCUMENT = Path(__file__).parents[2] / "docs/inspection.md"
OURS = Ours()
SINGLES = {case.kind: case for case in singles()}


def printed() -> dict[str, str]:
    """Kind -> our column, as the document has it."""
    body = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    cells = [line.strip("| ").split(" | ") for line in body.splitlines() if line.startswith("| ")]
    return {row[0]: row[1] for row in cells[1:] if not row[0].startswith("**")}


def test_the_document_has_all_kinds():
    assert list(printed()) == list(SINGLES)


@pytest.mark.parametrize("kind", SINGLES)
def test_the_document_says_what_we_find(kind: str):
    assert printed()[kind] == OURS.finds(SINGLES[kind])


def test_a_table_counts_what_each_one_found():
    rows = [Row("a", "infected, ambiguous", "-", "banned"), Row("b", "banned", "unchecked", "-")]
    assert counts(rows) == [2, 0, 1]
    assert table(rows)[-1] == "| **found, of 2** | **2** | **0** | **1** |"


def test_a_table_is_put_between_its_marks():
    assert written_into(f"a\n{BEGIN}\nold\n{END}\nz\n", ["new"]) == f"a\n{BEGIN}\nnew\n{END}\nz\n"

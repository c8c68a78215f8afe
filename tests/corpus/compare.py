"""Compare - what amavispy, a real amavisd and a real rspamd find in each kind of the corpus, as one table.

    python -m tests.corpus.compare [--pairs N] [--write FILE]

Both peers are started privately, with a clamd that each mail is shown to (`peers`). amavispy scans with its YARA rules
alone, which want the payload from its first octet to its last. `--pairs` adds how many of N pairs of tricks each one
sees through; `--write` puts the table between its two marks in a document.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from amavispy.deadline import Deadline
from amavispy.inspection.budget import Limits
from amavispy.inspection.decoder import Decoder
from amavispy.inspection.inspector import Inspector
from amavispy.inspection.scanning import Scanning
from amavispy.policy.banned_defaults import DEFAULT_BANNED_FILENAME_RE
from amavispy.policy.recipient import recipient_policies
from amavispy.policy.settings import ScannerSpec
from tests import making
from tests.corpus.kinds import Case, pairs, singles
from tests.corpus.peers import Peers

BEGIN, END = "<!-- table of kinds: begin -->", "<!-- table of kinds: end -->"
_YARA = ScannerSpec("yara", "yara", rules=("builtin",))
_MISSED = "-"


@dataclass(frozen=True, slots=True)
class Row:
    """One kind and what each of the three says of it."""

    kind: str
    ours: str
    amavisd: str
    rspamd: str


class Ours:
    """amavispy's inspection, in this process."""

    def __init__(self) -> None:
        self._inspector = Inspector(Decoder(Limits()), Scanning([_YARA]))
        self._bank = making.bank(av_scanners=(_YARA,), banned_filename_re=DEFAULT_BANNED_FILENAME_RE)

    def finds(self, case: Case) -> str:
        """ "infected" or "banned", and "ambiguous" when readers differ; "-" when nothing is said."""
        message = making.message(case.octets)
        recipients = recipient_policies(message.envelope, self._bank.settings)
        verdict = self._inspector.inspect(message, self._bank, recipients, Deadline.after(60))
        said = ["infected"] if verdict.is_infected else ["banned"] if any(verdict.banned) else []
        minors = {unchecked.minor for unchecked in verdict.unchecked}
        if 3 in minors:
            said.append("ambiguous")
        elif minors:
            said.append("unchecked")
        return ", ".join(said) or _MISSED


def rows(cases: Iterable[Case], ours: Ours, peers: Peers) -> Iterator[Row]:
    for case in cases:
        amavisd, rspamd = peers.amavisd.finds(case.octets), peers.rspamd.finds(case.octets)
        yield Row(case.kind, ours.finds(case), amavisd or _MISSED, rspamd or _MISSED)


def is_found(word: str) -> bool:
    return word.startswith(("infected", "banned"))


def table(found: list[Row]) -> list[str]:
    """The rows as a Markdown table, with what each one found in all."""
    lines = ["| kind | amavispy | amavisd 2.13 | rspamd 3.4 |", "|---|---|---|---|"]
    lines += [f"| {row.kind} | {row.ours} | {row.amavisd} | {row.rspamd} |" for row in found]
    return [*lines, f"| **found, of {len(found)}** | {' | '.join(f'**{count}**' for count in counts(found))} |"]


def counts(found: list[Row]) -> list[int]:
    return [sum(is_found(getattr(row, who)) for row in found) for who in ("ours", "amavisd", "rspamd")]


def written_into(document: str, lines: list[str]) -> str:
    before, _, rest = document.partition(BEGIN)
    _, _, behind = rest.partition(END)
    return "\n".join([before + BEGIN, *lines, END + behind])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.corpus.compare", description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=0, metavar="N", help="also N pairs of tricks, evenly chosen")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the table into this document")
    arguments = parser.parse_args()
    ours = Ours()
    with Peers() as peers:
        found = list(rows(singles(), ours, peers))
        lines = table(found)
        if arguments.pairs:
            step = max(1, sum(1 for _ in pairs()) // arguments.pairs)
            both = list(rows(islice(pairs(), 0, None, step), ours, peers))
            lines += ["", f"Of {len(both)} pairs of tricks the payload was found by amavispy in {counts(both)[0]}, "
                          f"by amavisd in {counts(both)[1]}, by rspamd in {counts(both)[2]}."]  # fmt: skip
    print("\n".join(lines))
    if arguments.write:
        arguments.write.write_text(written_into(arguments.write.read_text(), lines))
    return 0 if counts(found)[0] == len(found) else 1


if __name__ == "__main__":
    sys.exit(main())

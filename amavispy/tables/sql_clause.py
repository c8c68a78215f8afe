"""Sql clause - one of amavis' %sql_clause texts, made ready for a driver.

`%k` becomes a list of parameters, one for each key; `%a` the address, `%l` its local part, `%u` the user, `%e` the
extension with its delimiter, `%d` the domain, `%L` whether it is local (1 or 0), `?` the next argument. Everything else
passes as it is, quoted texts included. Two drivers' notations are known: `?` (qmark) and `%s` (format).

**Failures:** none; a clause that a database does not understand fails there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

SEL_POLICY = (
    "SELECT users.*, policy.*, users.id FROM users LEFT JOIN policy ON users.policy_id=policy.id"
    " WHERE users.email IN (%k) ORDER BY users.priority DESC"
)
SEL_WBLIST = (
    "SELECT wb FROM wblist JOIN mailaddr ON wblist.sid=mailaddr.id"
    " WHERE wblist.rid=? AND mailaddr.email IN (%k) ORDER BY mailaddr.priority DESC"
)
# The same for several recipients at a time: the first list is of users.id, the second of keys.
SEL_WBLISTS = (
    "SELECT wblist.rid, mailaddr.email, wblist.wb FROM wblist JOIN mailaddr ON wblist.sid=mailaddr.id"
    " WHERE wblist.rid IN (%r) AND mailaddr.email IN (%k) ORDER BY mailaddr.priority DESC"
)

_PIECE = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|(?P<mark>%[kaluedLr]|\?)", re.S)
# Clauses that ask users (and policy) by users.email alone: what several people's keys find is what each one's find.
_USERS = (
    r"\bFROM\s+users(?:\s*,\s*policy|\s+(?:(?:LEFT|INNER|OUTER)\s+){0,2}JOIN\s+policy\s+ON\s+[\w.\s=()]*?)?\s+WHERE\b"
)
_BY_EMAIL = re.compile(
    rf"{_USERS}(?!.*\b(?:OR|UNION|SELECT|GROUP|HAVING|LIMIT|FETCH|OFFSET)\b).*?\b(?<!\.)(?:users\.)?email\s+IN\s*\(\s*%k\s*\)",
    re.IGNORECASE | re.DOTALL,
)
_LETTERS = {"%a": 0, "%l": 1, "%u": 2, "%e": 3, "%d": 4}


@dataclass(frozen=True, slots=True)
class Clause:
    """A clause. `takes_all_at_once`: the keys of several addresses may stand in it, the column email tells whose."""

    text: str
    takes_all_at_once: bool = field(init=False)
    _pieces: tuple[tuple[str, str], ...] = field(init=False, repr=False)  # (text before, mark)

    def __post_init__(self) -> None:
        pieces = tuple(_pieces(self.text))
        marks = [mark for _, mark in pieces if mark]
        object.__setattr__(self, "_pieces", pieces)
        object.__setattr__(self, "takes_all_at_once", marks == ["%k"] and bool(_BY_EMAIL.search(self.text)))

    def statement(self, paramstyle: str, lengths: dict[str, int]) -> str:
        """The text with the driver's placeholders; `lengths`: how many parameters a list (%k, %r) has."""
        is_qmark = paramstyle == "qmark"
        sign = "?" if is_qmark else "%s"
        texts = []
        for before, mark in self._pieces:
            texts.append(before if is_qmark else before.replace("%", "%%"))
            if mark:
                texts.append(",".join([sign] * lengths.get(mark, 1)))
        return "".join(texts)

    def parameters(
        self, keys: Sequence[Any], parts: Sequence[Any], *, is_local: bool, extra: Sequence[Any]
    ) -> list[Any]:
        """What goes into the placeholders, in order. `parts` are an address' five; `extra` is for `?`."""
        found: list[Any] = []
        more = iter(extra)
        for _, mark in self._pieces:
            if mark == "%k":
                found += keys
            elif mark in _LETTERS:
                found.append(parts[_LETTERS[mark]])
            elif mark == "%L":
                found.append("1" if is_local else "0")
            elif mark:
                found.append(next(more, None))
        return found


def _pieces(text: str) -> Iterator[tuple[str, str]]:
    start = 0
    for match in _PIECE.finditer(text):
        if match["mark"]:
            yield text[start : match.start()], match["mark"]
            start = match.end()
    yield text[start:], ""

"""Lines - on which line of a TOML document each key and each element stands.

`line_numbers` reads a document that tomllib has accepted already, so it need not judge, only find its way: quickly,
once, and only when somebody wants to report a line. Paths are tuples of keys and, in arrays, of indices counted from 0.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_KEY = re.compile(r"""[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'""")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}' + r"|'''(?:[^']|'(?!''))*'{3,5}" + r'|"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'", re.S
)
_SCALAR = re.compile(r"[^,\]}#\n]*")


def line_numbers(document: str) -> dict[Path, int]:
    """The line of every path, counted from 1. A table's line is that of its header or of the first key in it."""
    return _Scanner(document).run()


class _Scanner:
    def __init__(self, document: str) -> None:
        self._text = document
        self._at = 0
        self._starts = [0, *(match.end() for match in re.finditer("\n", document))]
        self._lines: dict[Path, int] = {}
        self._counts: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._lines

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if not match:
            raise ValueError(f"no TOML at offset {self._at}")
        self._at = match.end()
        return match[0]

    def _note(self, path: Path) -> None:
        """Remember the line of a path and of its parents, where it is the first of them."""
        line = bisect_right(self._starts, self._at)
        while path and path not in self._lines:
            self._lines[path] = line
            path = path[:-1]

    def _keys(self) -> Path:
        keys: list[str | int] = []
        while True:
            self._skip(_SPACE)
            keys.append(_plain(self._skip(_KEY)))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return tuple(keys)
            self._at += 1

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        start = self._at
        self._at += 2 if is_array else 1
        table = self._resolved(self._keys(), is_array)
        end, self._at = self._at + (2 if is_array else 1), start
        self._note(table)
        self._at = end
        return table

    def _resolved(self, keys: Path, is_array: bool) -> Path:
        """The path of a header: every array of tables in it stands for its last element, a new one starts another."""
        path: Path = ()
        for depth, key in enumerate(keys):
            path = (*path, key)
            if is_array and depth == len(keys) - 1:
                self._note(path)
                self._counts[path] = self._counts.get(path, -1) + 1
            if path in self._counts:
                path = (*path, self._counts[path])
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        path = (*table, *self._keys())
        end, self._at = self._at + 1, start
        self._note(path)
        self._at = end
        self._skip(_SPACE)
        self._value(path)

    def _value(self, path: Path) -> None:
        first = self._text[self._at]
        if first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._skip(_STRING if first in "\"'" else _SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while self._next_is_not("]"):
            self._note((*path, index))
            self._value((*path, index))
            index += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while self._next_is_not("}"):
            self._pair(path)

    def _next_is_not(self, closing: str) -> bool:
        """Go to the next element, past blanks and a comma, or past the closing bracket."""
        self._skip(_BLANK)
        if self._text[self._at] == ",":
            self._at += 1
            self._skip(_BLANK)
        if self._text[self._at] == closing:
            self._at += 1
            return False
        return True


def _plain(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    if key[0] != '"':
        return key
    return next(iter(tomllib.loads(f"{key} = 0"))) if "\\" in key else key[1:-1]

"""Kinds - how one value of a TOML file becomes the value a setting holds: numbers, times, sizes, words, texts.

A `Kind` is a form (said in the documentation) and a converter. Converters take what TOML gave and a `Context` and
return the value; they know neither files nor lines nor which setting they serve. The larger shapes stand in
`config.structures` and `config.lookups`.

**Failures:** `BadValue` carries every problem below the value, each with its path inside of it, what is wrong and what
is allowed. The loader adds file, line and key.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import Any

Path = tuple[str | int, ...]

_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)\s*(s|m|h|d|)", re.I)
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"(\d{1,15})\s*(B|KB|MB|GB|KiB|MiB|GiB|)", re.I)
_OCTETS = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TEXT_LIMIT = 2000


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong below a value: where inside of it, what, and what is allowed."""

    path: Path
    text: str
    allowed: str = ""


class BadValue(Exception):
    """A value cannot be converted. `problems` are all that were found."""

    def __init__(self, problem: str, allowed: str = "", *, problems: tuple[Problem, ...] = ()) -> None:
        super().__init__(problem)
        self.problems = problems or (Problem((), problem, allowed),)

    @classmethod
    def joined(cls, problems: Iterable[Problem]) -> BadValue:
        found = tuple(problems)
        return cls(found[0].text, problems=found)

    def under(self, step: str | int) -> tuple[Problem, ...]:
        """The problems seen from one container further out."""
        return tuple(Problem((step, *p.path), p.text, p.allowed) for p in self.problems)


@dataclass(frozen=True, slots=True)
class Context:
    """What a converter may ask its surroundings for.

    `expand` replaces $NAME in a text; `networks` gives the raw list of another network setting ("$mynetworks"); `read`
    gives the text of a table file. Each raises BadValue.
    """

    expand: Callable[[str], str]
    networks: Callable[[str], Any]
    read: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Kind:
    """`form` is for documentation. Fragments add to a list that `appends`; `is_text`: usable as $NAME elsewhere."""

    form: str
    convert: Callable[[Any, Context], Any]
    appends: bool = False
    is_text: bool = False


def show(value: Any) -> str:
    """A value for a message: short, and by its sort when it is large."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, int):
        return f"{value}" if abs(value) < 1e15 else "this number"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else f'"{value[:57]}..."'
    if isinstance(value, list):
        return "a list"
    return "a table" if isinstance(value, dict) else "a date or time"


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean X?`, or nothing when nothing is near."""
    by_lower = {name.lower(): name for name in known}
    close = get_close_matches(word.lower()[:80], by_lower, 1, 0.75)
    return f"did you mean {by_lower[close[0]]}?" if close else ""


def each(items: Iterable[tuple[str | int, Any]], convert: Callable[[Any], Any]) -> list[Any]:
    """Convert all; raise the problems of all that fail."""
    results: list[Any] = []
    problems: list[Problem] = []
    for step, item in items:
        try:
            results.append(convert(item))
        except BadValue as bad:
            problems += bad.under(step)
    if problems:
        raise BadValue.joined(problems)
    return results


def members(value: Any, converters: Mapping[str, Callable[[Any], Any]], required: tuple[str, ...]) -> dict[str, Any]:
    """The members of a table, each converted; unknown ones and missing `required` ones are problems."""
    if not isinstance(value, dict):
        raise BadValue(f"{show(value)} is not a table", f"expected a table of {', '.join(converters)}")
    problems = [
        Problem(
            (key,), f"unknown key in this table{_maybe(nearest(key, converters))}", f"known: {', '.join(converters)}"
        )
        for key in value
        if key not in converters
    ]
    problems += [Problem((), f"{key} is missing", "this table needs it") for key in required if key not in value]
    found = {}
    for key in (key for key in value if key in converters):
        try:
            found[key] = converters[key](value[key])
        except BadValue as bad:
            problems += bad.under(key)
    if problems:
        raise BadValue.joined(problems)
    return found


def _maybe(hint: str) -> str:
    return f", {hint}" if hint else ""


def boolean(value: Any, _context: Context | None = None) -> bool:
    if not isinstance(value, bool):
        raise BadValue(f"{show(value)} is not a truth value", "expected true or false")
    return value


def text_of(value: Any, context: Context) -> str:
    """A string with its variables replaced, of one line and a sensible length."""
    if not isinstance(value, str):
        raise BadValue(f"{show(value)} is not a text", "expected a string in quotes")
    expanded = context.expand(value) if "$" in value else value
    if _CONTROL.search(expanded):
        raise BadValue(f"{show(value)} contains control characters", "expected one line of printable text")
    if len(expanded) > _TEXT_LIMIT:
        raise BadValue(f"a text of {len(expanded)} characters", f"expected at most {_TEXT_LIMIT}")
    return expanded


def _in_range(value: float, low: float, high: float, shown: Any, unit: str) -> None:
    if not low <= value <= high:
        raise BadValue(f"{show(shown)} is out of range", f"expected {low:.12g} to {high:.12g}{unit}")


def _is_number(value: Any) -> bool:
    """A number that can be compared; an integer may still be too large for a float."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def integer_of(value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadValue(f"{show(value)} is not a whole number", f"expected {low} to {high}")
    _in_range(value, low, high, value, "")
    return value


def number_of(value: Any, low: float, high: float) -> float:
    if not _is_number(value):
        raise BadValue(f"{show(value)} is not a number", f"expected {low:.12g} to {high:.12g}")
    _in_range(value, low, high, value, "")
    return float(value)


def seconds_of(value: Any, low: float, high: float) -> float:
    expected = 'expected seconds or "30s", "8m", "1h"'
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match:
            raise BadValue(f"{show(value)} is not a time", expected)
        seconds = float(match[1]) * _SECONDS[match[2].lower()]
    elif _is_number(value):
        seconds = value
    else:
        raise BadValue(f"{show(value)} is not a time", expected)
    _in_range(seconds, low, high, value, " seconds")
    return float(seconds)


def octets_of(value: Any, low: int, high: int) -> int:
    expected = 'expected octets or "64KiB", "10MB"'
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if not match:
            raise BadValue(f"{show(value)} is not a size", expected)
        octets = int(match[1]) * _OCTETS[match[2].lower()]
    elif isinstance(value, bool) or not isinstance(value, int):
        raise BadValue(f"{show(value)} is not a size", expected)
    else:
        octets = value
    _in_range(octets, low, high, value, " octets")
    return octets


def word_of(value: Any, words: Mapping[str, Any]) -> Any:
    """The meaning of one of a few words."""
    if isinstance(value, str) and value in words:
        return words[value]
    hint = nearest(value, words) if isinstance(value, str) else ""
    problem = f"{show(value)} is not one of the words known here{_maybe(hint)}"
    raise BadValue(problem, "expected " + ", ".join(show(word) for word in words))


def boolean_kind() -> Kind:
    return Kind("true or false", boolean)


def integer(low: int, high: int) -> Kind:
    return Kind(f"whole number, {low} to {high}", lambda value, _: integer_of(value, low, high))


def number(low: float, high: float) -> Kind:
    return Kind(f"number, {low:.12g} to {high:.12g}", lambda value, _: number_of(value, low, high))


def duration(low: float, high: float) -> Kind:
    return Kind('seconds, or "30s", "8m", "1h"', lambda value, _: seconds_of(value, low, high))


def size(low: int = 0, high: int = 1 << 50) -> Kind:
    return Kind('octets, or "64KiB", "10MB"', lambda value, _: octets_of(value, low, high))


def choice(words: Mapping[str, Any], absent: Mapping[str, str] | None = None) -> Kind:
    """One of a few words. `absent` are words of amavis whose capability this version lacks, with the reason."""

    def convert(value: Any, context: Context) -> Any:
        word = text_of(value, context) if isinstance(value, str) else value
        if absent and isinstance(word, str) and word in absent:
            raise BadValue(f"{show(word)} is not available in this version", absent[word])
        return word_of(word, words)

    return Kind(", ".join(f'"{word}"' for word in words), convert)


def text(form: str = "text", pattern: str = "", allowed: str = "") -> Kind:
    """A text, matching `pattern` as a whole when one is given."""
    compiled = re.compile(pattern) if pattern else None

    def convert(value: Any, context: Context) -> str:
        found = text_of(value, context)
        if compiled and not compiled.fullmatch(found):
            raise BadValue(f"{show(found)} cannot be used here", f"expected {allowed or form}")
        return found

    return Kind(form, convert, is_text=True)


def path(*, optional: bool = False) -> Kind:
    """An absolute path; "" when `optional`."""

    def convert(value: Any, context: Context) -> str:
        found = text_of(value, context)
        if not found and optional:
            return ""
        if not found.startswith("/") or ".." in found.split("/"):
            raise BadValue(f"{show(found)} is not an absolute path", 'expected "/..." without ".."')
        return found.rstrip("/") or "/"

    return Kind('path, "" for none' if optional else "path", convert, is_text=True)


def octal(value: Any, context: Context) -> int:
    """Permission bits of a socket; a string, since TOML's 0660 would be a fault and 660 another number."""
    found = text_of(value, context) if isinstance(value, str) else ""
    if not re.fullmatch(r"0?[0-7]{3}", found):
        raise BadValue(f"{show(value)} is not a permission mode", 'expected three octal digits in quotes: "0660"')
    return int(found, 8)


def words(names: Iterable[str], build: Callable[[list[str]], Any] = tuple) -> Kind:
    """A list of words out of a few, as a tuple or whatever `build` makes of them."""
    known = {name: name for name in names}

    def convert(value: Any, context: Context) -> Any:
        if not isinstance(value, list):
            raise BadValue(f"{show(value)} is not a list", f"expected a list of {', '.join(known)}")
        return build(each(enumerate(value), lambda v: word_of(text_of(v, context), known)))

    return Kind(f"list of: {', '.join(known)}", convert)


def secrets() -> Kind:
    """A list of texts that are taken as they are: no $NAME means anything in a password."""
    expected = "expected a list of texts of 1 to 128 characters"

    def one(value: Any) -> str:
        if not isinstance(value, str) or not 0 < len(value) <= 128 or "\0" in value:
            raise BadValue("this is no password", expected)
        return value

    def convert(value: Any, _context: Context) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise BadValue(f"{show(value)} is not a list", expected)
        return tuple(each(enumerate(value), one))

    return Kind("list of texts", convert)


def enumeration(members_of: type[Enum], prefix: str = "") -> Kind:
    """One of an enum's names behind a prefix: D_PASS for Destiny.PASS."""
    return choice({f"{prefix}{member.name}": member for member in members_of})

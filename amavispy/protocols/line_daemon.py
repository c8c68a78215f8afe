"""Line daemon - daemons that are asked by a line of text, and programs: both answer with text that patterns judge.

amavis knows many of them by four things: a query such as `CONTSCAN {}`, what says clean, what says infected, and what
the names are. `questions` makes queries of a template: `{}` is the directory of the parts, `{}/*` the path of a file,
a `*` alone its bare name; with one of the latter there is a query a file. `Reading` judges an answer, infected before
clean.

A daemon that ends its answer by closing is asked on a new connection each time; one whose answer is a line (ended by
LF or NUL) keeps its connection.

**Failures:** as `scanner_talk` says; an answer that is neither clean nor infected is an error. At the start ValueError
for a pattern that is none.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from amavispy.protocols.scanner_talk import SOMEWHERE, UNKNOWN, Answer, Buffer, Sample, ScannerError, readable

OUTPUT_LIMIT = 200 * 1024
_NAMES = 100
_PATH_LIMIT = 500
_PART = re.compile(r"(?:^|[\s/])p(\d{3,7})\b")
_EACH = re.compile(r"\{\}/\*|(?<!\S)\*(?!\S)")

Condition = re.Pattern[str] | frozenset[int]


@dataclass(frozen=True, slots=True)
class Reading:
    """How an answer is judged: `infected` and `clean` by a pattern in its text or by exit statuses.

    Without `clean`, an answer that is not infected is inconclusive. The groups of `names` in every match are names.
    """

    infected: Condition
    clean: Condition | None = None
    names: re.Pattern[str] | None = None

    @classmethod
    def of(cls, infected: str | Sequence[int], clean: str | Sequence[int] | None, names: str) -> Reading:
        return cls(
            _condition(infected),
            None if clean is None else _condition(clean),
            _pattern(names) if names else None,
        )

    def answers(self, output: bytes, number: int, status: int | None = None) -> list[Answer]:
        """What the text, and the exit status of a program, say of part `number`."""
        text = output.decode("utf-8", "replace")
        if _holds(self.infected, text, status):
            return self._findings(text, number)
        if self.clean is None:
            return [Answer(number, is_inconclusive=True)]
        if _holds(self.clean, text, status):
            return [Answer(number)]
        said = readable(output.replace(b"\n", b" ").replace(b"\0", b" ")) or "nothing"
        return [Answer(number, error=f"unexpected answer{'' if status is None else f', exit {status}'}: {said}")]

    def _findings(self, text: str, number: int) -> list[Answer]:
        """The names, each with the part whose file name stands in its line."""
        found: list[Answer] = []
        for match in self.names.finditer(text) if self.names else ():
            part = _part_in(text, match.start(), number)
            names = [readable(name.encode("ascii", "replace")) for name in match.groups() if name]
            found += [Answer(part, name=name) for name in names if name]
            if len(found) >= _NAMES:
                break
        return found or [Answer(number, name=UNKNOWN)]


def _condition(wanted: str | Sequence[int]) -> Condition:
    return _pattern(wanted) if isinstance(wanted, str) else frozenset(wanted)


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.MULTILINE)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from None


def _holds(condition: Condition, text: str, status: int | None) -> bool:
    if isinstance(condition, frozenset):
        return status in condition
    return bool(condition.search(text))


def _part_in(text: str, at: int, number: int) -> int:
    """The part that the line at this place speaks of, when that is not known."""
    if number != SOMEWHERE:
        return number
    start = max(text.rfind("\n", 0, at), text.rfind("\0", 0, at)) + 1
    end = text.find("\n", at)
    match = _PART.search(text, start, min(start + _PATH_LIMIT, len(text) if end < 0 else end))
    return int(match[1]) if match else SOMEWHERE


def questions(template: str, directory: str, names: Sequence[str]) -> list[Sample]:
    """The queries to send; the octets of a Sample are the query, its number the part it is about."""
    if not _EACH.search(template):
        return [Sample(SOMEWHERE, template.replace("{}", directory).encode("utf-8", "surrogateescape"))]
    return [Sample(int(name[1:]), _filled(template, directory, name)) for name in names]


def _filled(template: str, directory: str, name: str) -> bytes:
    text = _EACH.sub(lambda match: name if match[0] == "*" else f"{directory}/{name}", template)
    return text.replace("{}", directory).encode("utf-8", "surrogateescape")


class LineDaemonSession:
    """Both directions of one connection. `keeps_open`: the answer is a line, and more queries may follow."""

    __slots__ = ("_input", "_keeps_open", "_output", "_reading", "_sample", "is_spent")

    def __init__(self, reading: Reading, *, keeps_open: bool) -> None:
        self._reading = reading
        self._keeps_open = keeps_open
        self._input = bytearray()
        self._output: list[Buffer] = []
        self._sample: Sample | None = None
        self.is_spent = False

    @property
    def takes_more(self) -> bool:
        return self._sample is None and not self.is_spent

    @property
    def is_waiting(self) -> bool:
        return self._sample is not None

    def ask(self, sample: Sample) -> None:
        self._sample = sample
        self._output.append(sample.octets)

    def take_output(self) -> list[Buffer]:
        output, self._output = self._output, []
        return output

    def receive(self, octets: bytes) -> list[Answer]:
        """The answer when its end has come. What exceeds the limit of 200 KiB is read and forgotten."""
        self._input += octets[: max(0, OUTPUT_LIMIT - len(self._input))]
        is_line = self._keeps_open and (b"\n" in octets or b"\0" in octets)
        if octets and not is_line:
            return []
        if self._sample is None or not self._input:
            raise ScannerError("the daemon closed the connection" if not octets else "an answer to no question")
        said = bytes(self._input.replace(b"\0", b"\n") if is_line else self._input)
        answers = self._reading.answers(said, self._sample.number)
        self._input.clear()
        self._sample = None
        self.is_spent = not octets or not self._keeps_open
        return answers

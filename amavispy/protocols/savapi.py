"""Savapi - the Avira SAVAPI dialogue as a value: a licence's product, then one file after the other.

    < 100 SAVAPI:4.0
    > SET PRODUCT 10776        < 100 PRODUCT:10776
    > SET SCAN_TIMEOUT 30      < 100 SCAN_TIMEOUT:30
    > SCAN /path/p001          < 310 /path/p001 <<< EICAR ; virus ; Contains detection pattern of ...
                               < 319 1

200 and 210 end a clean file's answer, 319 an infected one's; 310 and 420 (suspicious) name what was found, other 3xx
and 4xx are remarks. The daemon reads files by their path.

**Failures:** as `scanner_talk` says; any other code is an error of this file.
"""

from __future__ import annotations

import re

from amavispy.protocols.scanner_talk import UNKNOWN, Answer, Buffer, Lines, Sample, ScannerError, readable

_FOUND = re.compile(rb"(?:310|420)[ ,](?:.* <<< )?(.*?)(?: +;|$)")
_NAMES = 100


class SavapiSession:
    """Both directions of one connection. `timeout` in seconds is the daemon's own limit for a file."""

    __slots__ = ("_answers", "_has_greeted", "_lines", "_output", "_sample", "_settings", "is_spent")

    def __init__(self, product: str, timeout: int) -> None:
        self._lines = Lines()
        self._output: list[Buffer] = []
        self._has_greeted = False
        self._settings = [f"SET SCAN_TIMEOUT {timeout}\n".encode(), f"SET PRODUCT {product}\n".encode()]
        self._sample: Sample | None = None
        self._answers: list[Answer] = []
        self.is_spent = False

    @property
    def takes_more(self) -> bool:
        return self._sample is None and not self.is_spent

    @property
    def is_waiting(self) -> bool:
        return self._sample is not None

    def ask(self, sample: Sample) -> None:
        self._sample, self._answers = sample, []
        if self._has_greeted and not self._settings:
            self._scan()

    def take_output(self) -> list[Buffer]:
        output, self._output = self._output, []
        return output

    def receive(self, octets: bytes) -> list[Answer]:
        if not octets:
            raise ScannerError("the daemon closed the connection")
        complete: list[Answer] = []
        for line in self._lines.receive(octets):
            if not self._has_greeted or self._settings:
                self._set_up(line)
            elif self._sample:
                complete += self._line(line, self._sample.number)
            else:
                raise ScannerError(f"unexpected answer: {readable(line)}")
        return complete

    def _set_up(self, line: bytes) -> None:
        """The greeting, or the answer to the last of `_settings` that was sent."""
        if not line.startswith(b"100"):
            raise ScannerError(f"refused: {readable(line)}")
        if self._has_greeted:
            self._settings.pop()
        elif not line.startswith(b"100 SAVAPI:"):
            raise ScannerError(f"not a SAVAPI daemon: {readable(line)}")
        self._has_greeted = True
        if self._settings:
            self._output.append(self._settings[-1])
        elif self._sample:
            self._scan()

    def _scan(self) -> None:
        assert self._sample
        self._output.append(b"SCAN %b\n" % self._sample.path.encode("utf-8", "surrogateescape"))

    def _line(self, line: bytes, number: int) -> list[Answer]:
        """A line of the answer; the answers when it is over."""
        code = line[:3]
        if code in (b"310", b"420"):
            match = _FOUND.match(line)
            self._note(Answer(number, name=(readable(match[1]) if match else "") or UNKNOWN))
        elif code in (b"200", b"210"):
            return self._over(Answer(number))
        elif code == b"319":
            return self._over(Answer(number, name=UNKNOWN))
        elif code == b"350":  # an error within the file; the end is still to come
            self._note(Answer(number, error=readable(line)))
        elif not code.isdigit() or code[:1] not in b"34" or code == b"300":
            return self._over(Answer(number, error=f"failed: {readable(line) or 'an empty line'}"), at_least=True)
        return []

    def _note(self, answer: Answer) -> None:
        if len(self._answers) < _NAMES:
            self._answers.append(answer)

    def _over(self, last: Answer, *, at_least: bool = False) -> list[Answer]:
        """What was noted; `last` when that is nothing, or in any case."""
        answers = [*self._answers, last] if at_least or not self._answers else self._answers
        self._sample, self._answers = None, []
        return answers

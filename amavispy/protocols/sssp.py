"""Sssp - the Sophos SAVDI dialogue (SSSP/1.0) as a value: one sample after the other on one connection.

The daemon greets with `OK SSSP/1.0`. A sample goes as octets (SCANDATA, which works from another machine and for a
daemon that may not read our files) or as a path (SCANDIRR). The answer is `ACC`, lines of events and an empty line:

    ACC 5B3A1F00/1
    VIRUS EICAR-AV-Test /path
    DONE OK 0203 Virus found during virus scan
    <empty>

**Failures:** as `scanner_talk` says. `REJ` costs the connection: what follows a refused SCANDATA would be read as
commands. Of the codes of `DONE FAIL` and `FAIL`, those that are the content's fault make it unchecked.
"""

from __future__ import annotations

from amavispy.mail.verdict import Unchecked
from amavispy.protocols.scanner_talk import UNKNOWN, Answer, Buffer, Lines, Sample, ScannerError, readable

_ENCRYPTED = b"0212"
_CONTENT = {  # SAVI's codes: no scanner will do better with such content
    b"0211": "compressed",
    _ENCRYPTED: "encrypted",
    b"021A": "damaged",
    b"0225": "one of several volumes",
}
_INFECTED = b"0203"
_NAMES = 100


class SsspSession:
    """Both directions of one connection."""

    __slots__ = ("_answers", "_has_greeted", "_is_done", "_lines", "_output", "_sample", "is_spent")

    def __init__(self) -> None:
        self._lines = Lines()
        self._output: list[Buffer] = []
        self._has_greeted = False
        self._sample: Sample | None = None
        self._answers: list[Answer] = []
        self._is_done = False
        self.is_spent = False

    @property
    def takes_more(self) -> bool:
        return self._sample is None and not self.is_spent

    @property
    def is_waiting(self) -> bool:
        return self._sample is not None

    def ask(self, sample: Sample) -> None:
        self._sample, self._answers, self._is_done = sample, [], False
        if sample.path:
            self._output.append(b"SSSP/1.0 SCANDIRR %b\r\n" % _quoted(sample.path))
        else:
            self._output += [b"SSSP/1.0 SCANDATA %d\r\n" % len(sample.octets), sample.octets]

    def take_output(self) -> list[Buffer]:
        """Nothing before the daemon has greeted."""
        if not self._has_greeted:
            return []
        output, self._output = self._output, []
        return output

    def receive(self, octets: bytes) -> list[Answer]:
        if not octets:
            raise ScannerError("the daemon closed the connection")
        complete: list[Answer] = []
        for line in self._lines.receive(octets):
            if self._has_greeted:
                complete += self._line(line)
            elif not line.startswith(b"OK SSSP/1"):
                raise ScannerError(f"not an SSSP daemon: {readable(line)}")
            else:
                self._has_greeted = True
        return complete

    def _line(self, line: bytes) -> list[Answer]:
        """A line of the answer; the answers when it is over."""
        if self._sample is None:
            if line:
                raise ScannerError(f"unexpected answer: {readable(line)}")
            return []
        word, _, rest = line.partition(b" ")
        match word:
            case b"VIRUS":
                self._note(name=readable(rest.partition(b" ")[0]) or UNKNOWN)
            case b"FAIL":
                self._failed(rest)
            case b"DONE":
                self._done(rest)
            case b"REJ":
                self.is_spent = True
                self._note(error=f"rejected: {readable(rest) or 'no reason given'}")
                return self._over()
            case b"" if self._is_done:
                return self._over()
            case b"" if self._answers:
                self._note(error="the daemon did not finish its answer")
                return self._over()
        return []

    def _done(self, rest: bytes) -> None:
        self._is_done = True
        result, _, more = rest.partition(b" ")
        if result != b"OK":
            self._failed(more)
        elif more.startswith(_INFECTED) and not any(answer.name for answer in self._answers):
            self._note(name=UNKNOWN)

    def _failed(self, rest: bytes) -> None:
        code = rest[:4].upper()
        if code in _CONTENT:
            self._note(unchecked=Unchecked(1 if code == _ENCRYPTED else 0, _CONTENT[code]))
        else:
            self._note(error=f"failed: {readable(rest) or 'no reason given'}")

    def _note(self, name: str = "", error: str = "", unchecked: Unchecked | None = None) -> None:
        assert self._sample
        if len(self._answers) < _NAMES:
            self._answers.append(Answer(self._sample.number, name, error, unchecked))

    def _over(self) -> list[Answer]:
        assert self._sample
        answers = self._answers or [Answer(self._sample.number)]
        self._sample = None
        return answers


def _quoted(path: str) -> bytes:
    """A path for SCANDIRR: blanks, controls and % as %XX."""
    octets = path.encode("utf-8", "surrogateescape")
    return b"".join(b"%%%02X" % o if o <= 0x20 or o in (0x25, 0x7F, 0xFF) else bytes((o,)) for o in octets)

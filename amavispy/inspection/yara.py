"""Yara - scanning a mail with YARA rules, in this process.

Rules come from the package ("builtin", which knows EICAR alone, and "heuristics"), from files, or from directories of
*.yar and *.yara files. They are compiled in the constructor, before workers are forked; the scanner made there serves
every worker. It gets the mail as it came in and every decoded part. yara-x has no time limit here (that would start a
thread), but it matches in linear time and the deadline is checked between parts.

**Failures:** none after the start: what goes wrong is the VirusScan's `error`, and a finding outweighs it. At the start
ValueError for rules that cannot be read or compiled.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

import yara_x

from amavispy.inspection.findings import Findings
from amavispy.inspection.workload import Mail, everything
from amavispy.mail.message import Octets
from amavispy.mail.verdict import VirusScan
from amavispy.policy.settings import ScannerSpec

_BUILTIN = "builtin"
_OURS = MappingProxyType(
    {name: Path(__file__).with_name("yara_rules") / f"{name}.yar" for name in (_BUILTIN, "heuristics")}
)


class YaraScanner:
    """Compiled rules and a scanner for them. A match is named by its rule's meta `name`, else by its identifier."""

    def __init__(self, spec: ScannerSpec) -> None:
        self.spec = spec
        self._scanner = yara_x.Scanner(compiled(spec.rules or (_BUILTIN,)))

    def start(self, mail: Mail, ends_at: float) -> YaraWork:
        """Nothing is done yet: daemons get their work first."""
        return YaraWork(self, mail, ends_at)

    def matches(self, octets: Octets | memoryview, descriptor: int | None) -> list[str]:
        """The names of the rules that match. Raises yara_x.ScanError, or OSError for a descriptor."""
        if isinstance(octets, bytes) or descriptor is None:
            found = self._scanner.scan(_as_bytes(octets))
        else:  # mapped by the scanner itself, so that a large mail is not copied
            found = self._scanner.scan_file(f"/proc/self/fd/{descriptor}")
        return [str(dict(rule.metadata).get("name", rule.identifier)) for rule in found.matching_rules]


class YaraWork:
    """The scan of one mail; done at once by `work_here`, there is nothing to wait for."""

    __slots__ = ("_findings", "_mail", "_scanner", "ends_at")

    def __init__(self, scanner: YaraScanner, mail: Mail, ends_at: float) -> None:
        self.ends_at = ends_at
        self._scanner = scanner
        self._mail = mail
        self._findings = Findings()

    @property
    def interest(self) -> int:
        return 0

    def fileno(self) -> int:
        return -1

    def advance(self) -> None:
        pass

    def expire(self) -> None:
        pass

    def close(self) -> None:
        pass

    def work_here(self) -> None:
        try:
            for octets, descriptor, _, number in everything(self._mail):
                if time.monotonic() >= self.ends_at:
                    self._findings.failed("out of time")
                    return
                for name in self._scanner.matches(octets, descriptor):
                    self._findings.found(name, number)
        except yara_x.ScanError as error:
            self._findings.failed(str(error))
        except OSError as error:
            if error.errno is None:  # the worker's alarm
                raise
            self._findings.failed(str(error))

    def result(self) -> VirusScan:
        return self._findings.scan(self._scanner.spec)


def _as_bytes(octets: Octets | memoryview) -> bytes:
    """yara-x takes bytes alone; a view of a whole bytes object gives that object instead of a copy."""
    if isinstance(octets, memoryview) and type(octets.obj) is bytes and len(octets.obj) == octets.nbytes:
        return octets.obj
    return octets if isinstance(octets, bytes) else bytes(octets)


def compiled(sources: Sequence[str]) -> yara_x.Rules:
    """The rules of all sources, each file in a name space of its own. ValueError names the fault."""
    compiler = yara_x.Compiler()
    for source in sources:
        try:
            for path in _files(source):
                compiler.new_namespace(str(path))
                compiler.add_include_dir(str(path.parent))
                compiler.add_source(path.read_text(), origin=str(path))
        except (OSError, UnicodeDecodeError, yara_x.CompileError) as error:
            raise ValueError(f"YARA rules {source}: {error}") from error
    return compiler.build()


def _files(source: str) -> list[Path]:
    path = _OURS.get(source) or Path(source)
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.suffix in (".yar", ".yara"))

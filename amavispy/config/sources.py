"""Sources - where a configuration comes from, and the reading of it: files, fragments, --set, options.

The files are read in the order given, then the fragments `conf.d/*.toml` beside them in the order of their names, then
each --set, then the values of options; what comes later wins. A `Document` is one of these with what stands in it.

**Failures:** every fault is appended to a list handed in; a source with a fault yields no document. Complaints about
who may write a file go to a list of their own: the file is read nevertheless, so that all faults are told at once.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from amavispy.config.faults import Fault
from amavispy.config.lines import line_numbers
from amavispy.config.ownership import directories_of, directory_complaints, facts_of, file_complaints

Path = tuple[str | int, ...]

FILE_LIMIT = 10 * 1024 * 1024
TABLE_LIMIT = 64 * 1024 * 1024
DEFAULT_FILE = "/etc/amavispy/amavispy.toml"


@dataclass(frozen=True, slots=True)
class Option:
    """A value given by an option of the command line: `-m 5` is ("-m", "max_servers", 5)."""

    option: str
    key: str
    value: Any


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything a configuration is made of. `overrides` are "KEY=TOML value" texts, KEY may be dotted."""

    files: tuple[str, ...] = (DEFAULT_FILE,)
    overrides: tuple[str, ...] = ()
    options: tuple[Option, ...] = ()
    checks_ownership: bool = True


@dataclass(frozen=True)
class Document:
    """One source, parsed. `name` is how messages call it; `text` is "" when it is no file but comes of an option."""

    name: str
    values: Mapping[str, Any]
    text: str = field(default="", repr=False)
    is_file: bool = False

    @cached_property
    def _lines(self) -> Mapping[Path, int]:
        return line_numbers(self.text)

    def line(self, path: Path) -> int:
        """The line of the path, or of what encloses it; 0 when the source has no lines."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 0)


def read_documents(sources: Sources, faults: list[Fault], complaints: list[Fault]) -> list[Document]:
    """All sources in order."""
    guard = complaints if sources.checks_ownership else None
    paths = [*sources.files, *_fragments(sources.files, faults)]
    read = [_read_file(path, faults, guard) for path in paths]
    read += [_override(text, faults) for text in sources.overrides]
    read += [Document(o.option, {o.key: o.value}) for o in sources.options]
    return [document for document in read if document]


def _fragments(files: tuple[str, ...], faults: list[Fault]) -> Iterator[str]:
    """conf.d/*.toml beside the files, each directory once."""
    for directory in dict.fromkeys(os.path.join(os.path.dirname(path), "conf.d") for path in files):
        try:
            names = sorted(os.listdir(directory))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            faults.append(Fault(directory, 0, "", f"cannot be read: {error.strerror}"))
            continue
        yield from (os.path.join(directory, n) for n in names if n.endswith(".toml") and not n.startswith("."))


def _read_file(path: str, faults: list[Fault], complaints: list[Fault] | None) -> Document | None:
    text = read_text(path, FILE_LIMIT, faults, complaints)
    if text is None:
        return None
    try:
        return Document(path, tomllib.loads(text), text, is_file=True)
    except tomllib.TOMLDecodeError as error:
        faults.append(_syntax_fault(path, text, str(error)))
    except (RecursionError, ValueError) as error:  # ValueError: a number of thousands of digits, a date in year 0
        said = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        faults.append(Fault(path, 0, "", f"not usable as TOML: {said}"))
    return None


def _syntax_fault(path: str, text: str, said: str) -> Fault:
    """tomllib ends its messages with "(at line 3, column 5)" or "(at end of document)"."""
    problem, _, where = said.rpartition(" (at ")
    number = where.removeprefix("line ").partition(",")[0]
    line = int(number) if number.isdigit() else text.rstrip("\n").count("\n") + 1
    return Fault(path, line, "", f"not TOML: {problem[:1].lower()}{problem[1:]}")


def read_text(path: str, limit: int, faults: list[Fault], complaints: list[Fault] | None) -> str | None:
    """A file's text, when it can be read, is UTF-8 and small enough. Checked and read through one descriptor.

    `complaints` gets what is to say about who may write the file; None does not check that.
    """
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if complaints is not None:
                _check_ownership(path, status, complaints)
            octets = file.read(limit + 1)
    except OSError as error:
        faults.append(Fault(path, 0, "", f"cannot be read: {error.strerror}"))
        return None
    if len(octets) > limit:
        faults.append(Fault(path, 0, "", "the file is too large", f"expected at most {limit // 1048576} MiB"))
        return None
    try:
        return octets.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        faults.append(
            Fault(path, line, "", f"octet 0x{octets[error.start]:02X} is not UTF-8", "save the file as UTF-8")
        )
        return None


def _check_ownership(path: str, status: os.stat_result, complaints: list[Fault]) -> None:
    user = os.geteuid()
    found = file_complaints(facts_of(path, status, user))
    for directory in directories_of(path):
        found += directory_complaints(facts_of(directory, os.stat(directory), user))
    complaints += (Fault(path, 0, "", problem, remedy) for problem, remedy in found)


def _override(text: str, faults: list[Fault]) -> Document | None:
    """One --set. Its value is TOML, so that a text and a number can be told apart."""
    key, equals, value = text.partition("=")
    name = "--set"
    try:
        if not equals or "\n" in text:
            raise ValueError("expected KEY=VALUE")
        return Document(name, tomllib.loads(f"{key} = {value}"))
    except (ValueError, RecursionError):
        allowed = f"expected KEY=VALUE with a value of TOML; a text has quotes: --set '{key.strip()}=\"text\"'"
        faults.append(Fault(name, 0, key.strip(), f"{value.strip() or 'nothing'} is not a value", allowed))
        return None

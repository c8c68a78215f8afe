"""external_tools - 7zz, unar and other programs as unpackers, for what nobody reads in this process.

They run in the confined tool child only, one at a time, and write what they unpack to a pipe: no file is ever made.
The archive is handed to them by descriptor, names and sizes come from their listing, and the stream of octets is cut by
those. When the sizes lied, what is left over is a member of its own and the archive is marked U.

`find_tools` looks for the programs, once, at the start.

**Failures:** CannotUnpack when a tool cannot read the part either (UC when a password is missing).
"""

from __future__ import annotations

import glob
import json
import os
import resource
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import IO, Any

from amavispy.inspection.budget import Budget
from amavispy.inspection.confinement import die_with
from amavispy.inspection.packed import CHUNK, CannotUnpack, Damaged, Found, Packed, Remark, Way, derived

_PLACES = ("/usr/local/bin", "/usr/bin", "/bin", "/opt/bin")
_PROGRAMS: Mapping[str, tuple[str, ...]] = {
    "7zz": ("7zz", "7z", "7za"),
    "unar": ("unar",),
    "lsar": ("lsar",),
    "lzop": ("lzop",),
    "lrzip": ("lrzip",),
}
_LOADERS = ("/lib*/ld-linux*.so.*", "/lib/ld-musl-*.so.*")
# Libraries and what they want to know; of /proc a program needs its own command line, and gets no other's memory.
_READABLE = (
    "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libexec", "/usr/local/lib", "/usr/share", "/lib", "/lib64", "/proc",
    "/etc/ld.so.cache", "/etc/GNUstep", "/etc/passwd", "/etc/nsswitch.conf", "/dev/null", "/dev/urandom",
)  # fmt: skip
_ENVIRONMENT = {"LC_ALL": "C.UTF-8", "PATH": "/usr/bin:/bin", "HOME": "/", "TMPDIR": "/"}
_LISTING = 8 << 20  # octets of a listing that are read
_NO_PASSWORD = "-"  # noqa: S105 - given so that no program asks for one
_SLOWEST = 60  # seconds of processor time a program may take


@dataclass(slots=True)
class _Entry:
    """A line of a listing."""

    name: str
    size: int
    is_directory: bool = False
    is_link: bool = False
    is_encrypted: bool = False


def find_tools(places: tuple[str, ...] = _PLACES) -> dict[str, str]:
    """The programs that this machine has: tool -> path. Scripts do not count: their interpreter could not start."""
    found = {}
    for tool, programs in _PROGRAMS.items():
        paths = (os.path.join(place, program) for place in places for program in programs)
        if path := next(filter(_is_program, paths), None):
            found[tool] = os.path.realpath(path)
    if "lsar" not in found:
        found.pop("unar", None)
    return found


def confinable(tools: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """What the tool child must be allowed: the programs with their loader to execute, and what they read."""
    loaders = [os.path.realpath(path) for pattern in _LOADERS for path in glob.glob(pattern)]
    return [*tools.values(), *loaders], list(_READABLE)


def _is_program(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"\x7fELF" and os.access(path, os.X_OK)
    except OSError:
        return False


def tool_table(tools: Mapping[str, str]) -> dict[str, Way]:
    """An unpacker for each tool that was found."""
    table = {}
    if path := tools.get("7zz"):
        table["7zz"] = Way("do_7zip", partial(_unpack, _SevenZip(path)))
    if path := tools.get("unar"):
        table["unar"] = Way("do_unar", partial(_unpack, _Unar(path, tools["lsar"])))
    if path := tools.get("lzop"):
        table["lzop"] = Way("do_lzop", partial(_filter, (path, "-d", "-c", "-q"), {".lzo": "", ".tzo": ".tar"}))
    if path := tools.get("lrzip"):
        table["lrzip"] = Way("do_lrzip", partial(_filter, (path, "-q", "-d", "-o", "-"), {".lrz": ""}))
    return table


class _SevenZip:
    """7-Zip's command line."""

    def __init__(self, path: str) -> None:
        self._path = path

    def entries(self, archive: str, password: str, run: _Run) -> list[_Entry] | None:
        arguments = ("l", "-slt", "-ba", "-bd", "-sccUTF-8", f"-p{password}", "--", archive)
        text, status = run.listing((self._path, *arguments))
        blocks = [dict(_pairs(block)) for block in text.split("\n\n") if "Path = " in block]
        return [_seven_entry(block) for block in blocks] if status == 0 or blocks else None

    def content(self, archive: str, password: str, member: str = "") -> tuple[str, ...]:
        options = ("x", "-so", "-bd", "-y", "-mmt1", "-spd", f"-p{password}", "--", archive)
        return (self._path, *options, *((member,) if member else ()))


def _pairs(block: str) -> Iterator[tuple[str, str]]:
    for line in block.splitlines():
        key, separator, value = line.partition(" = ")
        if separator:
            yield key, value


def _seven_entry(block: Mapping[str, str]) -> _Entry:
    attributes, size = block.get("Attributes", ""), block.get("Size", "")
    is_directory = block.get("Folder") == "+" or attributes.startswith("D")
    is_link = bool(block.get("Symbolic Link") or block.get("Hard Link")) or " l" in attributes
    encrypted = block.get("Encrypted") == "+"
    return _Entry(block.get("Path", ""), int(size) if size.isdigit() else -1, is_directory, is_link, encrypted)


class _Unar:
    """The command line of The Unarchiver."""

    def __init__(self, unar: str, lsar: str) -> None:
        self._unar = unar
        self._lsar = lsar

    def entries(self, archive: str, password: str, run: _Run) -> list[_Entry] | None:
        text, _ = run.listing((self._lsar, "-j", *_given(password), archive), hears_errors=False)
        try:
            listed = json.loads(text).get("lsarContents", ())
        except (ValueError, AttributeError, RecursionError):
            return None
        return [_unar_entry(each) for each in listed if not each.get("XADIsResourceFork")] or None

    def content(self, archive: str, password: str, member: str = "") -> tuple[str, ...]:
        options = ("-q", "-k", "skip", "-o", "-", *_given(password))
        return (self._unar, *options, archive, *((member,) if member else ()))


def _given(password: str) -> tuple[str, ...]:
    """unar would decrypt by any password, also what is not encrypted."""
    return () if password == _NO_PASSWORD else ("-p", password)


def _unar_entry(each: Mapping[str, Any]) -> _Entry:
    size, is_link = each.get("XADFileSize", -1), bool(each.get("XADIsLink"))
    is_directory = bool(each.get("XADIsDirectory"))
    is_encrypted = bool(each.get("XADIsEncrypted"))
    return _Entry(str(each.get("XADFileName", "")), int(size), is_directory, is_link, is_encrypted)


_Tool = _SevenZip | _Unar


def _unpack(tool: _Tool, packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """All members of an archive, with the first password that fits."""
    run = _Run(packed, budget)
    entries, password = _opened(tool, packed, run)
    budget.foresee_files(len(entries))
    files = []
    for entry in entries:
        if entry.is_directory or entry.is_link:
            yield Found((entry.name,), attributes="D" if entry.is_directory else "L")
        elif entry.is_encrypted and not password:
            yield Found((entry.name,), attributes="UC")
        else:
            files.append(entry)
    is_whole = len(files) == sum(not (entry.is_directory or entry.is_link) for entry in entries)
    if is_whole and all(entry.size >= 0 for entry in files):
        yield from _cut(files, run.stream(tool.content(run.archive, password or _NO_PASSWORD)))
    else:
        for entry in files:
            process = run.stream(tool.content(run.archive, password or _NO_PASSWORD, entry.name))
            yield Found((entry.name,), process.rest(), declared=max(0, entry.size))


def _opened(tool: _Tool, packed: Packed, run: _Run) -> tuple[list[_Entry], str]:
    """The listing, and the password that opens the smallest encrypted member; "" when none does."""
    is_locked = False
    for password in (_NO_PASSWORD, *packed.passwords):
        entries = tool.entries(run.archive, password, run)
        if entries is None:
            is_locked |= run.spoke_of_passwords
            continue
        encrypted = [entry for entry in entries if entry.is_encrypted and not entry.is_directory]
        if not encrypted:
            return entries, password
        smallest = min(encrypted, key=lambda entry: entry.size)
        candidates = packed.passwords if password == _NO_PASSWORD else (password,)
        return entries, next((p for p in candidates if run.gives(smallest, tool, p)), "")
    raise CannotUnpack("no tool can read it", "UC" if is_locked else "U")


def _cut(files: list[_Entry], process: _Process) -> Iterator[Found | Remark]:
    """One stream of octets as the members that the listing announced."""
    for entry in files:
        yield Found((entry.name,), process.take(entry.size), declared=entry.size)
    first = next(iter(process.rest(is_strict=False)), b"")
    if first:
        yield Found((), _with_first(first, process), attributes="U")
    if process.status():
        yield Remark("U", text="a tool reported damage")


def _with_first(first: bytes, process: _Process) -> Iterator[bytes]:
    yield first
    yield from process.rest(is_strict=False)


def _filter(
    command: tuple[str, ...], endings: dict[str, str], packed: Packed, budget: Budget
) -> Iterator[Found | Remark]:
    """A single compressed file, through a program that writes to a pipe."""
    run = _Run(packed, budget)
    yield Found(derived(packed.names, endings), run.stream((*command, run.archive)).rest())


class _Run:
    """Programs run on one packed part."""

    def __init__(self, packed: Packed, budget: Budget) -> None:
        if packed.descriptor is None:
            raise CannotUnpack("tools need a descriptor")
        self._descriptor = packed.descriptor
        self._budget = budget
        self.archive = f"/proc/self/fd/{packed.descriptor}"
        self.spoke_of_passwords = False

    def stream(self, command: tuple[str, ...]) -> _Process:
        """A program whose output is a member, or all of them."""
        self._budget.check_time()
        return _Process(self._start(command))

    def listing(self, command: tuple[str, ...], *, hears_errors: bool = True) -> tuple[str, int]:
        """A program's whole output, and its exit status."""
        process = self._start(command, hears_errors=hears_errors)
        octets = process.stdout.read(_LISTING) if process.stdout else b""
        status = _ended(process)
        text = octets.decode("utf-8", "replace")
        self.spoke_of_passwords = "password" in text[-4096:].lower()
        return text, status

    def gives(self, entry: _Entry, tool: _Tool, password: str) -> bool:
        """Whether a password opens a member: the program is content and there is as much as was announced."""
        process, size = self.stream(tool.content(self.archive, password, entry.name)), 0
        for chunk in process.rest(is_strict=False):
            size += len(chunk)
            self._budget.check_time()
        return process.status() == 0 and size == entry.size

    def _start(self, command: tuple[str, ...], *, hears_errors: bool = False) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 - our own program, no shell, and the archive is a descriptor
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if hears_errors else None,  # None: ours, which is /dev/null
            pass_fds=(self._descriptor,),
            cwd="/",
            env=_ENVIRONMENT,
            preexec_fn=_limits(os.getpid()),
        )


def _limits(parent: int) -> Callable[[], None]:
    """What a program gives up besides: it dies with the tool child, and its time is short."""

    def give_up() -> None:
        die_with(parent)
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (_SLOWEST if most < 0 else min(_SLOWEST, most), most))

    return give_up


class _Process:
    """A running program's output, taken piece by piece."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdout
        self._output: IO[bytes] = process.stdout

    def take(self, size: int) -> Iterator[bytes]:
        """The next `size` octets."""
        left = size
        while left:
            chunk = self._output.read(min(left, CHUNK))
            if not chunk:
                raise Damaged("a tool gave less than it announced")
            left -= len(chunk)
            yield chunk

    def rest(self, *, is_strict: bool = True) -> Iterator[bytes]:
        """All that is left; with `is_strict` a bad end of the program is damage."""
        while chunk := self._output.read(CHUNK):
            yield chunk
        if is_strict and self.status():
            raise Damaged("a tool reported damage")

    def status(self) -> int:
        return _ended(self._process)


def _ended(process: subprocess.Popen[bytes]) -> int:
    """The exit status of a program that has written all it will; one that goes on is ended."""
    if process.stdout:
        process.stdout.close()
    try:
        return process.wait(1.0)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait() or 1

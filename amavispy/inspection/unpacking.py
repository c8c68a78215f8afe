"""unpacking - the decoder's table of unpackers: first the confined decoder child, then, if need be, confined tools.

`Unpacking` goes through both for one packed part: what the child cannot read (an unknown format, an unsupported method,
members that the given passwords may open) is asked of the external tools that the machine has, in the order of
`archives.FALLBACKS`. What nobody could read is yielded at the end, by name and marked.

`in_process` is the same table without any child, for tests and for looking at files of one's own.

**Failures:** CannotUnpack, of the first who tried; LimitExceeded; TemporaryFailure when no child can be started.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial

from amavispy.inspection.archives import FALLBACKS, LOCKED, UNPACKERS
from amavispy.inspection.budget import Budget
from amavispy.inspection.confinement import Grants
from amavispy.inspection.packed import CannotUnpack, Member, Packed, Remark, Unpacked, Way, unpacked
from amavispy.inspection.sandbox import Sandbox

_log = logging.getLogger("amavispy.decoder")
_NOTICE = 25

Unpack = Callable[[Packed, Budget], Unpacked]


def in_process(table: Mapping[str, Way] = UNPACKERS) -> dict[str, Unpack]:
    """Unpackers that run in this process."""
    return {short: partial(unpacked, way) for short, way in table.items()}


class Unpacking:
    """Two kinds of children of one worker. `tools` is None when no tool was found."""

    def __init__(self, decoder: Sandbox, tools: Sandbox | None = None) -> None:
        self._decoder = decoder
        self._tools = tools

    def table(self) -> dict[str, Unpack]:
        """An unpacker for each short type that somebody here can take apart."""
        shorts = [*self._decoder.table, *(short for short in FALLBACKS if self._tools_for(short))]
        return {short: partial(self.unpack, short) for short in shorts}

    def unpack(self, short: str, packed: Packed, budget: Budget) -> Unpacked:
        """What is inside, by everybody who can read this short type."""
        attempt = _Attempt(bool(packed.passwords))
        tools = self._tools_for(short)
        if short in self._decoder.table:
            yield from attempt.first(self._decoder.unpack(short, packed, budget), is_last=not tools)
        for tool in tools if self._tools else ():
            if not attempt.wants_more:
                break
            yield from attempt.next(self._tools.unpack(tool, packed, budget))  # type: ignore[union-attr]
        yield from attempt.rest()

    def _tools_for(self, short: str) -> tuple[str, ...]:
        table = self._tools.table if self._tools else {}
        return tuple(tool for tool in FALLBACKS.get(short, ()) if tool in table)


def report(grants: Grants, is_confined: bool, tools: Mapping[str, str], table: Mapping[str, Unpack]) -> None:
    """Say once, at the start, what unpacks what and how it is confined."""
    _log.log(_NOTICE, "Sandbox of the decoders: %s", grants if is_confined else "off, rlimits only")
    internal = " ".join(f".{short}" for short in sorted(UNPACKERS))
    _log.info("Internal decoders for %s", internal)
    for tool, path in tools.items():
        shorts = " ".join(f".{short}" for short in sorted(FALLBACKS) if tool in FALLBACKS[short])
        if shorts:
            _log.info("Found decoder for %s at %s", shorts, path)
    if missing := " ".join(f".{short}" for short in sorted(LOCKED - table.keys())):
        _log.info("No decoder for %s", missing)


class _Attempt:
    """What was found of one packed part so far, and what was not."""

    def __init__(self, has_passwords: bool) -> None:
        self._has_passwords = has_passwords
        self._fault: CannotUnpack | None = None
        self._good: set[str] = set()
        self._missing: list[Member] = []
        self.wants_more = True

    def first(self, found: Unpacked, *, is_last: bool) -> Unpacked:
        """Everything that is complete; the rest is kept for whoever comes next."""
        try:
            for each in found:
                if isinstance(each, Remark) or is_last or not self._is_missing(each):
                    yield self._noted(each)
                else:
                    self._missing.append(each)
        except CannotUnpack as fault:
            self._fault = fault
        self.wants_more = bool(self._fault or self._missing)

    def next(self, found: Unpacked) -> Unpacked:
        """What was missing, from another tool."""
        is_open = bool(self._fault) or any(not member.names for member in self._missing) or not self._good
        wanted = {member.names[0] for member in self._missing if member.names}
        try:
            for each in found:
                if isinstance(each, Remark):
                    yield each
                elif self._is_missing(each):
                    self._add_missing(each)
                elif each.names[:1] and (each.names[0] in wanted or (is_open and each.names[0] not in self._good)):
                    yield self._noted(each)
                elif not each.names and is_open:
                    yield each
        except CannotUnpack as fault:
            self._fault = self._fault if self._fault and "C" not in fault.attributes else fault
            return
        self._fault = None
        self._missing = [m for m in self._missing if m.names and m.names[0] not in self._good]
        self.wants_more = bool(self._missing)

    def rest(self) -> Iterator[Member]:
        """What nobody could read."""
        yield from self._missing
        if self._fault:
            raise self._fault

    def _is_missing(self, member: Member) -> bool:
        if member.octets or "U" not in member.attributes:
            return False
        return self._has_passwords or "C" not in member.attributes

    def _add_missing(self, member: Member) -> None:
        if all(member.names != other.names for other in self._missing):
            self._missing.append(member)

    def _noted(self, each: Member | Remark) -> Member | Remark:
        if isinstance(each, Member):
            self._good.update(each.names)
        return each

"""Scoreboard - what every process is doing, in memory that all of them share.

One file, mapped: a header the master writes, then one byte of state and one byte of "pinned" for each slot, then one
slot of sixteen 8-octet fields for each process. Every slot has a single writer, the process that owns it; the master
writes it only while nobody does. Reading needs no lock: each field is written by one machine instruction, and a
reader that sees half of an update sees the rest a moment later. Times are monotonic seconds, valid on this boot.

The first two slots are gateways (two, because a reload lets the old one hand over to the new one), the rest workers.

**Failures:** OSError when the file cannot be made or has another layout. The space is reserved at once, so that a full
disk is told at start and never as SIGBUS later.
"""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass

GATEWAYS = 2
_MAGIC = b"amavispy scoreboard 1\0\0\0"
_HEADER = struct.Struct("=24sqqdqq")  # magic, slots, master's pid, started (wall clock), reloads, reloads rejected
_HEADER_SIZE = 64
_FIELDS = 16
_SLOT_SIZE = _FIELDS * 8
_PID, _TASKS, _SESSIONS, _NUMBER, _PARKED, _WAITING, _TURNED_AWAY = range(7)  # integers
_SINCE, _DEADLINE, _HEARTBEAT = range(8, 11)  # doubles

EMPTY, STARTING, IDLE, LEAVING = b"_", b"*", b" ", b"x"
_NAMES = {
    EMPTY: "",
    STARTING: "starting",
    IDLE: "idle",
    LEAVING: "leaving",
    b"A": "accepted",
    b"b": "in session",
    b"m": "MAIL FROM",
    b"d": "receiving data",
    b"=": "checking",
    b"G": "making ids",
    b"D": "decoding",
    b"V": "virus scan",
    b"S": "spam scan",
    b"P": "pen pals",
    b"r": "results",
    b"Q": "quarantine",
    b"F": "forwarding",
    b".": "finished",
    b"g": "serving",
    b"h": "handing over",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One process as `status` shows it. `generation` counts reloads; `seconds` in this state; `deadline` in seconds
    from now, None without one.

    `tasks`: messages of this process; `sessions`: connections lent to it (gateway: accepted); `parked` and `waiting`:
    the gateway's idle and queueing connections; `turned_away`: those it told 421.
    """

    slot: int
    role: str
    pid: int
    generation: int
    state: str
    seconds: float
    deadline: float | None
    tasks: int
    sessions: int
    parked: int
    waiting: int
    turned_away: int
    is_pinned: bool


class Scoreboard:
    """The whole board. `workers` is how many worker slots there are."""

    def __init__(self, mapped: mmap.mmap) -> None:
        slots = _HEADER.unpack_from(mapped)[1]
        self.slots: int = slots
        self.workers = slots - GATEWAYS
        self._map = mapped
        self._states_at = _HEADER_SIZE
        self._pinned_at = self._states_at + slots
        first = _first_slot(slots)
        fields = memoryview(mapped)[first : first + slots * _SLOT_SIZE]
        self._integers = fields.cast("q")
        self._doubles = fields.cast("d")

    @classmethod
    def create(cls, path: str, workers: int) -> Scoreboard:
        """A new board in a new file (mode 0640); an older one at `path` is replaced, its readers keep the old."""
        slots = (workers + GATEWAYS + 7) // 8 * 8
        size = _first_slot(slots) + slots * _SLOT_SIZE
        draft = f"{path}.new"
        _unlink(draft)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
        try:
            os.posix_fallocate(descriptor, 0, size)
            mapped = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        _HEADER.pack_into(mapped, 0, _MAGIC, slots, os.getpid(), time.time(), 0, 0)
        mapped[_HEADER_SIZE : _HEADER_SIZE + slots] = EMPTY * slots
        os.rename(draft, path)
        return cls(mapped)

    @classmethod
    def open(cls, path: str) -> Scoreboard:
        """A running daemon's board, read only."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
        except ValueError as error:  # an empty file cannot be mapped
            raise OSError(f"{path} is not a scoreboard") from error
        finally:
            os.close(descriptor)
        if len(mapped) < _HEADER_SIZE or _HEADER.unpack_from(mapped)[0] != _MAGIC:
            raise OSError(f"{path} is not a scoreboard")
        return cls(mapped)

    def slot(self, number: int) -> Slot:
        """The slot of one process, for its writer."""
        if not 0 <= number < self.slots:
            raise IndexError(f"the scoreboard has no slot {number}")
        return Slot(self._map, self._integers, self._doubles, number, self._states_at, self._pinned_at)

    def idle_workers(self) -> int:
        """How many workers wait for a loan: one pass over the state bytes, no objects."""
        return self._map[self._states_at + GATEWAYS : self._states_at + self.slots].count(IDLE)

    def pinned_workers(self) -> int:
        """How many workers serve a session that will not come back (TLS)."""
        return self._map[self._pinned_at + GATEWAYS : self._pinned_at + self.slots].count(b"\1")

    def busy_workers(self) -> int:
        """How many workers serve a session that may come back."""
        states = self._map[self._states_at + GATEWAYS : self._states_at + self.slots]
        free = sum(states.count(state) for state in (EMPTY, STARTING, IDLE, LEAVING))
        return len(states) - free - self.pinned_workers()

    def lent_sessions(self) -> int:
        """How many connections the workers now alive have been lent; it changes whenever there was work."""
        return sum(self._integers[number * _FIELDS + _SESSIONS] for number in range(GATEWAYS, self.slots))

    def waiting_sessions(self) -> int:
        """How many clients the gateways keep waiting for a worker."""
        return sum(self._integers[number * _FIELDS + _WAITING] for number in range(GATEWAYS))

    @property
    def master(self) -> int:
        return int(_HEADER.unpack_from(self._map)[2])

    @property
    def started(self) -> float:
        """When the master started, seconds since the epoch."""
        return float(_HEADER.unpack_from(self._map)[3])

    @property
    def reloads(self) -> int:
        return int(_HEADER.unpack_from(self._map)[4])

    @property
    def rejections(self) -> int:
        """Reloads that were refused, because the new configuration has faults."""
        return int(_HEADER.unpack_from(self._map)[5])

    def count_reload(self, *, is_taken: bool) -> None:
        """The master has taken a new configuration, or rejected it."""
        *rest, reloads, rejections = _HEADER.unpack_from(self._map)
        _HEADER.pack_into(self._map, 0, *rest, reloads + is_taken, rejections + (not is_taken))

    def rows(self) -> Iterator[Row]:
        """Every process that runs."""
        now = time.monotonic()
        for number in range(self.slots):
            slot = self.slot(number)
            if slot.state != EMPTY:
                yield slot.row(now)


class Slot:
    """One process's place on the board. Its owner writes it; the master and `status` read it."""

    __slots__ = ("_doubles", "_first", "_integers", "_map", "_pinned_at", "_state_at", "number")

    def __init__(
        self,
        mapped: mmap.mmap,
        integers: memoryview[int],
        doubles: memoryview[float],
        number: int,
        states_at: int,
        pinned_at: int,
    ) -> None:
        self._map = mapped
        self._integers = integers
        self._doubles = doubles
        self._first = number * _FIELDS
        self._state_at = states_at + number
        self._pinned_at = pinned_at + number
        self.number = number

    # --- the owner

    def mark(self, state: bytes) -> None:
        """Show what is being done; `state` is one octet."""
        self._map[self._state_at] = state[0]
        self._doubles[self._first + _SINCE] = time.monotonic()

    def beat(self) -> None:
        self._doubles[self._first + _HEARTBEAT] = time.monotonic()

    def set_deadline(self, at: float) -> None:
        """When the current message must be done (monotonic seconds), 0.0 for none."""
        self._doubles[self._first + _DEADLINE] = at

    def set_pinned(self, pinned: bool) -> None:
        self._map[self._pinned_at] = pinned

    def count_task(self) -> int:
        """One message more; answers how many this process has had."""
        self._integers[self._first + _TASKS] += 1
        return self._integers[self._first + _TASKS]

    def count_session(self) -> int:
        """One connection more; answers how many this process has had."""
        self._integers[self._first + _SESSIONS] += 1
        return self._integers[self._first + _SESSIONS]

    def count_turned_away(self) -> None:
        self._integers[self._first + _TURNED_AWAY] += 1

    def show_sessions(self, parked: int, waiting: int) -> None:
        """The gateway's idle and queueing connections."""
        self._integers[self._first + _PARKED] = parked
        self._integers[self._first + _WAITING] = waiting

    # --- the master, while the slot has no owner

    def assign(self, number: int) -> None:
        """Prepare for the process about to be forked; `number` is its generation."""
        self._integers[self._first : self._first + 8] = memoryview(bytes(64)).cast("q")
        self._doubles[self._first + 8 : self._first + _FIELDS] = memoryview(bytes(64)).cast("d")
        self._integers[self._first + _NUMBER] = number
        self.set_pinned(False)
        self.beat()
        self.mark(STARTING)

    def set_pid(self, pid: int) -> None:
        self._integers[self._first + _PID] = pid

    def clear(self) -> None:
        """The process is gone."""
        self.show_sessions(0, 0)
        self.set_pid(0)
        self.set_pinned(False)
        self.mark(EMPTY)

    # --- every reader

    @property
    def state(self) -> bytes:
        return self._map[self._state_at : self._state_at + 1]

    @property
    def is_pinned(self) -> bool:
        return self._map[self._pinned_at] == 1

    @property
    def pid(self) -> int:
        return self._integers[self._first + _PID]

    @property
    def tasks(self) -> int:
        return self._integers[self._first + _TASKS]

    @property
    def sessions(self) -> int:
        return self._integers[self._first + _SESSIONS]

    @property
    def since(self) -> float:
        return self._doubles[self._first + _SINCE]

    @property
    def heartbeat(self) -> float:
        return self._doubles[self._first + _HEARTBEAT]

    @property
    def deadline(self) -> float:
        return self._doubles[self._first + _DEADLINE]

    def row(self, now: float) -> Row:
        integers = self._integers[self._first : self._first + 8]
        state = self.state
        return Row(
            slot=self.number,
            role="gateway" if self.number < GATEWAYS else "worker",
            pid=integers[_PID],
            generation=integers[_NUMBER],
            state=_NAMES.get(state, state.decode("latin-1")),
            seconds=max(0.0, now - self.since),
            deadline=self.deadline - now if self.deadline else None,
            tasks=integers[_TASKS],
            sessions=integers[_SESSIONS],
            parked=integers[_PARKED],
            waiting=integers[_WAITING],
            turned_away=integers[_TURNED_AWAY],
            is_pinned=self.is_pinned,
        )


def _first_slot(slots: int) -> int:
    """Offset of the first slot, behind the header and both byte arrays (`slots` is a multiple of 8)."""
    return _HEADER_SIZE + 2 * slots


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return

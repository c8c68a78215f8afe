"""sandbox_child - the confined process that takes hostile files apart, errand after errand.

It is forked by a worker, gives up what it does not need, and then knows one socket only: an errand with the packed
part's descriptor comes in, frames of what was found go out. It keeps nothing from one errand to the next. It ends when
the worker does.

**Failures:** whatever an unpacker does with a hostile file (an error, no memory) is told as "cannot"; a crash or a
loop is the worker's to see.
"""

from __future__ import annotations

import codecs
import contextlib
import gc
import locale
import logging
import mmap
import os
import resource
import socket
from collections.abc import Callable, Mapping

import setproctitle

from amavispy.inspection import confinement
from amavispy.inspection.budget import Budget, LimitExceeded, Limits
from amavispy.inspection.packed import CannotUnpack, Damaged, Found, Packed, Remark, Way, slices
from amavispy.inspection.sandbox_frames import (
    CANNOT,
    DATA,
    DONE,
    END,
    FOUND,
    LENGTH,
    LIMIT,
    REMARK,
    Errand,
    frame,
    member_frame,
    pack_texts,
)

_SOCKET = 3  # the descriptor the child keeps, besides /dev/null in place of the standard ones
# Python imports a codec when it is first asked for, and a confined process can import nothing any more.
_CODECS = tuple(
    codecs.lookup(name)
    for name in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "ascii", "cp437", "cp1252", "idna")
)
_ENOUGH = 1 << 16  # octets that are worth a write
_SMALL = 1 << 15  # octets of a member that goes in one frame


def main(sock: socket.socket, parent: int, table: Mapping[str, Way], confine: Callable[[], None], title: str) -> None:
    """Run in a process just forked by `parent`, until the other end of `sock` is closed."""
    confinement.die_with(parent)
    logging.disable()
    gc.freeze()  # what the worker left behind is never finalised: its sockets' numbers may soon be other files
    sock = _keep_only(sock)
    setproctitle.setproctitle(f"amavispy ({title})")
    with contextlib.suppress(locale.Error):
        locale.setlocale(locale.LC_CTYPE, "C.UTF-8")  # libarchive drops names that the locale cannot spell
    confine()
    serve(sock, table)


def _keep_only(sock: socket.socket) -> socket.socket:
    """Close every descriptor but this one: clients, the gateway's line, the mail's file."""
    null = os.open(os.devnull, os.O_RDWR)
    kept = os.dup(sock.fileno())
    for standard in range(_SOCKET):
        os.dup2(null, standard)
    os.dup2(kept, _SOCKET)
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(_SOCKET + 1, most)
    return socket.socket(fileno=_SOCKET)


def serve(sock: socket.socket, table: Mapping[str, Way]) -> None:
    """Errand after errand. This is the process's one broad except."""
    outbox = _Outbox(sock)
    while received := _receive(sock):
        errand, descriptor = received
        try:
            _run(errand, descriptor, table[errand.kind], outbox)
            outbox.add(DONE)
        except LimitExceeded as limit:
            outbox.add(LIMIT, str(limit).encode())
        except CannotUnpack as fault:
            outbox.add(CANNOT, pack_texts((fault.attributes, str(fault))))
        except OSError as fault:
            if outbox.is_broken:
                return
            outbox.add(CANNOT, pack_texts(("U", f"{errand.kind}: {type(fault).__name__}")))
        except Exception as fault:
            outbox.add(CANNOT, pack_texts(("U", f"{errand.kind}: {type(fault).__name__}")))
        os.close(descriptor)
        outbox.flush()


def _receive(sock: socket.socket) -> tuple[Errand, int] | None:
    """The next errand and its descriptor; None when there will be no more."""
    octets, descriptors, _, _ = socket.recv_fds(sock, _ENOUGH, 1)
    if not octets or not descriptors:
        return None
    while len(octets) < LENGTH.size or len(octets) < LENGTH.size + LENGTH.unpack_from(octets)[0]:
        more = sock.recv(_ENOUGH)
        if not more:
            return None
        octets += more
    return Errand.decode(octets[LENGTH.size :]), descriptors[0]


def _run(errand: Errand, descriptor: int, way: Way, outbox: _Outbox) -> None:
    octets = mmap.mmap(descriptor, errand.size, access=mmap.ACCESS_READ) if errand.size else b""
    packed = Packed(octets, errand.names, errand.passwords, descriptor)
    budget = Budget(Limits(files=errand.files, seconds=errand.seconds), 0)
    budget.quota, budget.left = errand.quota, errand.left
    members = 0
    for found in way.unpack(packed, budget):
        if isinstance(found, Remark):
            outbox.add(REMARK, pack_texts((found.attributes, found.text, *found.types)))
            continue
        _give(found, budget, way.by, outbox)
        budget.check_time()
        members += 1
        if members > errand.members:  # one more than there may be: the worker says so
            return


def _give(found: Found, budget: Budget, by: str, outbox: _Outbox) -> None:
    """A member: at once when it is one small chunk, else piece by piece."""
    if found.chunks is None:
        outbox.add(FOUND, pack_texts((found.attributes, *found.names)))
        outbox.add(END, b"-")
        return
    sending = _Sending(found, budget, by, outbox)
    attributes = sending.run()
    sending.finish(attributes)


class _Sending:
    """A member on its way. What is small and whole needs one frame only."""

    def __init__(self, found: Found, budget: Budget, by: str, outbox: _Outbox) -> None:
        self._found = found
        self._budget = budget
        self._by = by
        self._outbox = outbox
        self._first: bytes | memoryview = b""
        self._is_begun = False

    def run(self) -> str:
        """Its octets; answers what is to be noted of it at its end."""
        try:
            self._budget.foresee(self._found.declared, self._by)
            for chunk in self._found.chunks or ():
                self._budget.charge(len(chunk), self._by)
                self._add(chunk)
        except Damaged as damage:
            return damage.attributes
        except (LimitExceeded, OSError):
            self._begin()
            raise
        except Exception:
            return "U"
        return ""

    def finish(self, attributes: str) -> None:
        if self._is_begun:
            self._outbox.add(END, attributes.encode())
        else:
            self._outbox.put(member_frame(self._found.attributes + attributes, self._found.names, self._first))

    def _add(self, chunk: bytes | memoryview) -> None:
        if not self._is_begun and not self._first and len(chunk) <= _SMALL:
            self._first = bytes(chunk)  # the next one may stand in the same place
            return
        self._begin()
        for piece in slices(chunk):
            self._outbox.add(DATA, piece)

    def _begin(self) -> None:
        if not self._is_begun:
            self._is_begun = True
            self._outbox.add(FOUND, pack_texts((self._found.attributes, *self._found.names)))
            if self._first:
                self._outbox.add(DATA, self._first)


class _Outbox:
    """Frames on their way to the worker, gathered until they are worth a write."""

    def __init__(self, sock: socket.socket) -> None:
        self.is_broken = False
        self._sock = sock
        self._waiting = bytearray()

    def add(self, kind: int, body: bytes | memoryview = b"") -> None:
        if len(body) >= _ENOUGH:
            self._waiting += frame(kind, b"")[:1] + LENGTH.pack(len(body))
            self.flush()
            self._write(body)
            return
        self.put(frame(kind, bytes(body)))

    def put(self, framed: bytes) -> None:
        """A frame that is complete."""
        self._waiting += framed
        if len(self._waiting) >= _ENOUGH:
            self.flush()

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, bytearray()
        self._write(waiting)

    def _write(self, octets: bytes | bytearray | memoryview) -> None:
        try:
            self._sock.sendall(octets)
        except OSError:
            self.is_broken = True
            raise

"""inner - the socketpair between gateway and workers: packets that may carry a connection.

SEQPACKET keeps packets whole and lets any free worker take the next one. A packet is a loan with its descriptor, or a
single octet: FREE (a worker says: I can take another) or NUDGE (the gateway wakes a worker). A loan too large for one
packet travels in a memfd beside the connection.

The kernel is the only one who knows how many loans wait in it; `in_flight` asks it, so no process that dies between two
steps can leave a wrong count behind.

**Failures:** `lend` answers False when the kernel's queue is full; `give_back` raises OSError when nobody reads.
A truncated or broken packet is logged, its descriptors are closed, and `receive` answers as if it were a NUDGE.
"""

from __future__ import annotations

import array
import fcntl
import logging
import os
import socket
import struct
import termios
from collections import deque
from collections.abc import Iterator

from amavispy.server.loan import Loan

_LOG = logging.getLogger("amavispy.server")
_LARGEST = 65_536  # wmem_default allows 212,960 octets a packet; leave room for several
_BUFFER = _LARGEST + 1024
_ANCILLARY = socket.CMSG_SPACE(4 * 4)
_MEMFD_MARK = b"\0memfd"  # cannot begin a loan: marshal never starts with NUL
GIVE_BACK_SECONDS = 5.0

FREE = b"f"
NUDGE = b"n"

Received = tuple[Loan, socket.socket] | None


def make_pair() -> tuple[socket.socket, socket.socket]:
    """The gateway's end and the workers' end. The master keeps both, so a new gateway continues the same queue."""
    gateway, workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    timeout = struct.pack("ll", int(GIVE_BACK_SECONDS), 0)
    workers.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)
    return gateway, workers


def lend(end: socket.socket, loan: Loan, descriptor: int) -> int:
    """Put a connection into the kernel's queue. Answers the packet's size, 0 when the queue is full."""
    try:
        return _send(end, loan.encode(), descriptor, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return 0


def give_back(end: socket.socket, loan: Loan, descriptor: int) -> None:
    """Send a connection to the gateway; waits at most GIVE_BACK_SECONDS for room (OSError then)."""
    _send(end, loan.encode(), descriptor, 0)


def say(end: socket.socket, word: bytes) -> int:
    """Send FREE or NUDGE; 0 when the queue is full, and then the other side has enough to wake it."""
    try:
        return end.send(word, socket.MSG_DONTWAIT)
    except OSError:
        return 0


def receive(end: socket.socket) -> Received:
    """The next loan and its socket, None for FREE, NUDGE and broken packets.

    Raises BlockingIOError when there is nothing, EOFError when all other ends are closed.
    """
    octets, ancillary, flags, _ = end.recvmsg(_BUFFER, _ANCILLARY, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
    descriptors = _descriptors(ancillary)
    if not octets and not descriptors:
        raise EOFError("the inner socket is closed")
    if octets in (FREE, NUDGE) and not descriptors:
        return None
    try:
        if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
            raise ValueError("truncated, probably for want of descriptors")
        loan = Loan.decode(_whole(octets, descriptors))
        return loan, _adopt(descriptors)
    except (ValueError, IndexError, OSError) as error:
        _LOG.error("a packet on the inner socket was lost: %s", error)
        return None
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def drain(end: socket.socket) -> Iterator[tuple[Loan, socket.socket]]:
    """Every loan that waits to be received from this end."""
    while True:
        try:
            received = receive(end)
        except (BlockingIOError, EOFError):
            return
        if received:
            yield received


class InFlight:
    """How many loans wait in the kernel for a worker: what the gateway sent, checked against what is still there."""

    def __init__(self, workers_end: socket.socket) -> None:
        self._descriptor = workers_end.fileno()
        self._sizes: deque[tuple[int, bool]] = deque()
        self._total = 0

    def sent(self, size: int, *, is_for_good: bool = False) -> None:
        self._sizes.append((size, is_for_good))
        self._total += size

    def count(self) -> int:
        """Loans in the kernel now. A predecessor's loans of unknown number count as one more than there are."""
        if not self._sizes:
            return 1 if self._queued() else 0
        queued = self._queued()
        while self._sizes and self._total > queued:
            self._total -= self._sizes.popleft()[0]
        return len(self._sizes) + (1 if queued > self._total else 0)

    def for_good(self) -> int:
        """Those among them that will not come back."""
        return sum(is_for_good for _, is_for_good in self._sizes)

    def _queued(self) -> int:
        """Octets of all packets that the workers have not taken (SIOCINQ of unix(7))."""
        answer = fcntl.ioctl(self._descriptor, termios.FIONREAD, b"\0\0\0\0")
        return int(struct.unpack("i", answer)[0])


def _send(end: socket.socket, octets: bytes, descriptor: int, flags: int) -> int:
    if len(octets) <= _LARGEST:
        return _send_with(end, octets, [descriptor], flags)
    memory = os.memfd_create("loan", os.MFD_CLOEXEC)
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(octets)
        return _send_with(end, _MEMFD_MARK, [descriptor, memory], flags)
    finally:
        os.close(memory)


def _send_with(end: socket.socket, octets: bytes, descriptors: list[int], flags: int) -> int:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
    return end.sendmsg([octets], rights, flags)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, octets in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            found.frombytes(octets[: len(octets) - len(octets) % found.itemsize])
    return list(found)


def _whole(octets: bytes, descriptors: list[int]) -> bytes:
    if octets != _MEMFD_MARK:
        return octets
    memory = descriptors.pop(1)
    os.lseek(memory, 0, os.SEEK_SET)
    with open(memory, "rb") as file:
        return file.read()


def _adopt(descriptors: list[int]) -> socket.socket:
    """The first descriptor as a socket; it is the caller's then. O_NONBLOCK is the description's, so it may be set."""
    adopted = socket.socket(fileno=descriptors[0])
    descriptors.pop(0)
    return adopted

"""sandbox - a worker's confined child: started when first needed, ended when it misbehaves, replaced the next time.

The worker hands it one packed part at a time and turns what comes back into Members. It believes nothing: octets are
charged to the mail's budget as they arrive, names and texts are checked, and a child that crashes, hangs, or says
something odd is killed. So is one whose answer was not heard to its end, and one that has done its share.

Only `server` forks, so the forking comes in from outside: `Start` runs something in a new process and answers its id.

**Failures:** CannotUnpack (U) when the child died of this part; LimitExceeded when the mail's budget or time is used
up; TemporaryFailure when there is no process to be had.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
from collections.abc import Callable, Mapping

from amavispy.inspection import sandbox_child
from amavispy.inspection.budget import Budget, LimitExceeded
from amavispy.inspection.packed import CannotUnpack, Member, Packed, Remark, Unpacked, Way
from amavispy.inspection.sandbox_frames import (
    CANNOT,
    DATA,
    DONE,
    END,
    FOUND,
    LIMIT,
    MEMBER,
    REMARK,
    Errand,
    FrameReader,
    attributes_of,
    member_of,
    plain,
    texts_of,
    types_of,
)
from amavispy.inspection.storage import Growing, kept
from amavispy.mail.reply import Reply, TemporaryFailure

_log = logging.getLogger("amavispy.sandbox")

Start = Callable[[Callable[[], None]], int]

_ERRANDS = 2000  # parts after which a child is replaced: what it may have lost of its memory is bounded
_RECEIVED = 1 << 18
_NO_PROCESS = Reply(451, "4.3.2", "Error: cannot start a decoder")


class Sandbox:
    """One kind of child. `table` is what it can unpack, `confine` what it does to itself first; `pid` 0: none runs."""

    def __init__(
        self, start: Start, table: Mapping[str, Way], confine: Callable[[], None], title: str = "decoder"
    ) -> None:
        self.table = table
        self._start = start
        self._confine = confine
        self._title = title
        self.pid = 0
        self._sock: socket.socket | None = None
        self._errands = 0
        self._is_talking = False
        self._buffer = bytearray(_RECEIVED)

    def unpack(self, kind: str, packed: Packed, budget: Budget) -> Unpacked:
        """What is inside, by this kind of unpacker, as it comes."""
        if self._is_talking or self._errands >= _ERRANDS or self._has_hung_up():
            self.end()
        sock = self._child()
        self._is_talking = True
        self._errands += 1
        self._send(sock, kind, packed, budget)
        yield from _Answer(self, self.table[kind].by, budget).members()

    def heard(self) -> None:
        """The answer has come to its end, so the child can be asked again."""
        self._is_talking = False

    def receive(self, budget: Budget) -> memoryview:
        """Octets from the child, as many as there are; valid until the next call."""
        assert self._sock
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        if not poll.poll(int(budget.seconds_left * 1000) + 1):
            self.end()
            budget.check_time()
            raise budget.too_long()
        try:
            size = self._sock.recv_into(self._buffer)
        except ConnectionError:
            size = 0
        if not size:
            raise CannotUnpack(f"the {self._title} {self.end()}", "U")
        return memoryview(self._buffer)[:size]

    def end(self) -> str:
        """End the child, if there is one; answers how it ended."""
        if self._sock:
            self._sock.close()
        how, pid = "", self.pid
        self.pid, self._sock, self._errands, self._is_talking = 0, None, 0, False
        if pid:
            how = _reap(pid)
            _log.info("%s [%d] %s", self._title, pid, how)
        return how

    def _has_hung_up(self) -> bool:
        """Whether the child died since the last part; that is not the next one's fault."""
        if not self._sock:
            return False
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def _child(self) -> socket.socket:
        """The socket to the child, which is started when there is none."""
        if self._sock:
            return self._sock
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        parent, table = os.getpid(), self.table
        try:
            self.pid = self._start(
                lambda: sandbox_child.main(theirs, parent, table, self._confine, self._title),
            )
        except OSError as error:
            ours.close()
            raise error if error.errno is None else TemporaryFailure(_NO_PROCESS) from error
        finally:
            theirs.close()
        self._sock = ours
        _log.debug("%s [%d] started", self._title, self.pid)
        return ours

    def _send(self, sock: socket.socket, kind: str, packed: Packed, budget: Budget) -> None:
        size = len(packed.octets)
        errand = Errand(
            kind, packed.names, packed.passwords, size,
            budget.quota, budget.left, budget.limits.files, budget.files_left, budget.seconds_left,
        )  # fmt: skip
        file = _file_of(packed)
        try:
            octets = memoryview(errand.encode())
            sent = socket.send_fds(sock, [octets], [file])
            if sent < len(octets):
                sock.sendall(octets[sent:])
        except ConnectionError as error:
            raise CannotUnpack(f"the {self._title} {self.end()}", "U") from error
        finally:
            os.close(file)


class _Answer:
    """One errand's answer being heard."""

    def __init__(self, sandbox: Sandbox, by: str, budget: Budget) -> None:
        self._sandbox = sandbox
        self._by = by
        self._budget = budget
        self._member: tuple[str, ...] | None = None
        self._attributes = ""
        self._growing: Growing | None = None

    def members(self) -> Unpacked:
        reader = FrameReader()
        while True:
            octets = self._sandbox.receive(self._budget)
            try:
                for kind, body in reader.frames(octets):
                    if kind in (DONE, CANNOT, LIMIT):
                        self._sandbox.heard()
                    if kind == DONE:
                        return
                    yield from self._on_frame(kind, body)
            except ValueError as error:
                self._sandbox.end()
                raise CannotUnpack(f"the decoder's answer makes no sense: {error}", "U") from error

    def _on_frame(self, kind: int, body: bytes) -> Unpacked:
        if kind == MEMBER:
            (attributes, *names), octets = member_of(body)
            self._budget.charge(len(octets), self._by)
            yield Member(tuple(names), kept(octets, self._budget), attributes_of(attributes))
        elif kind == DATA:
            self._data(body)
        elif kind == FOUND:
            attributes, *names = texts_of(body) or [""]
            self._member, self._attributes, self._growing = tuple(names), attributes_of(attributes), None
        elif kind == END:
            yield self._finished(body.decode("ascii", "replace"))
        elif kind == REMARK:
            attributes, text, *types = (*texts_of(body), "", "")
            yield Remark(attributes_of(attributes), types_of(types), plain(text))
        elif kind == CANNOT:
            attributes, text = (*texts_of(body), "", "")[:2]
            raise CannotUnpack(plain(text), attributes_of(attributes))
        elif kind == LIMIT:
            if self._member is not None:
                yield Member(self._member)
            raise LimitExceeded(plain(body.decode("ascii", "replace")))
        else:
            raise ValueError(f"frame of kind {kind}")

    def _data(self, body: bytes) -> None:
        if self._member is None:
            raise ValueError("octets of nothing")
        self._budget.charge(len(body), self._by)
        if self._growing is None:
            self._growing = Growing(self._budget)
        self._growing.add(body)

    def _finished(self, attributes: str) -> Member:
        """A member whose end says "-" has no octets at all; otherwise it may be empty."""
        if self._member is None:
            raise ValueError("the end of nothing")
        octets: bytes | memoryview | None = self._growing.octets() if self._growing else b""
        if attributes == "-" and self._growing is None:
            octets = None
        member = Member(self._member, octets, self._attributes + attributes_of(attributes))
        self._member = None
        return member


def _file_of(packed: Packed) -> int:
    """A descriptor of the packed octets, for the child to map."""
    file = os.memfd_create("part", os.MFD_CLOEXEC)
    try:
        rest = memoryview(packed.octets)
        while rest:
            rest = rest[os.write(file, rest) :]
    except BaseException:
        os.close(file)
        raise
    return file


def _reap(pid: int) -> str:
    """End a child, if it has not ended by itself, and say how it did."""
    try:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    except ChildProcessError:
        return "is gone"
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGKILL:
        return "was ended"
    return f"died of signal {-code}" if code < 0 else f"ended with status {code}"

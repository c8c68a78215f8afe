"""The confined child: what it may not do, what becomes of one that misbehaves, and that the worker goes on."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from amavispy.deadline import Deadline
from amavispy.inspection import sandbox_frames as frames
from amavispy.inspection.budget import Budget, LimitExceeded, Limits
from amavispy.inspection.confinement import Grants, for_decoding, for_tools
from amavispy.inspection.packed import CannotUnpack, Found, Member, Packed, Remark, Unpacked, Way
from amavispy.inspection.sandbox import Sandbox
from tests.inspection.children import start

GRANTS = Grants.of_this_system()
CONFINED = partial(for_decoding, GRANTS)


def told(act: Callable[[], object]) -> Way:
    """A way of unpacking that tells how an act in the child ends: its result, or its error."""

    def unpack(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
        try:
            text = repr(act())
        except (OSError, MemoryError) as error:
            text = f"{type(error).__name__} {getattr(error, 'errno', '')}".strip()
        yield Found((text,))

    return Way("do_test", unpack)


def repeated(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    """Gives what it gets, and says how much there was."""
    yield Remark(text=f"{len(packed.octets)}")
    yield Found(packed.names, (bytes(packed.octets),))


@pytest.fixture
def sandboxes() -> Iterator[Callable[..., Sandbox]]:
    made: list[Sandbox] = []

    def make(*, confine: Callable[[], None] = CONFINED, **table: Way) -> Sandbox:
        made.append(Sandbox(start, {"repeat": Way("do_test", repeated), **table}, confine))
        return made[-1]

    yield make
    for sandbox in made:
        sandbox.end()


def ask(sandbox: Sandbox, kind: str = "repeat", octets: bytes = b"octets", **limits: float) -> list[Member | Remark]:
    bounds = Limits(**{"min_expansion_quota": 1 << 30, **limits})  # type: ignore[arg-type]
    return list(sandbox.unpack(kind, Packed(octets, ("a name",)), Budget(bounds, 0)))


def answer(sandbox: Sandbox, kind: str) -> str:
    (member,) = ask(sandbox, kind)
    assert isinstance(member, Member)
    return member.names[0]


def test_the_child_gets_the_octets_and_gives_members(sandboxes):
    assert ask(sandboxes()) == [Remark(text="6"), Member(("a name",), b"octets")]


def test_one_child_serves_part_after_part(sandboxes):
    sandbox = sandboxes()
    ask(sandbox)
    first = sandbox.pid
    ask(sandbox)
    assert sandbox.pid == first


def test_no_child_is_started_before_it_is_needed(sandboxes):
    assert sandboxes().pid == 0


DENIED: dict[str, Callable[[], object]] = {
    "open a file": lambda: os.open("/etc/passwd", os.O_RDONLY),
    "make a file": lambda: os.open("/tmp/made-by-the-child", os.O_CREAT | os.O_WRONLY),
    "list a directory": lambda: os.listdir("/"),
    "make a socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "make a Unix socket": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_STREAM),
    "fork": os.fork,
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "signal its parent": lambda: os.kill(os.getppid(), 0),
    "become somebody else": lambda: os.setuid(1),
    "look at its parent": lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
    "make memory that is executable": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_EXEC),
}


@pytest.mark.parametrize("act", DENIED)
def test_the_decoder_may_not(act: str, sandboxes):
    assert answer(sandboxes(act=told(DENIED[act])), "act") == "PermissionError 1"


LANDLOCK_ONLY = Grants(GRANTS.landlock, False, True)
HIDDEN = ("open a file", "make a file", "list a directory", "look at its parent")


@pytest.mark.parametrize("act", HIDDEN)
def test_landlock_alone_hides_all_files(act: str, sandboxes):
    sandbox = sandboxes(act=told(DENIED[act]), confine=partial(for_decoding, LANDLOCK_ONLY))
    assert answer(sandbox, "act") == "PermissionError 13"


def test_limits_hold_where_the_kernel_grants_nothing_else(sandboxes):
    nothing = partial(for_decoding, Grants(0, False, False))
    sandbox = sandboxes(confine=nothing, act=told(lambda: bytearray(1 << 30)), write=told(_write_a_file))
    assert answer(sandbox, "act") == "MemoryError"
    assert answer(sandbox, "write") == "OSError 27"  # EFBIG


def _write_a_file() -> object:
    with open("/tmp", "rb", opener=lambda path, _: os.open(path, os.O_TMPFILE | os.O_WRONLY)) as file:
        return os.write(file.fileno(), b"x")


def test_tools_may_only_execute_what_is_listed_and_have_no_network(sandboxes):
    confine = partial(for_tools, GRANTS, ["/bin/true"], ["/usr/lib", "/lib", "/lib64"])
    sandbox = sandboxes(
        confine=confine,
        other=told(lambda: subprocess.call(["/bin/ls"])),
        connect=told(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM)),
        secret=told(lambda: os.open("/etc/shadow", os.O_RDONLY)),
        write=told(lambda: os.open("/tmp/made-by-a-tool", os.O_CREAT | os.O_WRONLY)),
    )
    assert answer(sandbox, "other") == "PermissionError 13"
    assert answer(sandbox, "connect") == "PermissionError 1"
    assert answer(sandbox, "secret") == "PermissionError 13"
    assert answer(sandbox, "write") == "PermissionError 13"


def test_the_child_keeps_nothing_of_the_workers_open(sandboxes):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        opened = told(lambda: sorted(n for n in range(64) if _is_open(n)))
        assert answer(sandboxes(act=opened), "act") == "[0, 1, 2, 3, 4, 5]"  # the socket, this part and its mapping


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def test_the_child_forgets_the_workers_signal_handlers(sandboxes):
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert answer(sandboxes(act=told(lambda: signal.getsignal(signal.SIGTERM))), "act") == repr(signal.SIG_DFL)
    finally:
        signal.signal(signal.SIGTERM, before)


def _crash() -> None:
    ctypes.string_at(0)


def test_a_crash_costs_the_part_only(sandboxes):
    sandbox = sandboxes(crash=told(_crash))
    with pytest.raises(CannotUnpack, match="died of signal 11") as caught:
        ask(sandbox, "crash")
    assert caught.value.attributes == "U"
    assert ask(sandbox)[1] == Member(("a name",), b"octets")


def test_a_child_that_died_in_its_sleep_is_replaced_unnoticed(sandboxes):
    sandbox = sandboxes()
    ask(sandbox)
    os.kill(sandbox.pid, signal.SIGKILL)
    os.waitid(os.P_PID, sandbox.pid, os.WEXITED | os.WNOWAIT)
    assert ask(sandbox)[1] == Member(("a name",), b"octets")


def test_a_hanging_child_is_ended_when_the_time_is_over(sandboxes):
    sandbox = sandboxes(hang=told(lambda: select.select([], [], [], 60)))
    began = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"Maximum decoding time \(0.2 s\) exceeded"):
        ask(sandbox, "hang", seconds=0.2)
    assert time.monotonic() - began < 5
    assert sandbox.pid == 0
    assert ask(sandbox)


def test_the_messages_own_time_is_not_the_mails_fault(sandboxes):
    sandbox = sandboxes(hang=told(lambda: select.select([], [], [], 60)))
    budget = Budget(Limits(), 0, Deadline.after(0.2))
    with pytest.raises(TimeoutError):
        list(sandbox.unpack("hang", Packed(b"x"), budget))
    assert ask(sandbox)


def test_an_answer_that_was_not_heard_to_its_end_is_not_the_next_ones(sandboxes):
    sandbox = sandboxes()
    next(iter(sandbox.unpack("repeat", Packed(b"first" * 100_000), Budget(Limits(), 1 << 20))))
    assert ask(sandbox, octets=b"second")[1] == Member(("a name",), b"second")


def _many(packed: Packed, budget: Budget) -> Iterator[Found | Remark]:
    for _ in range(10_000):
        yield Found(("member",), (b"x" * 1000,))


def test_the_child_stops_by_itself_when_the_budget_is_used_up(sandboxes):
    sandbox = sandboxes(many=Way("do_many", _many))
    with pytest.raises(LimitExceeded, match="Exceeded storage quota 5000 bytes by do_many; last chunk 1000 bytes"):
        ask(sandbox, "many", min_expansion_quota=5000)
    assert sandbox.pid  # and can be asked again
    assert ask(sandbox)


def test_memory_of_the_child_is_limited(sandboxes):
    assert answer(sandboxes(act=told(lambda: bytearray(400 << 20))), "act") == "MemoryError"


def test_the_child_dies_with_its_worker():
    code = (
        "import os, time\n"
        "from tests.inspection.test_sandbox import *\n"
        "s = Sandbox(start, {'repeat': Way('do_test', repeated)}, partial(for_decoding, GRANTS))\n"
        "ask(s); print(s.pid, flush=True); time.sleep(60)"
    )
    root = Path(__file__).parent.parent.parent
    worker = subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True)
    assert worker.stdout
    with worker.stdout:
        child = os.pidfd_open(int(worker.stdout.readline()))
        worker.kill()
        worker.wait()
    try:
        assert select.select([child], [], [], 10)[0]
    finally:
        os.close(child)


def test_a_worker_that_cannot_fork_asks_for_the_mail_again():
    def fails(run: object) -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    from amavispy.mail.reply import TemporaryFailure

    with pytest.raises(TemporaryFailure) as caught:
        ask(Sandbox(fails, {"repeat": Way("do_test", repeated)}, lambda: None))
    assert caught.value.reply.code == 451


# What a child says is not believed.


def lying(octets: bytes) -> Unpacked:
    """The members that a worker makes of a child's octets."""

    def serve(run: object) -> int:
        return 0

    sandbox = Sandbox(serve, {"lie": Way("do_test", repeated)}, lambda: None)
    ours, theirs = socket.socketpair()
    sandbox._sock = ours
    thread = threading.Thread(target=_say, args=(theirs, octets))
    thread.start()
    try:
        return iter(
            list(
                sandbox.unpack(
                    "lie", Packed(b"x"), Budget(Limits(max_expansion_quota=1 << 20, min_expansion_factor=0), 1 << 20)
                )
            )
        )
    finally:
        sandbox.end()
        thread.join()


def _say(sock: socket.socket, octets: bytes) -> None:
    with sock:
        _, descriptors, _, _ = socket.recv_fds(sock, 65536, 1)
        for descriptor in descriptors:
            os.close(descriptor)
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(octets)


def member(attributes: str, *names: str) -> bytes:
    return frames.frame(frames.FOUND, frames.pack_texts((attributes, *names)))


def test_attributes_and_types_that_a_child_made_up_are_dropped():
    remark = frames.frame(frames.REMARK, frames.pack_texts(("XCU!", "te\nxt\0", "exe", "doc-macro")))
    found = list(lying(remark + member("QDZ", "a") + frames.frame(frames.END, b"-") + frames.frame(frames.DONE)))
    assert found == [Remark("CU", ("doc-macro",), "te?xt?"), Member(("a",), None, "D")]


def test_the_text_of_a_limit_is_made_printable():
    with pytest.raises(LimitExceeded) as caught:
        lying(frames.frame(frames.LIMIT, b"a\r\nX-Evil: \xff" + b"b" * 1000))
    assert str(caught.value).startswith("a??X-Evil: ?bbb")
    assert len(str(caught.value)) == 200


@pytest.mark.parametrize(
    "octets",
    [
        frames.frame(ord("?")),
        frames.frame(frames.DATA, b"x"),
        frames.frame(frames.END, b""),
        frames.FRAME.pack(frames.FOUND, 1 << 30),
        frames.frame(frames.FOUND, b"\xff\xff\xff\xff"[:3]),
        member("", *(["n"] * 40)),
    ],
    ids=["unknown kind", "octets of nothing", "end of nothing", "huge frame", "broken texts", "too many names"],
)
def test_an_answer_that_makes_no_sense_ends_the_child(octets: bytes):
    with pytest.raises(CannotUnpack, match="makes no sense") as caught:
        lying(octets)
    assert caught.value.attributes == "U"


def test_octets_are_charged_to_the_mail_whatever_the_child_says():
    flood = member("", "a") + frames.frame(frames.DATA, bytes(1 << 20)) * 9
    with pytest.raises(LimitExceeded, match="by do_test"):
        lying(flood)


def test_frames_may_come_octet_by_octet():
    octets = member("", "a", "b") + frames.frame(frames.DATA, b"content") + frames.frame(frames.END) + frames.frame(46)
    reader, seen = frames.FrameReader(), []
    for octet in octets:
        seen += reader.frames(memoryview(bytes((octet,))))
    data = b"".join(body for kind, body in seen if kind == frames.DATA)
    assert [kind for kind, _ in seen if kind != frames.DATA] == list(b"FE.")
    assert data == b"content"


def test_the_grants_say_what_is_missing():
    assert str(Grants(7, True, True)) == "rlimits, no_new_privs, Landlock ABI 7, seccomp"
    assert str(Grants(0, False, True)) == "rlimits, no_new_privs; not granted: Landlock, seccomp"
    assert not Grants(0, True, True).is_complete


def test_this_system_grants_everything_to_the_tests():
    assert GRANTS.is_complete


def test_the_child_works_as_a_user_without_any_privilege():
    """The project's own directory need not be readable for that user: everything is loaded before."""

    def drop_and_ask() -> None:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        sandbox = Sandbox(start, {"repeat": Way("do_test", repeated)}, partial(for_decoding, GRANTS))
        assert ask(sandbox)[1] == Member(("a name",), b"octets")
        os._exit(42)

    pid = start(drop_and_ask)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 0  # the limits are the child's alone

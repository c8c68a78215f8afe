"""scanners - how long a mail takes while its scanners work, and what YARA rules cost.

    python -m bench.scanners [MESSAGES]

A whole daemon, with a clamd and a spamd (and a third, a fourth) that each take 200 ms for every mail, and a next hop
that takes nothing: wall clock from MAIL to the answer of the final dot, for one client after the other. Then what
scanning itself costs this process: microseconds of CPU for texts of several sizes, by the rules that come along.
"""

from __future__ import annotations

import socket
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import yara_x

from amavispy.inspection.yara import compiled
from tests.inspection.fake_daemons import ClamdTalk, FakeDaemon, spamd_response
from tests.inspection.fake_virus_scanners import SsspTalk
from tests.integration.small import small_config
from tests.integration.talk import Talk
from tests.running import RunningDaemon
from tests.sink import Sink

TAKES = 0.2
LINE = b"The quick brown fox jumps over the lazy dog, see https://example.org/ for more of it.\r\n"


def slow_clamd(_: bytes) -> str:
    time.sleep(TAKES)
    return "OK"


def slow_spamd(connection: socket.socket) -> None:
    connection.recv(65_536)
    time.sleep(TAKES)
    connection.sendall(spamd_response(0.0))


class SlowSssp(SsspTalk):
    def __call__(self, connection: socket.socket) -> None:
        time.sleep(TAKES)
        super().__call__(connection)


@contextmanager
def daemon(scanners: int) -> Iterator[int]:
    """The port of a daemon with so many scanners."""
    with ExitStack() as stack:
        one, two, *more = (
            stack.enter_context(FakeDaemon(behaviour))
            for behaviour in (ClamdTalk(slow_clamd), slow_spamd, ClamdTalk(slow_clamd), SlowSssp())[:scanners]
        )
        tables = f'[[av_scanners]]\nname = "a"\ntype = "clamd"\naddress = "{one.address}"\n'
        tables += f'[[spam_scanners]]\nname = "b"\ntype = "spamd"\naddress = "{two.address}"\n'
        for number, other in enumerate(more):
            kind = ("clamd", "sssp")[number]
            tables += f'[[av_scanners]]\nname = "c{number}"\ntype = "{kind}"\naddress = "{other.address}"\n'
        sink = stack.enter_context(Sink())
        port, config = small_config(sink.next_hop.port, tables=tables)
        stack.enter_context(RunningDaemon(config))
        yield port


def measure_messages(messages: int) -> None:
    print(f"{messages} mails each, scanners of {1000 * TAKES:.0f} ms; wall clock from MAIL to the answer")
    for scanners in (2, 3, 4):
        with daemon(scanners) as port:
            taken = []
            for _ in range(messages):
                with Talk(port) as talk:
                    talk.greet()
                    start = time.perf_counter()
                    assert talk.deliver().startswith("250 ")
                    taken.append(1000 * (time.perf_counter() - start))
        print(f"  {scanners} scanners: median {statistics.median(taken):.1f} ms, worst {max(taken):.1f} ms")


def measure_rules() -> None:
    for sources in (["builtin"], ["builtin", "heuristics"]):
        start = time.process_time()
        rules = compiled(sources)
        built = 1000 * (time.process_time() - start)
        scanner = yara_x.Scanner(rules)
        figures = []
        for size in (4096, 30_000, 300_000, 10_000_000):
            octets = (LINE * (size // len(LINE) + 1))[:size]
            rounds = max(1, 4_000_000 // size)
            start = time.process_time()
            for _ in range(rounds):
                scanner.scan(octets)
            figures.append(f"{size} octets {1e6 * (time.process_time() - start) / rounds:.0f} us")
        print(f"  {' + '.join(sources)}: compiled in {built:.0f} ms; {', '.join(figures)}")


if __name__ == "__main__":
    measure_messages(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
    print("YARA rules in this process, CPU of one scan")
    measure_rules()

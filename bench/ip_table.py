"""Network tables: what a look-up and what the making costs, for 10 to 100,000 prefixes. Run: python -m bench.ip_table

The addresses are random and everywhere in the table, so the processor's caches help as little as they would in service.
Of several runs the best counts: the others measured the machine's other guests.
"""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

from amavispy.policy.ip_table import IpTable

SIZES = (10, 100, 1_000, 10_000, 100_000)
LOOKUPS = 50_000


def four(chance: random.Random) -> str:
    length = chance.choice((16, 20, 22, 24, 24, 24, 28, 32))
    return f"{IPv4Address(chance.getrandbits(length) << 32 - length)}/{length}"


def six(chance: random.Random) -> str:
    length = chance.choice((32, 40, 48, 48, 56, 64, 64, 128))
    prefix = (0x2001 << 16 | chance.getrandbits(16)) << 96 | chance.getrandbits(96)
    return f"[{IPv6Address(prefix >> 128 - length << 128 - length)}]/{length}"


def random_four(chance: random.Random) -> str:
    return str(IPv4Address(chance.getrandbits(32)))


def random_six(chance: random.Random) -> str:
    return str(IPv6Address((0x2001 << 16 | chance.getrandbits(16)) << 96 | chance.getrandbits(96)))


def seconds_a_lookup(table: IpTable, addresses: Sequence[str], runs: int = 9) -> float:
    find = table.find
    best = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        for address in addresses:
            find(address)
        best = min(best, time.perf_counter() - started)
    return best / len(addresses)


def seconds_to_make(texts: Sequence[str], runs: int = 3) -> float:
    best = float("inf")
    for _ in range(runs):
        started = time.perf_counter()
        IpTable.of(texts)
        best = min(best, time.perf_counter() - started)
    return best


def octets_kept(texts: Sequence[str]) -> int:
    tracemalloc.start()
    table = IpTable.of(texts)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del table
    return kept


def measure(kind: str, entry: Callable[[random.Random], str], address: Callable[[random.Random], str]) -> None:
    chance = random.Random(4711)
    addresses = [address(chance) for _ in range(LOOKUPS)]
    for size in SIZES:
        texts = [("!" if chance.random() < 0.1 else "") + entry(chance) for _ in range(size)]
        lookup = seconds_a_lookup(IpTable.of(texts), addresses) * 1e6
        print(
            f"{kind} {size:>7,} prefixes: look-up {lookup:5.2f} us, made in {seconds_to_make(texts) * 1e3:7.1f} ms,",
            end="",
        )
        print(f" {octets_kept(texts) / 1024:8.0f} KiB beside the texts")


if __name__ == "__main__":
    measure("IPv4", four, random_four)
    measure("IPv6", six, random_six)

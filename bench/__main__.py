"""bench - what a message costs, beside a real amavisd in the same run.

    python -m bench [S0 S1 S2] [--mail 4KB 30KB 300KB 1MBzip 10MB] [--short] [--json FILE]

S0 is pass-through, S1 MIME, types, banned and header checks, S2 the same with clamd. The peers run in turn, A B A B,
each in a private directory on free ports, into the same sink; CPU is that of the filter's whole process tree. Absolute
figures drift by half on a shared machine: compare within a run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
from dataclasses import replace
from pathlib import Path

from bench import corpus
from bench.load import Load, Sample, run_load
from bench.peers import PEERS, SCENARIOS, Clamd, Sink


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument("scenarios", nargs="*", choices=[*SCENARIOS, []], help="default: all")
    parser.add_argument("--mail", nargs="+", choices=corpus.NAMES, default=["4KB"], help="mails of the corpus [4KB]")
    parser.add_argument("--short", action="store_true", help="fewer messages and rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    loads = [Load(200, 2, mail=mail) if arguments.short else Load(1000, 3, mail=mail) for mail in arguments.mail]
    results = {
        name if len(loads) == 1 else f"{name} {load.mail}": measure(name, load)
        for name in arguments.scenarios or SCENARIOS
        for load in loads
    }
    report(results, loads[0])
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "scenarios": results}, indent=2) + "\n")
    return 0


def machine() -> dict[str, str | int]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    return {"cpu": cpu, "cores": os.cpu_count() or 0, "kernel": platform.release(), "python": platform.python_version()}


def measure(scenario: str, load: Load) -> dict[str, dict[str, float]]:
    """Median, least and most CPU a message (ms) and messages a second, for each peer."""
    samples: dict[str, list[Sample]] = {name: [] for name in PEERS}
    with Sink() as sink, Clamd(needed=scenario == "S2") as clamd:
        for _ in range(load.rounds):
            for name, peer in PEERS.items():
                with peer(scenario, sink, clamd) as running:
                    run_load(running, replace(load, messages=load.messages // 10))  # workers forked, connections open
                    samples[name].append(run_load(running, load))
                    print(f"  {scenario} {load.mail} {name:9} {samples[name][-1]}", file=sys.stderr, flush=True)
    figures: dict[str, dict[str, float]] = {"cpu_ms": {}, "cpu_ms_min": {}, "cpu_ms_max": {}, "msg_s": {}}
    for name, taken in samples.items():
        cpu = [sample.cpu_ms for sample in taken]
        figures["cpu_ms"][name] = round(statistics.median(cpu), 3)
        figures["cpu_ms_min"][name], figures["cpu_ms_max"][name] = round(min(cpu), 3), round(max(cpu), 3)
        figures["msg_s"][name] = round(statistics.median(sample.rate for sample in taken), 1)
    return figures


def report(results: dict[str, dict[str, dict[str, float]]], load: Load) -> None:
    print(f"{load.messages} small or fewer large mails, {load.sessions} sessions, median of {load.rounds} rounds\n")
    print(f"{'scenario':12}{'peer':12}{'CPU ms/msg':>12}{'(min..max)':>18}{'msg/s':>10}{'CPU ratio':>11}")
    for scenario, figures in results.items():
        for name, cpu in figures["cpu_ms"].items():
            spread = f"({figures['cpu_ms_min'][name]:.2f}..{figures['cpu_ms_max'][name]:.2f})"
            ratio = figures["cpu_ms"]["amavisd"] / cpu if cpu else 0
            print(f"{scenario:12}{name:12}{cpu:12.2f}{spread:>18}{figures['msg_s'][name]:10.1f}{ratio:10.1f}x")


if __name__ == "__main__":
    sys.exit(main())

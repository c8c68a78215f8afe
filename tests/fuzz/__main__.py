"""python -m tests.fuzz TARGET... [--minutes N]: fuzz with atheris (from PyPI), each target in its own process.

What breaks a target is written to tests/fuzz/found/TARGET/; keep it there, the tests run it for ever after.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.seeds import FOUND, seeds
from tests.fuzz.targets import TARGETS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"any of {', '.join(TARGETS)}; default: all")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each target [10]")
    arguments = parser.parse_args()
    unknown = set(arguments.targets) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(unknown)}")
    failed = [name for name in arguments.targets or TARGETS if not fuzz(name, arguments.minutes)]
    print(f"broken: {', '.join(failed)}" if failed else "nothing broke")
    return 1 if failed else 0


def fuzz(name: str, minutes: float) -> bool:
    """Run one target for its time; true when nothing broke."""
    found = FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"amavispy-fuzz-{name}-") as directory:
        for number, seed in enumerate(seeds(name)):
            Path(directory, f"seed-{number}").write_bytes(seed)
        command = [sys.executable, "-m", "tests.fuzz.one", name, f"-max_total_time={int(minutes * 60)}"]
        command += ["-max_len=65536", "-timeout=20", "-rss_limit_mb=2048", f"-artifact_prefix={found}/", directory]
        done = subprocess.run([*command, "-print_final_stats=1"], capture_output=True, text=True)
    facts = [line for line in done.stderr.splitlines() if line.startswith(("stat::number_of", "Done "))]
    print(f"{name}: {'ok' if done.returncode == 0 else 'BROKEN'} {' '.join(facts)}", flush=True)
    if done.returncode:
        print(done.stderr[-3000:], flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())

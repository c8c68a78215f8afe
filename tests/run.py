"""run - what `make test` runs: linters, types, the import contract, every test; the last line counts what passed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
PYTHON_FILES = ["amavispy", "tests", "bench", "setup.py"]
CHECKS = {
    "ruff": [BIN / "ruff", "check", *PYTHON_FILES],
    "ruff format": [BIN / "ruff", "format", "--check", "--quiet", *PYTHON_FILES],
    "mypy --strict": [BIN / "mypy", "--strict", "amavispy"],
    "import contract": [BIN / "lint-imports"],
}
PYTEST = [BIN / "python", "-m", "pytest"]


def lint() -> bool:
    """Every check runs, so that one run shows all there is to mend."""
    results = {}
    for name, command in CHECKS.items():
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        results[name] = done.returncode == 0
        print(f"{'ok  ' if results[name] else 'FAIL'} {name}", flush=True)
        if not results[name]:
            print(done.stdout + done.stderr, flush=True)
    return all(results.values())


def run_pytest(*arguments: str) -> tuple[int, int, bool]:
    """Passed, failed, and whether the run counts as good: nothing failed, nothing skipped, something ran."""
    process = subprocess.Popen([*PYTEST, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    counts: dict[str, int] = {}
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.search(r"\bin [\d.]+s", line):
            counts = {
                word.rstrip("s"): int(n) for n, word in re.findall(r"(\d+) (passed|failed|errors?|skipped)", line)
            }
    status = process.wait()
    failed = counts.get("failed", 0) + counts.get("error", 0) + counts.get("skipped", 0)
    return counts.get("passed", 0), failed, status == 0 and not failed and counts.get("passed", 0) > 0


def main() -> int:
    clean = lint()
    if "--lint-only" in sys.argv:
        return 0 if clean else 1
    quick = run_pytest("-n", "2", "--ignore", "tests/integration")
    real = run_pytest("tests/integration")
    failed = quick[1] + real[1] + (0 if clean else 1)
    print(f"{quick[0] + real[0]} passed, {failed} failed")
    return 0 if clean and quick[2] and real[2] else 1


if __name__ == "__main__":
    sys.exit(main())

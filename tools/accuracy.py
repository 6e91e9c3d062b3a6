# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Measure which share of user stacks is complete: `accuracy.py [-F HZ] [-s SECONDS] [WORDS…]`.

Every workload of integration/programs.py whose name contains one of the words
is recorded by `otelagent record`, and the last line that it prints becomes a
row of a Markdown table (docs/accuracy.md). Truncated, guessed and lost samples
count as failures; the fourth column shows what it would be with the guessed
ones. Exit status 1 if one is below its line. Needs root.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from integration.programs import workloads  # noqa: E402 (beside the tests, not installed)

LINE = 99.0
SHORT_LINE = 95.0
COMPLETE = re.compile(r"([0-9.]+) % of ([0-9]+) user stacks are complete")


def measure(command: list[str], frequency_hz: int) -> tuple[float, int, str]:
    """Record a command: percentage of complete user stacks, their number, what else was said."""
    with tempfile.TemporaryDirectory() as where:
        target = Path(where) / "out.collapsed"
        record = [str(ROOT / ".venv" / "bin" / "otelagent"), "record", "-F", str(frequency_hz)]
        done = subprocess.run(
            [*record, "-f", "collapsed", "-o", str(target), "--", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    last = done.stderr.strip().splitlines()[-1] if done.stderr.strip() else ""
    found = COMPLETE.search(last)
    if not found:
        raise RuntimeError(f"{command}: no last line, status {done.returncode}: {done.stderr}")
    rest = last[found.end() :].strip(", ").replace("|", "/")
    return float(found[1]), int(found[2]), rest


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-F", "--frequency", type=int, default=499)
    parser.add_argument("-s", "--seconds", type=float, default=3)
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    print("| workload | user stacks | complete | or guessed | what else |")
    print("| --- | ---: | ---: | ---: | --- |")
    below = 0
    for workload in workloads():
        if given.words and not any(word in workload.name for word in given.words):
            continue
        if workload.missing:
            print(f"| {workload.name} | | | | needs {workload.missing} |", flush=True)
            continue
        share, count, rest = measure(workload.command(given.seconds), given.frequency)
        line = SHORT_LINE if workload.name == "short processes" else LINE
        below += share < line
        mark = " (below)" if share < line else ""
        guessed = re.search("([0-9]+) guessed", rest)
        walked = share + 100 * int(guessed[1]) / max(count, 1) if guessed else share
        figures = f"{count} | {share:.1f} %{mark} | {walked:.1f} %"
        print(f"| {workload.name} | {figures} | {rest} |", flush=True)
    return 1 if below else 0


if __name__ == "__main__":
    sys.exit(main())

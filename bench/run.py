# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Measure everything, print a table, write build/bench.json: `make bench`.

    run.py [PART…]      parts: rows, bpf, own, slowdown, start; all if none is named;
                        only a run of all writes the file

OTELAGENT_BENCH_BASE=DIR names another built tree (the previous commit's): the same
measurements are made with it, too, and each figure is printed with its ratio.
What is not there (a file, a profiler) is named and left out. See docs/benchmarks.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import kernel_cost
import own_cost
import rows
import slowdown
import start

if TYPE_CHECKING:
    from collections.abc import Callable

TARGET = Path(__file__).resolve().parents[1] / "build" / "bench.json"
PARTS: dict[str, Callable[[], dict[str, float]]] = {
    "rows": rows.measure_all,
    "start": start.measure,
    "own": own_cost.measure,
    "bpf": kernel_cost.measure,
    "slowdown": slowdown.measure,
}


def measure(parts: list[str]) -> dict[str, float]:
    """Run the parts; what fails is told and left out."""
    figures: dict[str, float] = {}
    for part in parts:
        began = time.monotonic()
        try:
            figures |= PARTS[part]()
        except Exception as err:  # noqa: BLE001 (the other figures are still worth having)
            print(f"left out: {part} ({type(err).__name__}: {err})", file=sys.stderr)
        print(f"{part}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return figures | slowdown.by_sums(figures)


def measure_base(base: str, parts: list[str]) -> dict[str, float]:
    """Make the same measurements with another tree's agent."""
    env = {key: value for key, value in os.environ.items() if key != "OTELAGENT_BENCH_BASE"}
    python = str(Path(base) / ".venv" / "bin" / "python")
    command = [python, __file__, "--json", *parts]
    told = subprocess.run(command, stdout=subprocess.PIPE, env=env, check=True).stdout
    figures: dict[str, float] = json.loads(told.splitlines()[-1])
    return figures


def print_table(figures: dict[str, float], base: dict[str, float]) -> None:
    """Print a figure a line, with the base's and the ratio if there is one."""
    width = max(map(len, figures), default=0)
    for name, value in figures.items():
        line = f"{name:{width}} {value:12g}"
        if base.get(name):
            line += f" {base[name]:12g} {value / base[name]:8.2f}"
        print(line)


def main(arguments: list[str]) -> int:
    """Measure what is asked for."""
    # What is installed has its modules compiled: without this each start compiles them all anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    if os.geteuid() != 0:
        sys.exit("make bench needs root, as it loads BPF programs into the kernel: sudo make bench")
    parts = [argument for argument in arguments if argument != "--json"] or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    figures = measure(parts)
    if "--json" in arguments:
        print(json.dumps(figures))
        return 0
    base_tree = os.environ.get("OTELAGENT_BENCH_BASE")
    print_table(figures, measure_base(base_tree, parts) if base_tree else {})
    if set(parts) != set(PARTS):
        return 0  # the file holds whole runs only
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

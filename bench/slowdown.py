# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How much slower a program gets: by sums, and by pairs of runs.

By sums: what BPF took of a busy thread's CPU (records of the side-band not included:
a steady program causes none; `sideband.us_per_record` is the price of each). By pairs: a
program with fixed work runs with and without the profiler, in changing order,
and tells its own CPU and wall time; the mean of the logarithms of the ratios
gives the slow-down, Student's t its 95 % interval. On a busy machine the
interval of the wall time is wide: the CPU time is the better figure.
"""

from __future__ import annotations

import math
import statistics
import subprocess

import workload
from workload import FREQUENCY_HZ, OTELAGENT

PAIRS = 20
MILLIONS = "200"
_T_95 = 2.093
"""Student's t for 19 degrees of freedom, 97.5 % on one side."""


def run_alone(program: str) -> tuple[float, float]:
    """Run the program: its CPU and wall time in seconds."""
    told = subprocess.run([program, "20", MILLIONS], stdout=subprocess.PIPE, check=True).stdout
    cpu, wall = told.split()
    return float(cpu), float(wall)


def run_profiled(program: str) -> tuple[float, float]:
    """Run it under `record`."""
    output = str(workload.BUILD / "slow.collapsed")
    record = [str(OTELAGENT), "record", "-q", "-F", str(FREQUENCY_HZ), "--force", "-o", output]
    command = [*record, "--", program, "20", MILLIONS]
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    cpu, wall = told.split()
    return float(cpu), float(wall)


def interval(ratios: list[float]) -> tuple[float, float, float]:
    """Give the geometric mean of ratios and its 95 % interval, as percent of slow-down."""
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    half = _T_95 * statistics.stdev(logs) / math.sqrt(len(logs))
    low, middle, high = (100 * (math.exp(x) - 1) for x in (mean - half, mean, mean + half))
    return low, middle, high


def measure() -> dict[str, float]:
    """Run the pairs."""
    program = workload.build_depth()
    cpu: list[float] = []
    wall: list[float] = []
    run_alone(program)
    run_profiled(program)
    for pair in range(PAIRS):
        # Twice each, there and back again: what changes slowly hits both alike.
        first, second = (run_alone, run_profiled) if pair % 2 else (run_profiled, run_alone)
        one, two, three, four = (run(program) for run in (first, second, second, first))
        outer = [a + b for a, b in zip(one, four, strict=True)]
        inner = [a + b for a, b in zip(two, three, strict=True)]
        alone, profiled = (outer, inner) if pair % 2 else (inner, outer)
        cpu.append(profiled[0] / alone[0])
        wall.append(profiled[1] / alone[1])
    figures = {}
    for name, ratios in (("cpu", cpu), ("wall", wall)):
        low, middle, high = interval(ratios)
        figures[f"slowdown.{name}_percent"] = round(middle, 2)
        figures[f"slowdown.{name}_percent_low"] = round(low, 2)
        figures[f"slowdown.{name}_percent_high"] = round(high, 2)
    return figures


def by_sums(figures: dict[str, float]) -> dict[str, float]:
    """Give the share of the workload's CPU that BPF took, from what was measured before."""
    return {
        f"slowdown.bpf_{name}_percent": figures[f"bpf.{name}.percent_of_cpu"]
        for name in ("native20", "python20")
        if f"bpf.{name}.percent_of_cpu" in figures
    }

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How soon: the first sample, the first whole stack, `--help`; and CPU of a start.

`start.py --first PID NS` is the child that is timed: NS is CLOCK_MONOTONIC when
it was made, so the interpreter's own start is included.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

import workload
from workload import FREQUENCY_HZ, OTELAGENT

RUNS = 5
HELP_RUNS = 10
PATIENCE_S = 20
SLEEPERS = 100


def print_first(pids: tuple[int, ...], born_ns: int) -> None:
    """Sample processes (none: the whole system) until a stack is whole; print the times."""
    from otelagent.options import Options
    from otelagent.profiler import Profiler

    imported_ns = time.monotonic_ns()
    rate = FREQUENCY_HZ if pids else 20
    profiler = Profiler(Options(frequency_hz=rate, pids=pids, everything=not pids))
    profiler.start()
    deadline = time.monotonic() + PATIENCE_S
    while not profiler.collector.tally_now().complete and time.monotonic() < deadline:
        time.sleep(0.002)
        if hasattr(profiler, "flush"):  # an older tree has not
            profiler.flush()
    first_ns = time.monotonic_ns()
    cpu_s = time.process_time()
    profiler.stop()
    profiler.close()
    times = {
        "import_s": imported_ns - born_ns,
        "sampling_s": profiler.started_ns - born_ns,
        "first_trace_s": first_ns - born_ns,
    }
    figures = {name: ns / 1e9 for name, ns in times.items()}
    print(json.dumps({**figures, "cpu_s": cpu_s}))


def time_first(name: str, *pids: int) -> dict[str, float]:
    """Give the medians of some starts."""
    runs = []
    for _ in range(RUNS):
        numbers = [*map(str, pids), str(time.monotonic_ns())]
        command = [sys.executable, __file__, "--first", *numbers]
        runs.append(json.loads(subprocess.run(command, stdout=-1, check=True).stdout))
    return {
        f"start.{name}.{key}": round(statistics.median(run[key] for run in runs), 3)
        for key in runs[0]
    }


def measure_help() -> dict[str, float]:
    """Time `--help`."""
    usages = [workload.use((str(OTELAGENT), "--help")) for _ in range(HELP_RUNS)]
    return {
        "start.help.wall_s": round(min(usage.wall_s for usage in usages), 3),
        "start.help.cpu_s": round(min(usage.cpu_s for usage in usages), 3),
    }


def measure() -> dict[str, float]:
    """Measure for one process, and for the whole system with many."""
    figures = measure_help()
    with workload.running(workload.STEADY) as pid:
        figures |= time_first("target", pid)
        sleepers = [subprocess.Popen(["sleep", "1000"]) for _ in range(SLEEPERS)]
        try:
            figures |= time_first("system")
        finally:
            for sleeper in sleepers:
                sleeper.kill()
                sleeper.wait()
    return figures


if __name__ == "__main__" and sys.argv[1:2] == ["--first"]:
    print_first(tuple(map(int, sys.argv[2:-1])), int(sys.argv[-1]))

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPU that a profiler itself takes: start-up, and per 1,000 samples; and its memory.

Each profiler attaches to the same running workload at the same frequency for a
short and for a long time. Of the others the straight line through both gives start-up
(reading files, names and writing the result included) and slope. CPU is what the kernel
counted for the profiler and the children that it reaped.

What `record` needs to start and to end varies by as much as hundreds of samples cost, which
is more than a slope so made can tell. So it is looked at in its midst, too, by the
scheduler's account: what it took between the end of a short and of a long recording is
what samples cost while they come. Names and the file are the difference of what the ends
took, of which the least count: they are nearly the same work each time.
"""

from __future__ import annotations

import re
import shutil
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import workload
from workload import BUILD, FREQUENCY_HZ, OTELAGENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SHORT_S = 10
"""When a recording has seen what runs, and its threads wait as long as they ever do; its end
reads what any end does: names of the kernel, and of all that the workload calls."""
LONG_S = 40
START_S = 20
OTHERS_S = 3, 9
IDLE_S = 4
RUNS = 3
OTHERS_RUNS = 2


@dataclass(frozen=True, slots=True)
class Recording:
    """What a recording took: seconds of CPU in all, and after it was told to end."""

    cpu_s: float
    end_s: float
    samples: int
    sampling_s: float = 0.0
    sampled: float = 0.0
    """How many samples were due while `sampling_s` was taken."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A profiler: its command line, and how it tells the number of samples."""

    name: str
    command: Callable[[int, int], Sequence[str]]
    samples: re.Pattern[str]
    output: Path


def _otelagent(pid: int, seconds: int) -> Sequence[str]:
    output = str(BUILD / "own.collapsed")
    where = ("-p", str(pid), "-d", str(seconds), "-o", output, "--force")
    return (str(OTELAGENT), "record", "-F", str(FREQUENCY_HZ), *where)


def _perf(pid: int, seconds: int) -> Sequence[str]:
    how = ("-e", "cpu-clock", "--call-graph", "dwarf", "-o", str(BUILD / "own.perf"))
    return ("perf", "record", "-F", str(FREQUENCY_HZ), *how, "-p", str(pid), "sleep", str(seconds))


def _py_spy(pid: int, seconds: int) -> Sequence[str]:
    py_spy = str(OTELAGENT.parent / "py-spy")
    how = ("-f", "raw", "-o", str(BUILD / "own.pyspy"), "-d", str(seconds))
    return (py_spy, "record", "-r", str(FREQUENCY_HZ), "-p", str(pid), *how)


def tools() -> list[Tool]:
    """List the profilers that are there."""
    found = [
        Tool("record", _otelagent, re.compile(r"(\d+) samples"), BUILD / "own.collapsed"),
        Tool("perf", _perf, re.compile(r"\((\d+) samples\)"), BUILD / "own.perf"),
        Tool("py_spy", _py_spy, re.compile(r"Samples: (\d+)"), BUILD / "own.pyspy"),
    ]
    for tool in found[:]:
        if not shutil.which(tool.command(1, 1)[0]):
            print(f"left out: {tool.name} (not installed)", file=sys.stderr)
            found.remove(tool)
    return found


def said_samples(tool: Tool, usage: workload.Usage) -> int:
    """Read how many samples a profiler says it has."""
    said = tool.samples.findall(usage.talk)
    if usage.status or not said:
        raise RuntimeError(f"{tool.name} ended with {usage.status}: {usage.talk.strip()}")
    return int(said[-1])


def run_once(tool: Tool, pid: int, seconds: int) -> tuple[float, int]:
    """Profile a process: CPU seconds that it took, and how many samples it says."""
    usage = workload.use(tool.command(pid, seconds))
    return usage.cpu_s, said_samples(tool, usage)


def measure_other(tool: Tool, pid: int) -> dict[str, float]:
    """Fit another profiler's cost to a line."""
    run_once(tool, pid, 1)  # its caches are warm from now on
    pairs = [[run_once(tool, pid, seconds) for seconds in OTHERS_S] for _ in range(OTHERS_RUNS)]
    slope = statistics.median((b - a) / (many - few) for (a, few), (b, many) in pairs)
    return {
        f"own.{tool.name}.startup_cpu_s": round(
            statistics.median(a - slope * few for (a, few), _ in pairs), 3
        ),
        f"own.{tool.name}.cpu_ms_per_1000_samples": round(slope * 1e6, 1),
        f"own.{tool.name}.output_mb_of_{OTHERS_S[1]}_s": round(tool.output.stat().st_size / 1e6, 3),
    }


def read_memory(pid: int) -> dict[str, float]:
    """Read RSS, its anonymous part and its peak (MB, 10^6 bytes)."""
    told = Path(f"/proc/{pid}/status").read_text()
    kib = {key: int(told.split(f"{key}:")[1].split()[0]) for key in ("VmRSS", "RssAnon", "VmHWM")}
    return {key: round(value * 1024 / 1e6, 1) for key, value in kib.items()}


def read_cpu_ms(pid: int) -> float:
    """CPU of a process's threads until now, by the scheduler."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e6


def idle_ms_per_s(child: int) -> float:
    """Watch a recording in its midst: its start varies by more than what an idle second costs."""
    before = read_cpu_ms(child)
    time.sleep(IDLE_S)
    return (read_cpu_ms(child) - before) / IDLE_S


def wait_for_sampling() -> None:
    """Wait until `record` says that it samples: on a busy machine that takes seconds."""
    until = time.monotonic() + START_S
    while b"sampling " not in (BUILD / "talk").read_bytes() and time.monotonic() < until:
        time.sleep(0.05)


def record_once(tool: Tool, pid: int, seconds: int, memory: dict[str, float]) -> Recording:
    """Record for so long, and look just before it is told to end; and where a short one ends.

    A sample is due for each 1/FREQUENCY_HZ that the workload ran.
    """
    seen: list[tuple[float, float]] = []

    def watch(child: int) -> None:
        wait_for_sampling()
        time.sleep(SHORT_S)
        seen.append((read_cpu_ms(child) / 1e3, read_cpu_ms(pid) / 1e3))
        if seconds > SHORT_S:
            time.sleep(seconds - SHORT_S)
            seen.append((read_cpu_ms(child) / 1e3, read_cpu_ms(pid) / 1e3))
        else:
            memory.update(read_memory(child))

    usage = workload.use(tool.command(pid, 4 * LONG_S), stop_after=0.1, look=watch)
    memory["peak"] = round(usage.peak_kib * 1024 / 1e6, 1)
    (before, ran_before), (after, ran_after) = seen[0], seen[-1]
    return Recording(
        usage.cpu_s,
        usage.cpu_s - after,
        said_samples(tool, usage),
        after - before,
        (ran_after - ran_before) * FREQUENCY_HZ,
    )


def measure_record(tool: Tool, pid: int) -> dict[str, float]:
    """Measure `record`: start-up, and what samples cost while they come and at the end."""
    memory: dict[str, float] = {}
    run_once(tool, pid, 1)
    runs = [[record_once(tool, pid, s, memory) for s in (SHORT_S, LONG_S)] for _ in range(RUNS)]
    shorts, longs = zip(*runs, strict=True)
    sampling = [long.sampling_s / long.sampled for long in longs]
    least, most = (min(runs, key=lambda run: run.end_s) for runs in (shorts, longs))
    naming = (most.end_s - least.end_s) / (most.samples - least.samples)
    slope = statistics.median(sampling) + naming
    due = (LONG_S - SHORT_S) * FREQUENCY_HZ
    return {
        "own.workload_share": round(statistics.median(r.sampled for r in longs) / due, 2),
        "own.record.startup_cpu_s": round(
            statistics.median(short.cpu_s - slope * short.samples for short in shorts), 3
        ),
        "own.record.cpu_ms_per_1000_samples": round(slope * 1e6, 1),
        "own.record.sampling_ms_per_1000_samples": round(statistics.median(sampling) * 1e6, 1),
        "own.record.least_sampling_ms_per_1000_samples": round(min(sampling) * 1e6, 1),
        "own.record.most_sampling_ms_per_1000_samples": round(max(sampling) * 1e6, 1),
        "own.record.naming_ms_per_1000_samples": round(naming * 1e6, 1),
        f"own.record.end_cpu_s_of_{SHORT_S}_s": round(least.end_s, 3),
        f"own.record.end_cpu_s_of_{LONG_S}_s": round(most.end_s, 3),
        f"own.record.cpu_s_of_{LONG_S}_s": round(statistics.median(r.cpu_s for r in longs), 3),
        f"own.record.samples_of_{LONG_S}_s": statistics.median(r.samples for r in longs),
        f"own.record.output_mb_of_{LONG_S}_s": round(tool.output.stat().st_size / 1e6, 3),
        "memory.record.rss_mb": memory["VmRSS"],
        "memory.record.rss_anon_mb": memory["RssAnon"],
        "memory.record.peak_with_children_mb": memory["peak"],
    }


def measure_idle() -> dict[str, float]:
    """CPU per second of a recording in which nothing happens."""
    seen: list[float] = []
    with workload.running(("sleep", "1000")) as pid:
        for _ in range(RUNS):
            command = _otelagent(pid, 60)
            workload.use(command, stop_after=2, look=lambda each: seen.append(idle_ms_per_s(each)))
    return {"own.record.idle_ms_per_s": round(statistics.median(seen), 2)}


def measure() -> dict[str, float]:
    """Measure all profilers that are there."""
    figures: dict[str, float] = {}
    with workload.running(workload.STEADY) as pid:
        for tool in tools():
            try:
                find = measure_record if tool.name == "record" else measure_other
                figures |= find(tool, pid)
            except RuntimeError as err:
                print(f"left out: {err}", file=sys.stderr)
    return figures | measure_idle()

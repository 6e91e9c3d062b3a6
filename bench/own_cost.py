# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPU that a profiler itself takes: start-up, and per 1,000 samples; and its memory.

Each profiler attaches to the same running workload at the same frequency for a
short and for a long time; the straight line through both gives start-up (reading
files, names and writing the result included) and slope: the median of those of
pairs that follow one another. CPU is what the kernel counted for the profiler and
the children that it reaped. What `record` takes while it only samples is seen from
outside, too, in the midst of a recording, since its start varies by as much as
hundreds of samples cost.
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

SHORT_S = 4
LONG_S = 16
IDLE_S = 5
STEADY_S = 10
SETTLED_S = 4
"""When a recording has seen what runs, and its threads wait as long as they ever do."""
RUNS = 3


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


def run_once(tool: Tool, pid: int, seconds: int) -> tuple[workload.Usage, int]:
    """Profile a process: what it took, and how many samples it says."""
    usage = workload.use(tool.command(pid, seconds))
    said = tool.samples.findall(usage.talk)
    if usage.status or not said:
        raise RuntimeError(f"{tool.name} ended with {usage.status}: {usage.talk.strip()}")
    return usage, int(said[-1])


def measure_tool(tool: Tool, pid: int) -> dict[str, float]:
    """Fit a profiler's cost to a line."""
    run_once(tool, pid, 1)  # its caches are warm from now on
    cpu: dict[int, list[float]] = {SHORT_S: [], LONG_S: []}
    samples: dict[int, list[int]] = {SHORT_S: [], LONG_S: []}
    for _ in range(RUNS):
        for seconds in (SHORT_S, LONG_S):
            usage, count = run_once(tool, pid, seconds)
            cpu[seconds].append(usage.cpu_s)
            samples[seconds].append(count)
    slopes = [
        (cpu[LONG_S][at] - cpu[SHORT_S][at]) / (samples[LONG_S][at] - samples[SHORT_S][at])
        for at in range(RUNS)
    ]
    slope = statistics.median(slopes)
    short, long = (statistics.median(cpu[s]) for s in (SHORT_S, LONG_S))
    few, many = (statistics.median(samples[s]) for s in (SHORT_S, LONG_S))
    return {
        f"own.{tool.name}.startup_cpu_s": round(short - slope * few, 3),
        f"own.{tool.name}.cpu_ms_per_1000_samples": round(slope * 1e6, 1),
        f"own.{tool.name}.least_ms_per_1000_samples": round(min(slopes) * 1e6, 1),
        f"own.{tool.name}.most_ms_per_1000_samples": round(max(slopes) * 1e6, 1),
        f"own.{tool.name}.cpu_s_of_{LONG_S}_s": round(long, 3),
        f"own.{tool.name}.samples_of_{LONG_S}_s": many,
        f"own.{tool.name}.output_mb_of_{LONG_S}_s": round(tool.output.stat().st_size / 1e6, 3),
    }


def read_memory(pid: int) -> dict[str, float]:
    """Read RSS, its anonymous part and its peak (MB, 10^6 bytes)."""
    told = Path(f"/proc/{pid}/status").read_text()
    kib = {key: int(told.split(f"{key}:")[1].split()[0]) for key in ("VmRSS", "RssAnon", "VmHWM")}
    return {key: round(value * 1024 / 1e6, 1) for key, value in kib.items()}


def measure_memory(pid: int) -> dict[str, float]:
    """Memory just before the end of a recording, the peak of it all, and the idle cost."""
    seen: dict[str, float] = {}
    command = _otelagent(pid, 60)
    usage = workload.use(command, stop_after=4, look=lambda child: seen.update(read_memory(child)))
    return {
        "memory.record.rss_mb": seen["VmRSS"],
        "memory.record.rss_anon_mb": seen["RssAnon"],
        "memory.record.peak_with_children_mb": round(usage.peak_kib * 1024 / 1e6, 1),
    }


def read_cpu_ms(pid: int) -> float:
    """CPU of a process's threads until now, by the scheduler."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((each / "schedstat").read_text().split()[0]) for each in threads) / 1e6


def idle_ms_per_s(child: int) -> float:
    """Watch a recording in its midst: its start varies by more than what an idle second costs."""
    before = read_cpu_ms(child)
    time.sleep(IDLE_S)
    return (read_cpu_ms(child) - before) / IDLE_S


def watch_sampling(child: int, pid: int) -> tuple[float, float]:
    """Watch a recording in its midst: CPU (ms) per second, and per 1,000 samples.

    A sample is due for each 1/FREQUENCY_HZ that the workload ran.
    """
    before, ran_before = read_cpu_ms(child), read_cpu_ms(pid)
    time.sleep(STEADY_S)
    due = (read_cpu_ms(pid) - ran_before) / 1e3 * FREQUENCY_HZ
    took = read_cpu_ms(child) - before
    return took / STEADY_S, took / due * 1e3


def measure_steady(pid: int) -> dict[str, float]:
    """CPU while a recording only samples: what idle seconds cost is in it."""
    seen: list[tuple[float, float]] = []
    for _ in range(RUNS):
        command = _otelagent(pid, 60)
        workload.use(
            command,
            stop_after=SETTLED_S,
            look=lambda child: seen.append(watch_sampling(child, pid)),
        )
    per_s, per_1000 = (statistics.median(values) for values in zip(*seen, strict=True))
    return {
        "own.record.sampling_ms_per_s": round(per_s, 2),
        "own.record.sampling_ms_per_1000_samples": round(per_1000, 1),
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
                figures |= measure_tool(tool, pid)
            except RuntimeError as err:
                print(f"left out: {err}", file=sys.stderr)
        figures |= measure_memory(pid)
        figures |= measure_steady(pid)
    return figures | measure_idle()

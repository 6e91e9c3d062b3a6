# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a sample costs in the kernel: time and map look-ups of BPF, and of the side-band.

The kernel itself counts the programs' runs and time (`BPF_ENABLE_STATS`, on
while a descriptor is open, so nothing has to be restored). A program runs at
every tick of every CPU: the runs that met no target are measured alone, before
the target is let go, and subtracted. Median of `WINDOWS` windows.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import platform
import re
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import workload

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otelagent.profiler import Profiler

WINDOWS = 5
SECONDS = 1.0
IDLE_SECONDS = 1.0
PAIRS = 25
_BPF_ENABLE_STATS = 32  # enum bpf_cmd, include/uapi/linux/bpf.h
_SYSCALL = {"x86_64": 321, "aarch64": 280}


@dataclass(frozen=True, slots=True)
class Case:
    """One workload and how it is unwound."""

    name: str
    command: Sequence[str]
    max_frames: int = 128
    bounded: bool = False
    frequency_hz: int = workload.FREQUENCY_HZ


@contextmanager
def bpf_stats() -> Iterator[None]:
    """Have the kernel measure BPF programs."""
    libc = ctypes.CDLL(None, use_errno=True)
    attributes = ctypes.create_string_buffer(8)  # { type = BPF_STATS_RUN_TIME (0) }
    fd = libc.syscall(_SYSCALL[platform.machine()], _BPF_ENABLE_STATS, attributes, 8)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "the kernel does not measure BPF programs")
    try:
        yield
    finally:
        os.close(fd)


def read_runs(profiler: Profiler, program: str = "on_cpu_tick") -> tuple[int, int]:
    """Read a program's time (ns) and number of runs."""
    told = Path(f"/proc/self/fdinfo/{profiler.bpf.program(program).fd}").read_text()
    values = dict(re.findall(r"(\w+):\s+(\d+)", told))
    return int(values["run_time_ns"]), int(values["run_cnt"])


def measure_case(case: Case) -> dict[str, float]:
    """Sample a command and give µs and look-ups per sample and per frame."""
    from otelagent.host.command import HeldCommand
    from otelagent.options import Options
    from otelagent.profiler import Profiler

    command = HeldCommand.fork(case.command)
    options = Options(
        frequency_hz=case.frequency_hz,
        held_pid=command.pid,
        max_frames=case.max_frames,
        bounded=case.bounded,
    )
    profiler = Profiler(options)
    profiler.start()
    try:
        idle_ns = _idle_ns(profiler)
        command.release()
        time.sleep(1)  # its files are read, its stacks known
        windows = [w for w in (_window(profiler, idle_ns) for _ in range(WINDOWS)) if w]
    finally:
        command.send(9)
        command.reap(wait=True)
        profiler.stop()
        profiler.close()
    figures = {key: statistics.median(w[key] for w in windows) for key in windows[0]}
    figures["other_us"] = idle_ns / 1e3
    return {f"bpf.{case.name}.{key}": round(value, 3) for key, value in figures.items()}


def _idle_ns(profiler: Profiler) -> float:
    before = read_runs(profiler)
    time.sleep(IDLE_SECONDS)
    after = read_runs(profiler)
    return (after[0] - before[0]) / max(1, after[1] - before[1])


def _window(profiler: Profiler, idle_ns: float) -> dict[str, float] | None:
    before, counters = read_runs(profiler), profiler.losses().counters
    time.sleep(SECONDS)
    after, now = read_runs(profiler), profiler.losses().counters
    grown = {name: now[name] - counters[name] for name in ("TICKS", "FRAMES", "LOOKUPS", "STEPS")}
    ticks, frames = grown["TICKS"], grown["FRAMES"]
    if not ticks or not frames:
        return None
    others = max(0, after[1] - before[1] - ticks)
    time_us = (after[0] - before[0] - others * idle_ns) / 1e3
    return {
        "us_per_sample": time_us / ticks,
        "us_per_frame": time_us / frames,
        "lookups_per_sample": grown["LOOKUPS"] / ticks,
        "lookups_per_frame": grown["LOOKUPS"] / frames,
        "frames_per_sample": frames / ticks,
        "steps_per_sample": grown["STEPS"] / ticks,
    }


def cases() -> list[Case]:
    """Native stacks of three depths, by loop and by tail calls, and Python."""
    depth = workload.build_depth()
    return [
        Case("native20", (depth, "20")),
        Case("native128", (depth, "120")),
        Case("native1024", (depth, "1010"), max_frames=1024),
        Case("python20", (*workload.STEADY, "18")),
        Case("native20_bounded", (depth, "20"), bounded=True),
        Case("native128_bounded", (depth, "120"), bounded=True),
        Case("python20_bounded", (*workload.STEADY, "18"), bounded=True),
        Case("native20_999hz", (depth, "20"), frequency_hz=999),
    ]


def sideband_ns() -> float:
    """Time a mapping of code takes longer because the kernel tells of it: median of pairs.

    Not cut off at 0: a figure below it says that the machine was too noisy.
    """
    from otelagent.bpf.sideband import Sideband

    differences = []
    for _ in range(PAIRS):
        before = _map_code()
        sideband = Sideband()
        sideband.open()
        try:
            told = _map_and_drain(sideband)
        finally:
            sideband.close()
        differences.append(told - (before + _map_code()) / 2)
    return statistics.median(differences)


def _map_and_drain(sideband: object) -> float:
    ns = _map_code()
    while sideband.drain():  # type: ignore[attr-defined]
        pass
    return ns


def _map_code(times: int = 1000) -> float:
    with Path("/bin/true").open("rb") as file:
        began = time.perf_counter_ns()
        for _ in range(times):
            flags, prot = mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC
            mmap.mmap(file.fileno(), 4096, flags=flags, prot=prot).close()
        return (time.perf_counter_ns() - began) / times


def measure() -> dict[str, float]:
    """Measure all cases."""
    figures: dict[str, float] = {}
    with bpf_stats():
        for case in cases():
            figures |= measure_case(case)
    figures["sideband.us_per_record"] = round(sideband_ns() / 1e3, 3)
    return figures

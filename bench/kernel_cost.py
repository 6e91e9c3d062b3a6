# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a sample costs in the kernel: time and map look-ups of BPF, and of the side-band.

The kernel itself counts the programs' runs and time (`BPF_ENABLE_STATS`, on
while a descriptor is open, so nothing has to be restored). Events are opened
for the workload alone, so every run is a sample of it. Both forms of the
unwinders, by `bpf_loop` and by tail calls, are loaded at once and take turns,
first one first, then the other: what else the machine does meets both.
Median of `WINDOWS` windows.
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

WINDOWS = 8
SECONDS = 0.6
SETTLE_SECONDS = 1.0
PAIRS = 25
FORMS = ("loop", "bounded")
COUNTED = ("TICKS", "FRAMES", "LOOKUPS", "STEPS", "TRACES")
_BPF_ENABLE_STATS = 32  # enum bpf_cmd, include/uapi/linux/bpf.h
_SYSCALL = {"x86_64": 321, "aarch64": 280}


@dataclass(frozen=True, slots=True)
class Case:
    """One workload, how often it is sampled, and by which forms of the unwinders."""

    name: str
    command: Sequence[str]
    max_frames: int = 128
    frequency_hz: int = workload.FREQUENCY_HZ
    forms: tuple[str, ...] = FORMS


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
    """Sample a command and give ns and look-ups per sample and per frame."""
    figures: dict[str, float] = {}
    profilers: dict[str, Profiler] = {}
    with workload.running(case.command) as pid:
        try:
            for form in case.forms:
                profilers[form] = _start(case, pid, form)
            windows = _take_turns(profilers, pid)
        finally:
            for profiler in profilers.values():
                profiler.stop()
                profiler.close()
    for form, taken in windows.items():
        name = case.name if form == FORMS[0] else f"{case.name}_{form}"
        for key in taken[0] if taken else ():
            value = statistics.median(window[key] for window in taken)
            figures[f"bpf.{name}.{key}"] = round(value, 3)
    return figures


def _start(case: Case, pid: int, form: str) -> Profiler:
    """Sample the command alone until its stacks are known, then stop its events."""
    from otelagent.bpf.links import Rate, SamplingEvents
    from otelagent.options import Options
    from otelagent.profiler import Profiler

    options = Options(
        frequency_hz=case.frequency_hz,
        pids=(pid,),
        max_frames=case.max_frames,
        bounded=form != FORMS[0],
    )
    profiler = Profiler(options)
    profiler.start()
    profiler.sampling.close()
    rate = Rate(frequency_hz=case.frequency_hz)
    events = SamplingEvents(profiler.bpf.program("on_cpu_tick"), rate, pid=pid)
    profiler.sampling._ticks = events  # noqa: SLF001 (the profiler's own are of the whole machine)
    profiler.sampling.attach()
    time.sleep(SETTLE_SECONDS)
    profiler.sampling.disable()
    return profiler


def _take_turns(profilers: dict[str, Profiler], pid: int) -> dict[str, list[dict[str, float]]]:
    windows: dict[str, list[dict[str, float]]] = {form: [] for form in profilers}
    for turn in range(WINDOWS):
        for form in sorted(profilers, reverse=bool(turn % 2)):
            window = _window(profilers[form], pid)
            if window:
                windows[form].append(window)
    return windows


def _read(profiler: Profiler, pid: int) -> dict[str, int]:
    """Read what grows: BPF's time and counters, and the workload's time on a CPU (ns)."""
    time_ns, runs = read_runs(profiler)
    cpu_ns = int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])
    counters = profiler.losses().counters
    return {"ns": time_ns, "runs": runs, "cpu_ns": cpu_ns} | {key: counters[key] for key in COUNTED}


def _window(profiler: Profiler, pid: int) -> dict[str, float] | None:
    before = _read(profiler, pid)
    profiler.sampling.enable()
    time.sleep(SECONDS)
    profiler.sampling.disable()
    after = _read(profiler, pid)
    grown = {key: after[key] - before[key] for key in after}
    ticks, frames = grown["TICKS"], grown["FRAMES"]
    if not ticks or not frames or not grown["cpu_ns"]:
        return None
    return {
        "ns_per_sample": grown["ns"] / ticks,
        "ns_per_frame": grown["ns"] / frames,
        "lookups_per_sample": grown["LOOKUPS"] / ticks,
        "lookups_per_frame": grown["LOOKUPS"] / frames,
        "frames_per_sample": frames / ticks,
        "steps_per_sample": grown["STEPS"] / ticks,
        "new_traces_per_sample": grown["TRACES"] / ticks,
        "percent_of_cpu": 100 * grown["ns"] / grown["cpu_ns"],
    }


def cases() -> list[Case]:
    """Native stacks of three depths, cold and warm caches, and Python."""
    depth = workload.build_depth()
    often = 999
    return [
        Case("native20", (depth, "20")),
        Case("native20_999hz", (depth, "20"), frequency_hz=often),
        Case("native20_cold", (depth, "20", "0", "64"), frequency_hz=often),
        Case("native20_cold_99hz", (depth, "20", "0", "64"), forms=FORMS[:1]),
        Case("native128", (depth, "120")),
        Case("native1024", (depth, "1010"), max_frames=1024, forms=FORMS[:1]),
        Case("python20", (*workload.STEADY, "18")),
        Case("python20_999hz", (*workload.STEADY, "18"), frequency_hz=often),
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

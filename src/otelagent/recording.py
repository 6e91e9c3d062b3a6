# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From what a profiler collected to a profile that can be shown and written."""

from __future__ import annotations

import os
import platform
import socket
import time
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.model import Pid, Process, Thread
from otelagent.profile.model import Profile

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otelagent.abi.codec import Generation, RawTrace
    from otelagent.losses import Losses
    from otelagent.profiler import Profiler
    from otelagent.traces.collector import GroupKey, GroupTotal


def host_attributes() -> tuple[tuple[str, str], ...]:
    """Describe this machine by OpenTelemetry's names."""
    return (
        ("host.name", socket.gethostname()),
        ("host.arch", {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]),
        ("os.type", "linux"),
        ("os.version", platform.release()),
    )


def make_profile(
    profiler: Profiler, groups: Mapping[GroupKey, GroupTotal], losses: Losses
) -> Profile:
    """Name the frames of what was collected and merge it."""
    offset = time.time_ns() - time.monotonic_ns()
    profile = Profile(
        period_ns=1_000_000_000 // profiler.options.frequency_hz,
        start_unix_ns=profiler.started_ns + offset,
        duration_ns=profiler.duration_ns,
        host=host_attributes(),
        notes=notes(profiler, losses),
    )
    processes: dict[Generation, Process] = {}
    threads: dict[tuple[int, bytes], Thread] = {}
    traces = profiler.collector.traces
    for key, total in groups.items():
        raw = traces[key.hash]
        process = processes.get(raw.generation)
        if process is None:
            process = processes[raw.generation] = _process_of(profiler, raw)
        thread = threads.get((key.tid, key.comm))
        if thread is None:
            name = key.comm.rstrip(b"\0").decode(errors="replace")
            thread = threads[key.tid, key.comm] = Thread(key.tid, name)
        times = [at + offset for at in total.times_ns]
        trace = profiler.handler.finish(raw)
        profile.add(trace, process, thread, total.count, total.weight, times)
    return profile


def _process_of(profiler: Profiler, raw: RawTrace) -> Process:
    generation = raw.generation
    path = profiler.table.images.get(generation, "")
    name = os.path.basename(path) or raw.comm.rstrip(b"\0").decode(errors="replace")  # noqa: PTH119 (also for names that are no path)
    return Process(Pid(generation.pid), name, path, generation.start_ns, generation.exec_id)


def notes(profiler: Profiler, losses: Losses) -> dict[str, int]:
    """List losses and faults that are not zero, by name."""
    tally = profiler.collector.tally
    found = {f"fault.{name}": count for name, count in tally.faults.items()}
    found["guessed"] = tally.guessed
    found["deferred"] = profiler.collector.deferred
    found |= {
        f"lost.{name.removeprefix('LOST_').lower()}": count
        for name, count in losses.counters.items()
        if name.startswith("LOST_")
    }
    found |= {counter.name: counter.total for counter in metrics.ALL.values()}
    return {name: count for name, count in found.items() if count}


def summary(profiler: Profiler, losses: Losses) -> str:
    """Tell in one line what was seen, lost, walked to the end, and named."""
    tally = profiler.collector.tally
    lost = losses.lost_samples
    whole = tally.samples + lost
    parts = [f"{tally.samples} samples", f"{lost} lost" + _share(lost, whole)]
    user = tally.user + lost
    if user:
        parts.append(f"{100 * tally.complete / user:.1f} % of {user} user stacks are complete")
    if tally.guessed:
        parts.append(f"{tally.guessed} guessed")
    faults = sorted(tally.faults.items(), key=lambda fault: -fault[1])
    parts.extend(f"{count} {name.lower()}" for name, count in faults)
    parts.append(f"{metrics.unresolved.total} addresses unnamed")
    return ", ".join(parts)


def _share(part: int, whole: int) -> str:
    return f" ({100 * part / whole:.2f} %)" if part else ""

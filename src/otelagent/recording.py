# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From what a profiler collected to a profile that can be shown and written."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from itertools import islice
from sys import intern
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi._generated import SampleFlag
from otelagent.host.clock import read_offset
from otelagent.model import Pid, Process, ProfileInfo, Thread
from otelagent.profile.model import Profile
from otelagent.waiting import OFF_CPU, WALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otelagent.abi.codec import Generation, RawTrace
    from otelagent.losses import Losses
    from otelagent.options import Options
    from otelagent.processes.notes import ProcessNotes
    from otelagent.profile.interval import Interval
    from otelagent.profiler import Profiler
    from otelagent.traces.handler import Finished
    from otelagent.traces.kept import GroupKey, GroupTotal, KeptTraces

LOT = 16_384
"""Counts that are sorted by where their traces are packed, before these are unpacked."""
MOST_KNOWN = 8192
"""Processes, and threads, that are kept for the case that they come again."""


def host_attributes() -> tuple[tuple[str, str], ...]:
    """Describe this machine by OpenTelemetry's names."""
    return (
        ("host.name", os.uname().nodename),
        ("host.arch", {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]),
        ("os.type", "linux"),
        ("os.version", platform.release()),
    )


def types(options: Options, frequency_hz: int = 0) -> tuple[tuple[str, str], tuple[str, str], int]:
    """Give sample type, period type and period (ns) of what is asked for.

    `frequency_hz` is how often it was sampled, where that is not what was asked for.
    """
    period_ns = 1_000_000_000 // (frequency_hz or options.frequency_hz)
    if not options.off_cpu:
        return ProfileInfo().sample_type, ProfileInfo().period_type, period_ns
    if not options.on_cpu:
        return OFF_CPU, OFF_CPU, 0
    return WALL, ProfileInfo().period_type, period_ns


def time_grain_ns(period_ns: int) -> int:
    """Give what times of samples are multiples of: at most 1/256 of the period, a power of two.

    At 20 Hz that is 131 µs. The bytes below are chance, which does not compress: 2 to 4 % of
    all that is sent, and they tell nothing where the next sample is 50 ms away.
    """
    return 1 << max((period_ns >> 8).bit_length() - 1, 0)


def make_profile(
    profiler: Profiler, groups: Iterable[tuple[GroupKey, GroupTotal]], losses: Losses
) -> Profile:
    """Name the frames of what was collected and merge it; a group may come in parts."""
    offset = read_offset().offset_ns
    profile = Profile(
        *types(profiler.options),
        start_unix_ns=profiler.started_ns + offset,
        duration_ns=profiler.duration_ns,
        host=host_attributes(),
        notes=notes(profiler, losses),
    )
    Merger(profiler).add(groups, profile, offset)
    return profile


class Merger:
    """Names what was counted, and adds it to profiles; owned by one thread."""

    def __init__(self, profiler: Profiler, about: ProcessNotes | None = None) -> None:
        self._profiler = profiler
        self._about = about
        self._processes: dict[Generation, Process] = {}
        self._threads: dict[tuple[int, bytes], Thread] = {}
        off_cpu = profiler.options.off_cpu
        self._chance = off_cpu.chance if off_cpu else 1.0

    def add(
        self,
        groups: Iterable[tuple[GroupKey, GroupTotal]],
        profile: Profile | Interval,
        offset_ns: int | None = None,
        grain_ns: int = 1,
        is_late: Callable[[], bool] = lambda: False,
    ) -> dict[GroupKey, GroupTotal]:
        """Add groups to a profile; times are left out where the offset to UNIX time is None.

        They are cut to multiples of `grain_ns`, a power of two. Gives the groups that it did not
        come to, since `is_late` was so after another.
        """
        traces, handler = self._profiler.collector.traces, self._profiler.handler
        ordered = _by_place(groups, traces)
        for key, total in ordered:
            times = (
                () if offset_ns is None else [at + offset_ns & -grain_ns for at in total.times_ns]
            )
            # What was finished lately is not unpacked again.
            raw: RawTrace | Finished
            if done := handler.finished(key.hash):
                raw, trace = done, done.trace
            else:
                raw = traces[key.hash]
                trace = handler.finish(raw)
            process = self._process(raw)
            thread = self._thread(key)
            weight = total.weight
            if raw.flags >> SampleFlag.OFF_CPU_BIT & 1:
                # Each wait stands for all those that were not followed.
                weight = round(weight / self._chance)
            profile.add(trace, process, thread, total.count, weight, times)
            if is_late():
                break
        return dict(ordered)

    def generation(self, hash_: int) -> Generation:
        """Tell whose a trace is."""
        done = self._profiler.handler.finished(hash_)
        return (done or self._profiler.collector.traces[hash_]).generation

    def forget(self, generations: Iterable[Generation]) -> None:
        """Describe these processes anew."""
        for each in generations:
            self._processes.pop(each, None)

    def keep(self, traces: Mapping[int, RawTrace]) -> None:
        """Forget processes that none of these traces is of."""
        generations = {raw.generation for raw in traces.values()}
        self._processes = {k: v for k, v in self._processes.items() if k in generations}
        self._threads.clear()  # made anew where they still are

    def _process(self, raw: RawTrace | Finished) -> Process:
        process = self._processes.get(raw.generation)
        if process is None:
            process = _process_of(self._profiler, raw)
            if self._about is not None:  # which may be empty
                self._about.see(raw.generation)  # most were seen when their first trace came
                process = replace(process, attributes=self._about.of(raw.generation))
            if len(self._processes) >= MOST_KNOWN:
                self._processes.clear()
            if process.executable:  # else it may become known yet
                self._processes[raw.generation] = process
        return process

    def _thread(self, key: GroupKey) -> Thread:
        thread = self._threads.get((key.tid, key.comm))
        if thread is None:
            if len(self._threads) >= MOST_KNOWN:
                self._threads.clear()
            name = intern(key.comm.rstrip(b"\0").decode(errors="replace"))
            thread = self._threads[key.tid, key.comm] = Thread(key.tid, name)
        return thread


def _by_place(
    groups: Iterable[tuple[GroupKey, GroupTotal]], traces: KeptTraces
) -> Iterator[tuple[GroupKey, GroupTotal]]:
    """Give the groups by lots so that traces packed together come one after the other."""
    left = iter(groups)
    while lot := list(islice(left, LOT)):
        lot.sort(key=lambda group: traces.place(group[0].hash))
        yield from lot


def _process_of(profiler: Profiler, raw: RawTrace | Finished) -> Process:
    generation = raw.generation
    path = profiler.table.images.get(generation, "")
    name = os.path.basename(path) or raw.comm.rstrip(b"\0").decode(errors="replace")  # noqa: PTH119 (also for names that are no path)
    return Process(Pid(generation.pid), intern(name), path, generation.start_ns, generation.exec_id)


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
    found["lost.children"] = losses.counters.get("TARGETS_FULL", 0)
    losses_here = [each for each in metrics.ALL.values() if each not in metrics.NO_LOSSES]
    found |= {counter.name: counter.total for counter in losses_here}
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

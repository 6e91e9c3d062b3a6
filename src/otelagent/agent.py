# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The profiler for ever: each interval's samples become requests for the sinks.

Nothing is kept from one interval to the next but the names of what was sampled lately;
what a sink does with a request never holds sampling up.
"""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

from otelagent.chance import draw_lot, jittered
from otelagent.export.splitting import encode_requests
from otelagent.host.clock import read_offset
from otelagent.host.metadata import read_metadata
from otelagent.processes.notes import ProcessNotes
from otelagent.profile.interval import Interval
from otelagent.recording import Merger, notes, time_grain_ns, types
from otelagent.traces.recent import RecentTraces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from otelagent.abi.codec import Generation, RawTrace
    from otelagent.agentplan import Plan, Sink
    from otelagent.chance import Random
    from otelagent.profiler import Profiler
    from otelagent.traces.kept import GroupKey, GroupTotal
    from otelagent.traces.recent import Known

FIRST_REPORT_S = 1.0
"""The first report comes soon: who starts an agent looks if it works."""
CLOCK_SECONDS = 60.0
"""How often the offset to UNIX time is read again: clocks are set, and drift."""
REPORT_SECONDS = 2.0
"""A report takes little longer: signals and signs of life wait. Line tables may take minutes."""
MOST_GROUPS = 16_384
"""So much is named and encoded at a time: some 1 KB each, and requests are of 4 MB anyway."""
REST_REPORTS = 24
"""For so many reports a file's symbols are kept that were not asked for."""


@dataclass(slots=True)
class _Window:
    """What was sampled from one time to another (CLOCK_MONOTONIC), as far as it is not reported."""

    groups: Mapping[GroupKey, GroupTotal]
    since_ns: int
    until_ns: int
    frequency_hz: int


class Agent:
    """Reports what a running profiler samples. One thread calls it: `work` when it is due.

    Attributes:
        due: When `work` has something to do (`clock`).
        is_sampling: Whether the lot fell on this interval.
        plan: What holds now.
    """

    def __init__(
        self,
        profiler: Profiler,
        sinks: Sequence[Sink],
        plan: Plan,
        rng: Random,
        known: Known,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._profiler = profiler
        self._sinks = sinks
        self.plan = plan
        self._rng = rng
        self._clock = clock
        self._about = ProcessNotes(partial(read_metadata, variables=plan.variables))
        profiler.collector.watch(lambda trace: self._about.see(trace.generation))
        self._merger = Merger(profiler, self._about)
        self._recent = RecentTraces(
            *(profiler.collector, profiler.handler, known, self._clean, plan.bounds)
        )
        self._frequency_hz = profiler.options.frequency_hz
        self._since_ns = profiler.started_ns
        self._todo: deque[_Window] = deque()
        self._told: dict[str, int] = {}
        self._offset = read_offset()
        self.is_sampling = True
        self._report_at = self._lot_at = self._clock_at = clock()
        self._report_at += min(plan.interval_s, FIRST_REPORT_S)

    @property
    def due(self) -> float:
        """When there is something to do next."""
        return min(self._report_at, self._lot_at)

    def work(self) -> None:
        """Do what is due."""
        now = self._clock()
        if now >= self._lot_at:
            self._lot_at = now + self.plan.lot_interval_s
            self._draw()
        if now >= self._report_at:
            self._set_report_time()
            self.report(REPORT_SECONDS)

    def follow(self, plan: Plan) -> None:
        """Do as another plan says, from the next report on; its bounds stay as they were."""
        self.report(REPORT_SECONDS)
        self.plan = plan
        self._about.read_by(partial(read_metadata, variables=plan.variables))
        self._set_report_time()
        self._lot_at = self._clock()
        if plan.threshold >= 100:
            self._switch(is_sampling=True)

    def set_frequency(self, frequency_hz: int) -> None:
        """Sample so often from now on; what was sampled until now is told as of before."""
        self._close_window()
        if self._todo:
            self._report_at = self._clock()
        self._profiler.sampling.set_frequency(frequency_hz)
        self._frequency_hz = frequency_hz

    def _set_report_time(self) -> None:
        plan = self.plan
        self._report_at = self._clock() + jittered(plan.interval_s, plan.jitter, self._rng)

    def _draw(self) -> None:
        """Let the lot decide whether to sample; where not, no CPU is interrupted at all."""
        if self.plan.threshold >= 100:
            self._lot_at = float("inf")
            return
        self._switch(is_sampling=draw_lot(self.plan.threshold, self._rng))

    def _switch(self, *, is_sampling: bool) -> None:
        if is_sampling != self.is_sampling:
            self.is_sampling = is_sampling
            self._profiler.sampling.enable(is_sampling)

    def report(self, seconds: float = REPORT_SECONDS) -> None:
        """Hand what is new to the sinks, if anything; what there was no time for is due at once."""
        deadline = self._clock() + seconds
        if self._work_off(deadline):
            self._close_window()
            self._work_off(deadline)

    def finish(self) -> None:
        """Hand everything to the sinks that was sampled, however long it takes."""
        self._close_window()
        while self._todo:
            self._work_off(self._clock() + REPORT_SECONDS)

    def _close_window(self) -> None:
        """Take what was sampled until now."""
        profiler, until_ns = self._profiler, time.monotonic_ns()
        profiler.flush()
        groups = profiler.collector.take()
        late = {key.hash for window in self._todo for key in window.groups}
        self._recent.note({key.hash for key in groups} | late | self._wanted())
        profiler.namers.rest(REST_REPORTS)
        profiler.kernel.rest()
        if groups:
            self._todo.append(_Window(groups, self._since_ns, until_ns, self._frequency_hz))
            self._since_ns = until_ns

    def _work_off(self, deadline: float) -> bool:
        """Report what was taken; tells whether there was time for all of it."""
        while self._todo:
            window = self._todo[0]
            window.groups = self._report(window, deadline)
            if not window.groups:
                self._todo.popleft()
            if self._todo and self._clock() >= deadline:
                self._report_at = self._clock()
                return False
        return True

    def _wanted(self) -> set[int]:
        """Tell which traces a wait has begun with: when it is over they are asked for."""
        if not self._profiler.options.off_cpu:
            return set()
        begun = self._profiler.collector.take_begun()
        waiting = {each.hash for each in self._profiler.sampling.waiting()}
        return begun | (waiting & self._profiler.collector.traces.keys())

    def _report(self, window: _Window, deadline: float) -> Mapping[GroupKey, GroupTotal]:
        """Send as much as there is time for, and no more than `MOST_GROUPS`; gives the rest."""
        offset_ns = self._wall_offset_ns()
        groups = window.groups
        profile = Interval(
            *types(self._profiler.options, window.frequency_hz),
            start_unix_ns=window.since_ns + offset_ns,
            duration_ns=window.until_ns - window.since_ns,
            host=self.plan.resource,
            notes=self._new_notes(),
        )
        seen = {self._merger.generation(key.hash) for key in groups}
        self._merger.forget(self._about.look_again(seen))
        wanted_ns = offset_ns if self.plan.timestamps else None
        left = count(MOST_GROUPS - 1, -1)
        how = (
            *(wanted_ns, time_grain_ns(profile.period_ns)),
            lambda: not next(left) or self._clock() >= deadline,
        )
        late = self._merger.add(groups.items(), profile, *how)
        for record in encode_requests(profile, profile):
            for sink in self._sinks:
                sink.put(record)
        return late

    def _clean(self, traces: Mapping[int, RawTrace]) -> None:
        """Forget what only traces needed that are gone."""
        self._merger.keep(traces)
        table = self._profiler.table
        wanted = {raw.generation for raw in traces.values()}
        self._about.keep(wanted)

        def is_wanted(generation: Generation) -> bool:
            # What has just begun may have no trace yet.
            return generation in wanted or generation.pid in table.entries

        self._profiler.runtimes.keep_namers(is_wanted)
        for generation in [each for each in list(table.images) if not is_wanted(each)]:
            table.images.pop(generation, None)

    def _wall_offset_ns(self) -> int:
        if self._clock() >= self._clock_at + CLOCK_SECONDS:
            self._offset, self._clock_at = read_offset(), self._clock()
        return self._offset.offset_ns

    def _new_notes(self) -> dict[str, int]:
        """List what was lost since the last report: whoever adds reports up must get the sum."""
        now = notes(self._profiler, self._profiler.losses())
        new = {name: count - self._told.get(name, 0) for name, count in now.items()}
        self._told = now
        return {name: count for name, count in new.items() if count > 0}

    def close(self, seconds: float) -> list[str]:
        """Let the sinks end, within so many seconds in all; gives what became of everything."""
        deadline = self._clock() + seconds
        for sink in self._sinks:
            sink.close(max(deadline - self._clock(), 0.0))
        return [sink.summary() for sink in self._sinks]

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads a running agent: all of its numbers, and whether it is well."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otelagent.health import readings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otelagent.bpf.known import KnownTraces
    from otelagent.bpf.statistics import RunTimes
    from otelagent.health.readings import Sink
    from otelagent.metrics import Reading
    from otelagent.profiler import Profiler

STUCK_SECONDS = 60.0
"""The main thread comes by each second; a report of everything may take it some more."""


class Gatherer:
    """Reads the agent. `beat` is the main thread's, the rest is any thread's.

    Attributes:
        is_ready: Whether it samples.
        times: Measures BPF programs; None where nobody asked, or the kernel refused.
    """

    def __init__(self, profiler: Profiler, sinks: Sequence[Sink], known: KnownTraces) -> None:
        self._profiler = profiler
        self._sinks = sinks
        self._known = known
        self._began = self._beat = time.monotonic()
        self.is_ready = False
        self.times: RunTimes | None = None

    def beat(self) -> None:
        """Say that the main thread works."""
        self._beat = time.monotonic()

    def illness(self) -> str:
        """Tell in words what is wrong; nothing if all is well."""
        if self._profiler.has_failed:
            return "a thread of the profiler has ended"
        late = time.monotonic() - self._beat
        if late > STUCK_SECONDS:
            return f"the main thread has done nothing for {late:.0f} s"
        return ""

    def gather(self) -> list[Reading]:
        """Read everything."""
        return list(self._gather())

    def _gather(self) -> Iterator[Reading]:
        profiler = self._profiler
        yield from readings.of_traces(profiler.collector.tally_now(), profiler.losses())
        yield from readings.of_user_space()
        yield from readings.of_sinks(self._sinks)
        yield readings.of_queues(profiler.processes.depths() | {"finished": len(profiler.finished)})
        kept = {"traces": len(profiler.collector.traces), "frames": profiler.handler.frame_count}
        yield readings.gauge("kept", "what is remembered", "{item}", *readings.by("kind", kept))
        yield from readings.of_maps(self._fills())
        sampling = profiler.sampling
        rate = sampling.frequency_hz if sampling.is_enabled else 0
        yield from readings.of_sampling(rate, len(sampling.cpus), sampling.throttled()[0])
        yield from readings.of_process(time.monotonic() - self._began)
        if self.times:
            yield from readings.of_bpf(self.times.read())

    def _fills(self) -> dict[str, tuple[int, int]]:
        profiler = self._profiler
        used = {
            "processes": len(profiler.table.entries),
            "mappings": profiler.table.spaces.entry_count,
            "pages": profiler.store.page_count,
        }
        fills = {name: (count, self._room(name)) for name, count in used.items()}
        return fills | profiler.store.fills() | {"known_traces": self._known.fill()}

    def _room(self, name: str) -> int:
        return self._profiler.bpf.map_info(name).max_entries

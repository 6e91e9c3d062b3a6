# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Batches of the ring into raw traces and counts.

Known samples come grouped from the C core, so the cost here is per batch and
per new trace. A sample whose trace is not known is counted, never guessed.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi._generated import Fault, RecordKind, SampleFlag
from otelagent.abi.codec import (
    RawTrace,
    Report,
    decode_report,
    decode_sample,
    decode_trace,
    sample_of,
)
from otelagent.traces.kept import MOST_LOOSE, GroupKey, GroupTotal, KeptTraces, PackedGroups
from otelagent.traces.waits import Begin, Ended, Waits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from otelagent.abi.codec import Sample
    from otelagent.bpf.ring import Batch, Samples
    from otelagent.traces.kept import Place

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Tally:
    """How well stacks were walked.

    Attributes:
        samples: All that arrived.
        user: Those of threads with user registers.
        complete: Of these, those whose stack was walked to the thread's first frame
            by unwind rows alone.
        guessed: Of these, those with a frame found by the frame pointer.
        faults: Why the rest ended early, by name of the fault.
    """

    samples: int = 0
    user: int = 0
    complete: int = 0
    guessed: int = 0
    faults: dict[str, int] = field(default_factory=dict)

    def add(self, trace: RawTrace | Place, count: int) -> None:
        """Count `count` samples of a trace."""
        self.samples += count
        if not trace.flags >> SampleFlag.USER_BIT & 1:
            return
        self.user += count
        if trace.fault:
            name = Fault(trace.fault).name if trace.fault < Fault.COUNT else str(trace.fault)
            self.faults[name] = self.faults.get(name, 0) + count
        elif trace.flags >> SampleFlag.GUESSED_BIT & 1:
            self.guessed += count
        else:
            self.complete += count


class Collector:
    """Traces and counts of a recording, owned by the reader thread.

    `take`, `tally_now`, `doom` and `bury` may be called from any thread; `traces`
    may be looked up in by the hashes that `take` gave, until `bury` is called.

    Args:
        on_deferred: Takes the bytes of a deferred stack.
        on_report: Takes a report on a process.
        on_trace: Sees each new trace (to name interpreter frames while they live).
    """

    def __init__(
        self,
        on_deferred: Callable[[bytes], None],
        on_report: Callable[[Report], None],
        on_trace: Callable[[RawTrace], None],
    ) -> None:
        self._on_deferred = on_deferred
        self._on_report = on_report
        self._on_trace = on_trace
        self.traces = KeptTraces()
        self.groups: dict[GroupKey, GroupTotal] = {}
        self._packed = PackedGroups()
        self._doomed: set[int] = set()
        self._deep: dict[int, bytes] = {}
        self._waits = Waits()
        self._begun: set[int] = set()
        self.tally = Tally()
        self.deferred = 0
        self.unknown = 0
        """Reports and deferred stacks: how often something ran that was not known."""
        # Held for a whole batch by the reader, so that a sample costs nothing more.
        self._lock = threading.Lock()

    def take(self) -> dict[GroupKey, GroupTotal]:
        """Give what was counted since the last call, and begin anew."""
        merged: dict[GroupKey, GroupTotal] = {}
        for key, total in self.take_each():
            found = merged.setdefault(key, total)
            if found is not total:
                found.add(total.count, total.weight, total.times_ns)
        return merged

    def take_each(self) -> Iterator[tuple[GroupKey, GroupTotal]]:
        """Do the same, but with no more in memory than needs be; a key may come again."""
        with self._lock:
            groups, self.groups = self.groups, {}
            packed, self._packed = self._packed, PackedGroups()
        return chain(packed, groups.items())

    def take_begun(self) -> set[int]:
        """Give the traces that waits began with since the last call: they may have no sample."""
        with self._lock:
            begun, self._begun = self._begun, set()
        return begun

    def watch(self, on_trace: Callable[[RawTrace], None]) -> None:
        """Tell one more of each new trace, from the reader thread."""
        first = self._on_trace

        def tell_both(trace: RawTrace) -> None:
            first(trace)
            on_trace(trace)

        with self._lock:
            self._on_trace = tell_both

    def doom(self, hashes: Iterable[int]) -> None:
        """Note traces that BPF is being told to send anew; one that comes is saved."""
        with self._lock:
            self._doomed.update(hashes)

    def bury(
        self, hashes: Iterable[int], clean: Callable[[Mapping[int, RawTrace]], None]
    ) -> list[int]:
        """Remove those of the doomed traces that nothing needs, and tell which.

        No trace comes while `clean` looks at those that are left.
        """
        with self._lock:
            wanted = {key.hash for key in self.groups} | set(self._waits.hashes())
            wanted.update(key.hash for key, _ in self._packed)
            doomed = self._doomed & set(hashes)
            self._doomed -= doomed
            buried = [each for each in doomed - wanted if self.traces.discard(each)]
            clean(self.traces)
        return buried

    def tally_now(self) -> Tally:
        """Copy how well stacks were walked until now."""
        with self._lock:
            return replace(self.tally, faults=dict(self.tally.faults))

    def add_batch(self, batch: Batch) -> None:
        """Take the records that were drained; their samples come with `add_samples`."""
        if batch.malformed:
            metrics.records_lost.add(batch.malformed, reason="malformed")
        if batch.discarded:
            metrics.records_lost.add(batch.discarded, reason="withdrawn by BPF")
        if not batch.record_bytes:
            return
        with self._lock:
            for kind, data in batch.records():
                try:
                    self._add_record(kind, data)
                except ValueError:
                    metrics.records_lost.add(reason="malformed")

    def add_samples(self, samples: Samples) -> None:
        """Count samples; the records that were drained with them are to be added before."""
        times = samples.times_ns
        with self._lock:
            for group in samples.groups():
                trace = self.traces.how(group.hash)
                if trace is None:
                    metrics.trace_forgotten.add(group.samples)
                    continue
                key = GroupKey(group.hash, group.pid, group.tid, group.comm)
                span = times[group.first : group.first + group.samples]
                self._count(trace, key, group.samples, group.weight, span)

    def _add_record(self, kind: int, data: memoryview) -> None:
        if kind in {RecordKind.TRACE, RecordKind.STACK}:
            trace = decode_trace(data)
            if trace.hash not in self.traces:
                self.traces[trace.hash] = trace
                self._on_trace(trace)
            self._doomed.discard(trace.hash)
            if kind == RecordKind.STACK:
                self._begun.add(trace.hash)
        elif kind == RecordKind.DEFERRED:
            self.deferred += 1
            self.unknown += 1
            self._on_deferred(self._whole(data))
        elif kind == RecordKind.DEEP:
            self._deep[sample_of(data).cpu] = bytes(data)
        elif kind == RecordKind.REPORT:
            self.unknown += 1
            self._on_report(decode_report(data))
        elif kind == RecordKind.WAITED:
            sample = decode_sample(data)
            ended = Ended(sample.weight, sample.time_ns)
            self._end_wait(Begin(sample.tid, sample.hash), ended)

    def add_waiting(self, waiting: Iterable[Sample], until_ns: int) -> int:
        """Count threads that still wait, as if their waits were over; tells how many there were."""
        count = 0
        with self._lock:
            for each in waiting:
                ended = Ended(until_ns - each.time_ns, until_ns)
                count += 1
                if each.kind == RecordKind.DEFERRED:
                    self._end_wait(Begin(each.tid, each.time_ns), ended)
                else:
                    key = GroupKey(each.hash, each.pid, each.tid, each.comm)
                    self._count_wait(key, ended)
            self._waits.close()
        return count

    def _end_wait(self, begin: Begin, ended: Ended) -> None:
        if key := self._waits.add_end(begin, ended):
            self._count_wait(key, ended)

    def _count_wait(self, key: GroupKey, ended: Ended) -> None:
        trace = self.traces.how(key.hash)
        if trace is None:
            metrics.trace_forgotten.add()
        else:
            self._count(trace, key, 1, ended.weight, (ended.time_ns,))

    def _whole(self, data: memoryview) -> bytes:
        """Give a deferred stack, and behind it what its CPU sent of it before."""
        sample = sample_of(data)
        deep = self._deep.pop(sample.cpu, None)
        is_of_it = deep is not None and sample_of(deep) == sample
        return bytes(data) + deep if deep and is_of_it else bytes(data)

    def add_finished(self, data: bytes) -> None:
        """Take a deferred stack that was unwound: a trace and one sample of it."""
        trace = decode_trace(data)
        key = GroupKey(trace.hash, trace.pid, trace.tid, trace.comm)
        with self._lock:
            self._doomed.discard(trace.hash)
            if trace.hash not in self.traces:
                self.traces[trace.hash] = trace
                self._on_trace(trace)
            if not trace.flags >> SampleFlag.OFF_CPU_BIT & 1:
                self._count(trace, key, 1, trace.weight, (trace.time_ns,))
                return
            self._begun.add(trace.hash)
            if ended := self._waits.add_stack(Begin(trace.tid, trace.time_ns), key):
                self._count_wait(key, ended)

    def _count(
        self,
        trace: RawTrace | Place,
        key: GroupKey,
        count: int,
        weight: int,
        times: memoryview[int] | tuple[int, ...],
    ) -> None:
        total = self.groups.get(key)
        if total is None:
            if len(self.groups) >= MOST_LOOSE:
                self._packed.add(self.groups)
                self.groups.clear()
            total = self.groups[key] = GroupTotal()
        total.add(count, weight, times)
        self.tally.add(trace, count)

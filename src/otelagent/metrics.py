# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Counters of user space: every drop has one; and what a number is at one moment.

Those of BPF are `enum oa_counter` and `enum oa_fault`. Each counter has a
name `otelagent.<area>.<noun>`, a help text, and values by reason.
"""

from __future__ import annotations

from collections import Counter as _Counter
from dataclasses import dataclass, field
from enum import StrEnum

Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Counter:
    """A number that only grows, split by `reason`. `add` may be called from any thread."""

    name: str
    help: str
    values: _Counter[str] = field(default_factory=_Counter)

    def add(self, amount: int = 1, *, reason: str = "") -> None:
        """Count `amount` more for `reason`."""
        self.values[reason] += amount

    @property
    def total(self) -> int:
        """The sum over all reasons."""
        return sum(self.values.values())


class Kind(StrEnum):
    """What a number does over time; by Prometheus' names."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Reading:
    """A metric at one moment.

    Attributes:
        name: By OpenTelemetry's rules, as `otelagent.export.requests`.
        unit: As UCUM writes it: `s`, `By`, `{sample}`; `1` for a share.
        points: Values by labels; each combination of labels at most once.
    """

    name: str
    help: str
    kind: Kind
    unit: str
    points: tuple[tuple[Labels, float], ...]


def _counter(name: str, text: str) -> Counter:
    counter = Counter(name, text)
    ALL[name] = counter
    return counter


ALL: dict[str, Counter] = {}

process_failed = _counter("otelagent.processes.failed", "processes that could not be loaded")
mapping_failed = _counter("otelagent.processes.mappings_failed", "mappings without unwind rows")
sideband_lost = _counter("otelagent.sideband.lost", "process events lost: perf buffer full")
trace_forgotten = _counter("otelagent.traces.unknown", "samples whose trace is not known")
waits_unmatched = _counter("otelagent.waits.unmatched", "waits whose deferred stack never came")
deferred_dropped = _counter("otelagent.deferred.dropped", "deferred stacks dropped")
reports_dropped = _counter("otelagent.reports.dropped", "process reports dropped: too many wait")
records_lost = _counter("otelagent.records.lost", "samples that came as records without sense")
malformed = _counter("otelagent.records.malformed", "process events that make no sense")
kernel_dropped = _counter("otelagent.symbols.kernel_dropped", "kernel symbols not kept: too many")
unresolved = _counter("otelagent.symbols.unresolved", "addresses without a name")
resolved = _counter("otelagent.symbols.resolved", "addresses that were given a name")
throttled = _counter("otelagent.sampling.throttled", "ticks of all CPUs that the kernel left out")
export_attempted = _counter("otelagent.export.attempted", "samples that were to be delivered")
export_delivered = _counter("otelagent.export.delivered", "samples that a receiver or store took")
export_dropped = _counter("otelagent.export.dropped", "samples that could not be delivered")
export_rejected = _counter("otelagent.export.rejected", "profiles that a receiver refused")
export_retries = _counter("otelagent.export.retries", "requests that were sent once more")
kept_skipped = _counter("otelagent.store.skipped", "files of spool and store that are not ours")
store_expired = _counter("otelagent.store.expired", "files of the store removed for newer ones")
LOST_SAMPLES = (trace_forgotten, deferred_dropped, records_lost)
"""Those that count one for each sample that is missing in the profile."""
EXPORT = (export_attempted, export_delivered, export_dropped, export_rejected, export_retries)
"""Those that each sink's own account has, too."""
NO_LOSSES = (resolved, export_attempted, export_delivered)
"""Those that count what went well: no notes of a profile."""

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The counters of BPF, and what they say was lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi._generated import Counter, Fault

if TYPE_CHECKING:
    from otelagent.bpf.records import CpuRecords


@dataclass(slots=True)
class Losses:
    """What was lost or limited, by name; read from BPF and from user space."""

    counters: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def lost_samples(self) -> int:
        """Samples that BPF could not hand over, or that could not be handled."""
        names = (
            *("LOST_SAMPLE", "LOST_TRACE", "LOST_DEFERRED", "LOST_INTERNAL"),
            *("LOST_WAIT", "LOST_END"),
        )
        lost = sum(self.counters.get(name, 0) for name in names)
        return lost + sum(metric.total for metric in metrics.LOST_SAMPLES)


def read_losses(records: CpuRecords) -> Losses:
    """Read the counters, summed over CPUs."""
    sums = records.read_counters()
    counters = {Counter(at).name: sums[at] for at in range(Counter.COUNT)}
    faults = {Fault(at).name: sums[Counter.COUNT + at] for at in range(1, Fault.COUNT)}
    return Losses(counters, {name: value for name, value in faults.items() if value})

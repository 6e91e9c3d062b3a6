# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The counters of BPF, and what they say was lost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent import metrics
from otelagent.abi._generated import Counter, Fault
from otelagent.bpf.maps import ArrayMap
from otelagent.kernel.plan import COUNTER_ROW

if TYPE_CHECKING:
    from otelagent.bpf.object import BpfObject


@dataclass(slots=True)
class Losses:
    """What was lost or limited, by name; read from BPF and from user space."""

    counters: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def lost_samples(self) -> int:
        """Samples that BPF could not hand over, or that could not be handled."""
        names = ("LOST_SAMPLE", "LOST_TRACE", "LOST_DEFERRED", "LOST_INTERNAL")
        lost = sum(self.counters.get(name, 0) for name in names)
        return lost + sum(metric.total for metric in metrics.LOST_SAMPLES)


def read_losses(bpf: BpfObject) -> Losses:
    """Read the counters, summed over CPUs."""
    values = [int.from_bytes(value, "little") for value in ArrayMap.of(bpf, "counters")]
    sums = [sum(values[at::COUNTER_ROW]) for at in range(COUNTER_ROW)]
    counters = {Counter(at).name: sums[at] for at in range(Counter.COUNT)}
    faults = {Fault(at).name: sums[Counter.COUNT + at] for at in range(1, Fault.COUNT)}
    return Losses(counters, {name: value for name, value in faults.items() if value})

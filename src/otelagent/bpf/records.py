# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The beginning of each CPU's record (`struct oa_cpu`): what user space shares with BPF.

*The epoch* tells BPF that an answer of an earlier look-up may be wrong by now. BPF
keeps, per CPU and from sample to sample, which process came last, which mappings,
rows and rules it found (`struct oa_near_mapping` and others in `ebpf/state.h`). What
is new is found without being told. What is taken away from a process that lives on
is not missed: whoever takes it away advances the epoch afterwards, and before
anything else is put in its place for good.

*The counters*: each CPU adds to its own; what is told are sums.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from otelagent._native import ffi
from otelagent.abi._generated import Counter, Fault
from otelagent.bpf.maps import ArrayMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from otelagent.bpf.maps import Mapped
    from otelagent.bpf.object import BpfObject

_EPOCH = struct.Struct("Q")
COUNTERS = Counter.COUNT + Fault.COUNT
_COUNTERS = struct.Struct(f"{COUNTERS}Q")
_COUNTERS_AT = int(ffi.offsetof("struct oa_cpu", "counters"))


class CpuRecords:
    """What is shared of each CPU's record. Any thread may use it.

    Args:
        states: The memory of each map `states`: that of ticks, and that of switches.
        stride: Bytes of a CPU's record.
        cpus: How many there are.
    """

    def __init__(self, states: Sequence[Mapped], stride: int, cpus: int) -> None:
        self._states = states
        self._offsets = [cpu * stride for cpu in range(cpus)]

    @classmethod
    def of(cls, *objects: BpfObject) -> CpuRecords:
        """Share the records of a loaded profiler."""
        maps = [ArrayMap.of(bpf, "states") for bpf in objects]
        return cls([states.mmap() for states in maps], maps[0].stride, len(maps[0]))

    def advance_epoch(self) -> None:
        """Let every CPU look up anew from its next sample on."""
        # Any other value does, and two threads never have the same time.
        value = time.monotonic_ns()
        for states in self._states:
            for offset in self._offsets:
                _EPOCH.pack_into(states.buffer, offset, value)

    def read_counters(self) -> list[int]:
        """Sum the counters over all CPUs: by `Counter`, then by `Counter.COUNT` + `Fault`."""
        rows = (
            _COUNTERS.unpack_from(states.buffer, at + _COUNTERS_AT)
            for states in self._states
            for at in self._offsets
        )
        return [sum(column) for column in zip(*rows, strict=True)]

    def close(self) -> None:
        """Give the memory back."""
        for states in self._states:
            states.close()

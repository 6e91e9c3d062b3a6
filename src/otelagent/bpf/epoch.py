# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Tell BPF that an answer of an earlier look-up may be wrong by now.

BPF keeps, per CPU and from sample to sample, which process came last, which
mappings and which rows it found (`struct oa_near_mapping`, `struct oa_near_row`
in `ebpf/state.h`). What is new is found without being told. What is taken away
from a process that lives on is not missed: whoever takes it away advances the
epoch afterwards, and before anything else is put in its place for good.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from otelagent.bpf.maps import ArrayMap

if TYPE_CHECKING:
    from otelagent.bpf.maps import Mapped
    from otelagent.bpf.object import BpfObject

_EPOCH = struct.Struct("Q")


class Epoch:
    """The first u64 of each CPU's record (`struct oa_state`). Any thread may advance it.

    Args:
        states: The memory of the map `states`.
        stride: Bytes of a CPU's record.
        cpus: How many there are.
    """

    def __init__(self, states: Mapped, stride: int, cpus: int) -> None:
        self._states = states
        self._offsets = [cpu * stride for cpu in range(cpus)]

    @classmethod
    def of(cls, bpf: BpfObject) -> Epoch:
        """Share the records of a loaded profiler."""
        states = ArrayMap.of(bpf, "states")
        return cls(states.mmap(), states.stride, len(states))

    def advance(self) -> None:
        """Let every CPU look up anew from its next sample on."""
        # Any other value does, and two threads never have the same time.
        value = time.monotonic_ns()
        for offset in self._offsets:
            _EPOCH.pack_into(self._states.buffer, offset, value)

    def close(self) -> None:
        """Give the memory back."""
        self._states.close()

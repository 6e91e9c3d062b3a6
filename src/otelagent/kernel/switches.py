# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Off-CPU: the object that follows threads from when they leave a CPU to when they are back.

It has the unwinders once more, for another type of program, and is loaded only when it is
asked for. All maps are the profiler's but for each CPU's record and the threads that wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.abi.codec import Sample, decode_sample
from otelagent.bpf.maps import HashMap
from otelagent.bpf.object import possible_cpus
from otelagent.errors import AttachFailed
from otelagent.kernel.plan import load_object

if TYPE_CHECKING:
    from otelagent.bpf.object import BpfObject, Link
    from otelagent.kernel.plan import Plan

_TRACEPOINT = "sched_switch"


def load_switches(plan: Plan, profiler: BpfObject) -> BpfObject:
    """Load the object beside a loaded profiler.

    Raises:
        KernelError: The kernel refused it.
    """
    cpus = possible_cpus()
    sizes = {"states": cpus, "deferred_stacks": cpus, "waits": plan.wish.waits}
    return load_object(plan, "offcpu", sizes, profiler)


def attach_switches(bpf: BpfObject) -> Link:
    """Follow switches from now on.

    Raises:
        AttachFailed: The kernel has no raw tracepoints, or refuses them.
    """
    try:
        return bpf.program("on_switch").attach_raw_tracepoint(_TRACEPOINT)
    except AttachFailed:
        # Before Linux 5.18 the tracepoint has an argument less.
        return bpf.program("on_switch_before").attach_raw_tracepoint(_TRACEPOINT)


class Switches:
    """Switches that are followed, or not for now. Used by one thread."""

    def __init__(self, bpf: BpfObject) -> None:
        self._bpf = bpf
        self._waits = HashMap.of(bpf, "waits")
        self._link: Link | None = None

    def enable(self, on: bool = True) -> None:
        """Begin, or end; who waits when it ends is forgotten."""
        if on and self._link is None:
            self._link = attach_switches(self._bpf)
        elif not on:
            self.disable()
            for each in self.waiting():
                self._waits.delete(each.tid.to_bytes(4, "little"))

    def disable(self) -> None:
        """End; `waiting` still tells who waits."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def waiting(self) -> list[Sample]:
        """List who waits: `time_ns` is since when."""
        return [decode_sample(value) for _, value in self._waits.items()]

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What makes samples: ticks of the CPUs, threads that leave a CPU, or both.

Used by one thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from otelagent.bpf.links import Rate, SamplingEvents
from otelagent.kernel.features import has_feature
from otelagent.kernel.plan import Plan, learn, load, tell_log, wish_of
from otelagent.kernel.switches import Switches, load_switches
from otelagent.kernel.unwinders import LateUnwinders

if TYPE_CHECKING:
    from otelagent.abi.codec import Sample
    from otelagent.bpf.object import BpfObject
    from otelagent.options import Options


def load_objects(options: Options) -> tuple[list[BpfObject], LateUnwinders]:
    """Load the profiler and, if waits are asked for, what follows them.

    Returns:
        These objects, and what loads more unwinders for them.

    Raises:
        KernelError: The kernel or a privilege is missing.
    """
    offsets = learn(options.btf_path, check=options.check_kernel)
    plan = Plan(wish_of(options), offsets, not options.bounded and has_feature("bpf_loop"))
    objects = [load(plan)]
    try:
        if options.off_cpu:
            objects.append(load_switches(plan, objects[0]))
    except BaseException:
        objects[0].close()
        raise
    for bpf in objects:
        tell_log(plan, bpf)
    options.on_loaded()
    return objects, LateUnwinders(plan, objects)


class Sampling:
    """Ticks and switches, as they are asked for."""

    def __init__(self, objects: list[BpfObject], options: Options) -> None:
        rate = Rate(frequency_hz=options.frequency_hz, is_hardware=options.use_cycles)
        self._has_ticks = options.on_cpu
        self._min_ns = options.off_cpu.min_ns if options.off_cpu else 0
        self._ticks = SamplingEvents(objects[0].program("on_cpu_tick"), rate, only=options.cpus)
        self._switches = Switches(objects[1]) if options.off_cpu else None

    def attach(self) -> None:
        """Begin.

        Raises:
            KernelError: The kernel refuses.
        """
        if self._has_ticks:
            self._ticks.attach()
        if self._switches:
            self._switches.enable()

    def enable(self, on: bool = True) -> None:
        """Switch all of it on or off; it is on when it is attached."""
        self._ticks.enable(on)
        if self._switches:
            self._switches.enable(on)

    def refresh(self) -> None:
        """Follow CPUs that came or went since the last call."""
        if self._has_ticks:
            self._ticks.refresh()

    def disable(self) -> None:
        """End; `waiting` and `throttled` still tell."""
        self._ticks.disable()
        if self._switches:
            self._switches.disable()

    def throttled(self) -> tuple[int, float]:
        """Tell how many ticks the kernel left out, and their share."""
        return self._ticks.throttled()

    def waiting(self, now_ns: int = 0) -> list[Sample]:
        """List threads that left a CPU and were not seen on one since (`time_ns`).

        With `now_ns`, those that have waited for as long as counts.
        """
        found = self._switches.waiting() if self._switches else []
        return [each for each in found if not now_ns or now_ns - each.time_ns >= self._min_ns]

    @property
    def frequency_hz(self) -> int:
        """How often a CPU is sampled now."""
        return self._ticks.frequency_hz

    def set_frequency(self, frequency_hz: int) -> None:
        """Sample CPUs more or less often from now on."""
        self._ticks.set_frequency(frequency_hz)

    @property
    def is_enabled(self) -> bool:
        """Whether it is switched on."""
        return self._ticks.is_enabled

    @property
    def cpus(self) -> list[int]:
        """The CPUs whose ticks are sampled."""
        return self._ticks.cpus

    def close(self) -> None:
        """Give everything back."""
        self.disable()
        self._ticks.close()

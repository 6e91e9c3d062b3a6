# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""See how the running kernel keeps a thread: a perf event on a spinning thread of ours.

BTF knows where `task_struct.stack` is, but not how far above it the kernel puts
the registers of user mode. That distance is measured here, on every kernel: at
a tick in user mode the perf event's registers are exactly those.
"""

from __future__ import annotations

import platform
import struct
import time
from dataclasses import dataclass

from otelagent.abi._generated import Limit
from otelagent.bpf.links import Rate, close_event, open_sampling, spin
from otelagent.bpf.maps import ArrayMap
from otelagent.bpf.object import BpfObject, object_path
from otelagent.errors import AttachFailed, MissingFeature

_HEAD = struct.Struct("=QQIIII272s")
_PERIOD_NS = 200_000
_SPIN_MS = 2
_ROUNDS = 150
"""A loaded machine may not run us for some time: 0.3 s of our own time at most."""

# From the registers to the stack's end: struct pt_regs, and what the kernel keeps
# free behind it. x86-64: 168 bytes, 16 more where it is built for FRED
# (TOP_OF_KERNEL_STACK_PADDING, arch/x86/include/asm/thread_info.h; seen on 7.3);
# arm64: 304 to 384 (arch/arm64/include/asm/ptrace.h).
_REGS_BYTES = {"x86_64": (168, 184), "aarch64": tuple(range(304, 400, 16))}
_STACK_BYTES = (0x4000, 0x8000, 0x10000)
"""THREAD_SIZE: 16 KiB; twice that with KASAN; 64 KiB with 64 KiB pages."""


@dataclass(frozen=True, slots=True)
class Tick:
    """One interruption of our thread.

    Attributes:
        tid: Thread id as the first pid namespace sees it.
        pid: Thread group id, likewise.
        task: Address of its task_struct.
        regs: Address of the interrupted registers.
        registers: Those of user mode, from there (`struct pt_regs`); empty if they were unreadable.
        task_copy: What follows `task`; it may reach beyond the struct.
    """

    tid: int
    pid: int
    task: int
    regs: int
    registers: bytes
    task_copy: bytes

    @property
    def is_user(self) -> bool:
        """Whether user code was interrupted."""
        if not self.registers:
            return False
        if platform.machine() == "aarch64":
            (pstate,) = struct.unpack_from("=Q", self.registers, 33 * 8)
            return int(pstate) & 0xF == 0  # PSR_MODE_EL0t
        (code_segment,) = struct.unpack_from("=Q", self.registers, 17 * 8)
        return int(code_segment) & 3 == 3


def parse_tick(data: bytes) -> Tick:
    """Read a `struct oa_calibration`."""
    task, regs, tid, pid, task_bytes, regs_bytes, registers = _HEAD.unpack_from(data)
    return Tick(
        tid, pid, task, regs, registers[:regs_bytes], data[_HEAD.size : _HEAD.size + task_bytes]
    )


def read_ticks(pid: int = 0) -> list[Tick]:
    """Spin on the calling thread, and collect the ticks that hit it in user mode.

    Args:
        pid: Instead, a busy thread of ours to look at.

    Raises:
        KernelError: The program cannot be loaded or attached, or never ran.
    """
    with BpfObject.open(object_path("calibrate")) as owner:
        owner.load()
        fd = open_sampling(Rate(period=_PERIOD_NS), cpu=-1, pid=pid)
        try:
            link = owner.program("on_calibration_tick").attach_perf_event(fd)
        except AttachFailed:
            close_event(fd)
            raise
        with link:
            for _ in range(_ROUNDS):
                time.sleep(_SPIN_MS / 1000) if pid else spin(_SPIN_MS)
                if count_ticks(owner) >= Limit.CALIBRATION_SLOTS:
                    if any(tick.is_user for tick in take_ticks(owner)):
                        break
                    # On a loaded machine they may all have met us in the kernel.
                    ArrayMap.of(owner, "calibration_ticks")[0] = bytes(4)
        return [tick for tick in take_ticks(owner) if tick.is_user]


def count_ticks(owner: BpfObject) -> int:
    """Count what the loaded calibration object has seen."""
    return int.from_bytes(ArrayMap.of(owner, "calibration_ticks")[0], "little")


def take_ticks(owner: BpfObject) -> list[Tick]:
    """Read what the loaded calibration object has seen."""
    slots = ArrayMap.of(owner, "calibrations")
    return [parse_tick(slots[at]) for at in range(count_ticks(owner))]


def is_plausible_distance(distance: int) -> bool:
    """Tell whether user registers at `distance` above the stack's start end where it ends."""
    sizes = _REGS_BYTES[platform.machine()]
    return any(distance + size == end for size in sizes for end in _STACK_BYTES)


def find_regs_distance(ticks: list[Tick], task_stack: int) -> int:
    """Get the distance from `task->stack` to the user's registers, the same at all ticks.

    Raises:
        MissingFeature: The ticks do not agree, or the registers are not at the stack's end.
    """
    distances: set[int] = set()
    for tick in ticks:
        if task_stack + 8 <= len(tick.task_copy):
            (stack,) = struct.unpack_from("=Q", tick.task_copy, task_stack)
            distances.add(tick.regs - stack)
    good = [distance for distance in distances if is_plausible_distance(distance)]
    if len(good) == 1 == len(distances):
        return good[0]
    seen = ", ".join(map(hex, sorted(distances))) or "nothing"
    raise MissingFeature(
        f"cannot find the user registers on the kernel stack (saw {seen})",
        hint="`otelagent doctor` repeats this; report the kernel version if it stays so",
    )

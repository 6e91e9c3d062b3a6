# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A thread of ours: what the kernel holds of it, and what we know of it otherwise.

So an offset into task_struct can be checked: there must be what /proc, the CPU
or the kernel's own arithmetic says.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.bpf.links import thread_pointer
from otelagent.errors import MissingFeature
from otelagent.kernel.calibration import Tick, is_plausible_distance

if TYPE_CHECKING:
    from collections.abc import Callable

_NS = 10**9
MAX_EXEC_ID = 1 << 32
_TIME_NAMESPACE = Path("/proc/self/timens_offsets")


@dataclass(frozen=True, slots=True)
class Known:
    """One thread.

    `start_ticks` is field 22 of its stat file (since boot, in clock ticks);
    `tls` is 0 where it is not known.
    """

    tick: Tick
    start_ticks: int
    tls: int = 0

    def u32(self, offset: int) -> int:
        """Read 4 bytes of its task_struct."""
        return int.from_bytes(self.tick.task_copy[offset : offset + 4], "little")

    def u64(self, offset: int) -> int:
        """Read 8 bytes of its task_struct."""
        return int.from_bytes(self.tick.task_copy[offset : offset + 8], "little")


def look_here(read: Callable[[], list[Tick]]) -> Known:
    """Look at the calling thread."""
    path = Path(f"/proc/self/task/{threading.get_native_id()}/stat")
    return Known(first(read()), read_start_ticks(path), thread_pointer())


def first(ticks: list[Tick]) -> Tick:
    """Take one, the kernel willing.

    Raises:
        MissingFeature: There is none.
    """
    if not ticks:
        raise MissingFeature("the program never saw our own thread")
    return ticks[0]


def read_start_ticks(path: Path) -> int:
    """Read field 22 of a stat file; the name before it may hold anything."""
    shown = int(path.read_text().rpartition(")")[2].split()[19])
    return shown - boottime_shift_ticks()


def boottime_shift_ticks() -> int:
    """Get by how much our time namespace shifts what /proc shows, in clock ticks."""
    try:
        text = _TIME_NAMESPACE.read_text()
    except OSError:
        return 0  # before Linux 5.6, or without CONFIG_TIME_NS
    for line in text.splitlines():
        name, seconds, ns = line.split()
        if name in {"boottime", "7"}:
            return (int(seconds) * _NS + int(ns)) * os.sysconf("SC_CLK_TCK") // _NS
    return 0


def is_pid(known: Known, offset: int) -> bool:
    """Tell whether its thread id is there."""
    return known.u32(offset) == known.tick.tid


def is_tgid(known: Known, offset: int) -> bool:
    """Tell whether its process's id is there."""
    return known.u32(offset) == known.tick.pid


def is_stack(known: Known, offset: int) -> bool:
    """Tell whether the start of the stack is there at whose end its registers lie."""
    return is_plausible_distance(known.tick.regs - known.u64(offset))


def is_mm(known: Known, offset: int) -> bool:
    """Tell whether `mm` and `active_mm` are there: equal, in the kernel."""
    return known.u64(offset) >> 63 == 1 and known.u64(offset) == known.u64(offset + 8)


def is_leader(known: Known, offset: int) -> bool:
    """Tell whether its first thread is there, which it must be itself."""
    return known.u64(offset) == known.tick.task


def is_start(known: Known, offset: int) -> bool:
    """Tell whether the time is there at which it began, since boot, in ns."""
    return known.u64(offset) * os.sysconf("SC_CLK_TCK") // _NS == known.start_ticks


def is_tls(known: Known, offset: int) -> bool:
    """Tell whether its TLS base is there; anything may be if that is not known."""
    return not known.tls or known.u64(offset) == known.tls


def is_exec_id(known: Known, offset: int) -> bool:
    """Tell whether a small count is there, as `self_exec_id` is one."""
    return known.u64(offset) < MAX_EXEC_ID


CHECKS: dict[str, Callable[[Known, int], bool]] = {
    "task_stack": is_stack,
    "task_mm": is_mm,
    "task_pid": is_pid,
    "task_tgid": is_tgid,
    "task_group_leader": is_leader,
    "task_start_boottime": is_start,
    "task_self_exec_id": is_exec_id,
    "task_tls": is_tls,
}
"""By the names of `struct oa_config`; for a process's first thread."""


def find_contradictions(known: Known, offsets: dict[str, int]) -> list[str]:
    """List the fields that do not hold what the thread has; those beyond its copy are left out."""
    size = len(known.tick.task_copy)
    return [
        name
        for name, offset in offsets.items()
        if offset + 16 <= size and not CHECKS[name](known, offset)
    ]

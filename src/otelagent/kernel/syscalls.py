# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""See how the running kernel keeps a thread: as one of ours enters a system call.

Only where there is no BTF. The raw tracepoint `sys_enter` is there without
CONFIG_FTRACE_SYSCALLS and needs no tracefs; `syscalls/sys_enter_read` needs both.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.bpf.links import close_event, open_tracepoint
from otelagent.bpf.maps import ArrayMap
from otelagent.bpf.object import BpfObject, object_path
from otelagent.errors import AttachFailed, MissingFeature
from otelagent.host.tracefs import find_event
from otelagent.kernel.calibration import Tick, count_ticks, take_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.bpf.object import Link

_ENOUGH = 2
_ROUNDS = 100
"""A child may not run for some time on a loaded machine: 0.5 s of waiting at most."""


def read_raw_entries(pid: int = 0) -> list[Tick]:
    """Look at the calling thread, or a child that reads without end, by the raw tracepoint.

    Raises:
        KernelError: The program cannot be loaded or attached.
    """
    with _loaded("on_sys_enter") as owner:
        return _watch(owner, owner.program("on_sys_enter").attach_raw_tracepoint("sys_enter"), pid)


def read_entries(pid: int = 0) -> list[Tick]:
    """Look at the calling thread, or a child that reads without end, by `syscalls/…`.

    Raises:
        KernelError: There is no such tracepoint, or it cannot be used.
    """
    number = find_event("syscalls", "sys_enter_read")
    if number is None:
        raise MissingFeature("no tracepoint syscalls/sys_enter_read (CONFIG_FTRACE_SYSCALLS)")
    with _loaded("on_syscall_read") as owner:
        fd = open_tracepoint(number, "syscalls:sys_enter_read")
        try:
            link = owner.program("on_syscall_read").attach_perf_event(fd)
        except AttachFailed:
            close_event(fd)
            raise
        return _watch(owner, link, pid)


@contextmanager
def _loaded(program: str) -> Iterator[BpfObject]:
    with BpfObject.open(object_path("calibrate")) as owner:
        owner.set_autoload("on_calibration_tick", on=False)
        owner.set_autoload(program, on=True)
        owner.load()
        yield owner


def _watch(owner: BpfObject, link: Link, pid: int) -> list[Tick]:
    """Wait for the thread's system calls; none in a pid namespace, where numbers differ."""
    tid = pid or threading.get_native_id()
    with link, Path("/dev/zero").open("rb", buffering=0) as zero:
        ArrayMap.of(owner, "calibration_target")[0] = tid.to_bytes(4, "little")
        for _ in range(_ROUNDS):
            zero.read(1)
            if count_ticks(owner) >= _ENOUGH:
                break
            if pid:
                time.sleep(0.005)
    return take_ticks(owner)

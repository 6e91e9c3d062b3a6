# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the running kernel can do, by trying it; each probe runs once, when it is asked for.

Features are never guessed from the version. The names are those that the
integration tests use in `@needs("bpf_loop")`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from otelagent.bpf.btf import VMLINUX
from otelagent.bpf.links import Rate, close_event, open_sampling
from otelagent.bpf.maps import MapType, OwnHashMap, OwnMap, create_map, has_batch_operations
from otelagent.bpf.object import BpfObject, object_path
from otelagent.bpf.sideband import Sideband
from otelagent.errors import KernelError, MissingFeature
from otelagent.host.tracefs import find_event, open_tracefs

if TYPE_CHECKING:
    from collections.abc import Callable

_RING_BYTES = 4096 * 16
"""A ring is whole pages, whatever their size (up to 64 KiB), and a power of two."""
_BPF_F_NO_PREALLOC = 1
_EVENT_SOURCES = Path("/sys/bus/event_source/devices")


@dataclass(frozen=True, slots=True)
class KernelFeatures:
    """Everything that is probed, at one moment.

    Attributes:
        bpf: Maps can be made and programs loaded at all.
        ring_buffer: BPF_MAP_TYPE_RINGBUF (Linux 5.8).
        lpm_trie: BPF_MAP_TYPE_LPM_TRIE.
        hash_batch: Batch operations on hash maps.
        lpm_batch: Batch operations on tries.
        bpf_loop: `bpf_loop` together with tail calls (Linux 5.17; arm64 6.0).
        cpu_clock: Perf events by the CPU's timer.
        cycles: Perf events by the CPU's cycle counter.
        sideband: Perf tells of processes: mappings, exec, fork, exit.
        ksymbol: The side-band tells of kernel symbols (Linux 5.1).
        raw_tracepoint: Programs at raw tracepoints.
        tracefs: The list of tracepoints, mounted or to be mounted privately.
        syscall_tracepoints: Tracepoints of each system call (CONFIG_FTRACE_SYSCALLS).
        kprobe: Programs at functions of the kernel.
        uprobe: Programs at functions of processes.
        btf: The kernel has BTF of itself.
        tp_btf: Programs at tracepoints with typed arguments; needs the kernel's own BTF.
        fentry: Programs at the kernel's functions by trampolines; needs the kernel's own BTF.
    """

    bpf: bool
    ring_buffer: bool
    lpm_trie: bool
    hash_batch: bool
    lpm_batch: bool
    bpf_loop: bool
    cpu_clock: bool
    cycles: bool
    sideband: bool
    ksymbol: bool
    raw_tracepoint: bool
    tracefs: bool
    syscall_tracepoints: bool
    kprobe: bool
    uprobe: bool
    btf: bool
    tp_btf: bool
    fentry: bool


def probe_features() -> KernelFeatures:
    """Try everything; some milliseconds."""
    return KernelFeatures(
        **{field.name: has_feature(field.name) for field in fields(KernelFeatures)}
    )


@cache
def has_feature(name: str) -> bool:
    """Try one feature, named as in `KernelFeatures`.

    Without privilege nothing that needs it is there.
    """
    return _PROBES[name]()


def _has_map(kind: MapType, sizes: tuple[int, int, int], flags: int = 0) -> bool:
    try:
        OwnMap(create_map(kind, "oa_probe", sizes, flags)).close()
    except KernelError:
        return False
    return True


def _has_batch(kind: MapType, flags: int = 0) -> bool:
    try:
        probe = OwnHashMap(create_map(kind, "oa_probe", (8, 8, 4), flags))
    except KernelError:
        return False
    try:
        return has_batch_operations(probe)
    finally:
        probe.close()


def _has_bpf_loop() -> bool:
    try:
        with BpfObject.open(object_path("calibrate")) as owner:
            owner.set_autoload("on_calibration_tick", on=False)
            owner.set_autoload("probe_loop", on=True)
            owner.load()
    except KernelError:
        return False
    return True


def _has_event(rate: Rate) -> bool:
    try:
        close_event(open_sampling(rate, cpu=-1, pid=0))
    except KernelError:
        return False
    return True


def _has_sideband(*, with_ksymbol: bool) -> bool:
    sideband = Sideband(pid=os.getpid(), pages=1)
    try:
        sideband.open()
    except KernelError:
        return False
    else:
        return sideband.has_ksymbol or not with_ksymbol
    finally:
        sideband.close()


def _can_attach(program: str, raw_tracepoint: str = "") -> bool:
    try:
        with BpfObject.open(object_path("calibrate")) as owner:
            owner.set_autoload("on_calibration_tick", on=False)
            owner.set_autoload(program, on=True)
            owner.load()
            probe = owner.program(program)
            if raw_tracepoint:
                probe.attach_raw_tracepoint(raw_tracepoint).close()
            else:
                probe.attach().close()
    except KernelError:
        return False
    return True


def _has_tracefs() -> bool:
    try:
        with open_tracefs():
            return True
    except MissingFeature:
        return False


def _has_syscall_tracepoints() -> bool:
    try:
        return find_event("syscalls", "sys_enter_read") is not None
    except MissingFeature:
        return False


_PROBES: dict[str, Callable[[], bool]] = {
    "bpf": lambda: _has_map(MapType.ARRAY, (4, 8, 1)),
    "ring_buffer": lambda: _has_map(MapType.RINGBUF, (0, 0, _RING_BYTES)),
    "lpm_trie": lambda: _has_map(MapType.LPM_TRIE, (8, 8, 4), _BPF_F_NO_PREALLOC),
    "hash_batch": lambda: _has_batch(MapType.HASH),
    "lpm_batch": lambda: _has_batch(MapType.LPM_TRIE, _BPF_F_NO_PREALLOC),
    "bpf_loop": _has_bpf_loop,
    "cpu_clock": lambda: _has_event(Rate(frequency_hz=99)),
    "cycles": lambda: _has_event(Rate(period=1_000_000, is_hardware=True)),
    "sideband": lambda: _has_sideband(with_ksymbol=False),
    "ksymbol": lambda: _has_sideband(with_ksymbol=True),
    "raw_tracepoint": lambda: _can_attach("probe_raw_tracepoint", "sched_process_free"),
    "tracefs": _has_tracefs,
    "syscall_tracepoints": _has_syscall_tracepoints,
    "kprobe": (_EVENT_SOURCES / "kprobe").exists,
    "uprobe": (_EVENT_SOURCES / "uprobe").exists,
    "btf": VMLINUX.exists,
    "tp_btf": lambda: VMLINUX.exists() and _can_attach("probe_tp_btf"),
    "fentry": lambda: VMLINUX.exists() and _can_attach("probe_fentry"),
}

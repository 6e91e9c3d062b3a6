# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""From what is asked for and what the kernel has to one loaded profiler object.

The only place that decides which programs are loaded and how large maps are.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent._native import ffi
from otelagent.abi._generated import Limit, TargetMode, Unwinder
from otelagent.bpf.maps import ProgArray
from otelagent.bpf.object import BpfObject, object_path, possible_cpus
from otelagent.errors import AttachFailed
from otelagent.host.pointers import read_pac_mask
from otelagent.kernel.nofault import require_safe_reads
from otelagent.kernel.offsets import find_offsets
from otelagent.log import fields

if TYPE_CHECKING:
    from collections.abc import Container, Mapping
    from pathlib import Path

    from otelagent.bpf.object import Link
    from otelagent.kernel.offsets import KernelOffsets
    from otelagent.options import Options

_log = logging.getLogger(__name__)
_EVENTS = {
    "on_fork": "sched_process_fork",
    "on_exec": "sched_process_exec",
    "on_free": "sched_process_free",
}
_UNWINDERS = {
    Unwinder.NATIVE: "unwind_native",
    Unwinder.PYTHON: "unwind_python",
    Unwinder.STOP: "unwind_stop",
}
_ALWAYS = (Unwinder.NATIVE, Unwinder.STOP)
"""Loaded at once; those of runtimes when the first one is met (`load_unwinder`)."""
_TAIL_CALLS = "unwinders"
"""The map of them; programs of one type alone may be in it, so each object has its own."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What is asked for.

    Attributes:
        everything: The whole system; else the target set and cgroups.
        processes: How many processes to size maps for.
        mappings: How many entries of the look-up trie at most.
        ring_bytes: Size of the ring, a power of two.
        log_level: What the verifier is to tell.
        switch_chance: Follow so many of a target's switches (0 to 1): off-CPU.
        wait_min_ns: Leave out what waited for less.
        waits: How many threads may wait at once.
    """

    frequency_hz: int
    everything: bool
    max_frames: int
    cgroups: int = 0
    processes: int = 4096
    mappings: int = 1 << 19
    pages: int = 1 << 16
    ring_bytes: int = 4 << 20
    known_sets: int = 4096
    idle: bool = False
    log_level: int = 0
    deferred_per_second: int = 256
    deferred_burst: int = 4096
    report_interval_ms: int = 20
    switch_chance: float = 0.0
    wait_min_ns: int = 0
    waits: int = 1 << 14


@dataclass(frozen=True, slots=True)
class Plan:
    """What is loaded, and how.

    Attributes:
        wish: What is asked for.
        offsets: What is known of the kernel.
        has_loop: Whether the kernel has `bpf_loop`.
    """

    wish: Wish
    offsets: KernelOffsets
    has_loop: bool


def wish_of(options: Options) -> Wish:
    """Say what options ask for."""
    plain = Wish(options.frequency_hz, options.everything, options.max_frames)
    return replace(
        plain,
        cgroups=len(options.cgroups),
        idle=options.idle,
        log_level=options.bpf_log_level,
        processes=plain.processes << options.map_scale,
        mappings=plain.mappings << options.map_scale,
        pages=plain.pages << options.map_scale,
        known_sets=plain.known_sets << options.map_scale,
        waits=plain.waits << options.map_scale,
        switch_chance=options.off_cpu.chance if options.off_cpu else 0.0,
        wait_min_ns=options.off_cpu.min_ns if options.off_cpu else 0,
    )


def learn(btf_path: Path | None, *, check: bool) -> KernelOffsets:
    """Find out what must be known of the running kernel before anything is loaded.

    Args:
        btf_path: A BTF file of this kernel, if one was given.
        check: Refuse a kernel that can freeze when memory is read.

    Raises:
        KernelError: It must not or cannot be profiled; or a privilege is missing.
    """
    if check:
        require_safe_reads()
    return find_offsets(btf_path)


def make_config(wish: Wish, offsets: KernelOffsets) -> bytes:
    """Fill `struct oa_config`."""
    config = ffi.new("struct oa_config *")
    for name, value in offsets.config_fields().items():
        setattr(config, name, value)
    config.period_weight = 1_000_000_000 // wish.frequency_hz
    config.self_pid = os.getpid()
    config.target_mode = TargetMode.ALL if wish.everything else TargetMode.SET
    config.cgroups = wish.cgroups
    config.max_user_frames = wish.max_frames
    config.pac_mask = read_pac_mask()
    config.cpus = possible_cpus()
    config.known_sets = wish.known_sets
    config.idle = wish.idle
    config.deferred_per_second = wish.deferred_per_second
    config.deferred_burst = wish.deferred_burst
    config.report_interval_ms = wish.report_interval_ms
    config.switch_chance = round(wish.switch_chance * (1 << 32))
    config.wait_min_ns = wish.wait_min_ns
    config.wake_bytes = wish.ring_bytes // 4
    return bytes(ffi.buffer(config))


def attach_events(bpf: BpfObject) -> list[Link]:
    """Attach what keeps the target set exact: fork, exec and the end of processes.

    Where raw tracepoints are refused nothing is attached, the caller is to follow
    processes itself, and a warning says what is lost.
    """
    links: list[Link] = []
    for program, tracepoint in _EVENTS.items():
        try:
            links.append(bpf.program(program).attach_raw_tracepoint(tracepoint))
        except AttachFailed as err:
            for link in links:
                link.close()
            lost = "children of targets are sampled some ms after their start"
            _log.warning("%s", fields(f"{err}: {lost}", hint=err.hint))
            return []
    return links


def load(plan: Plan) -> BpfObject:
    """Load the profiler.

    Raises:
        KernelError: The kernel refused it.
    """
    wish = plan.wish
    sizes = {
        "states": possible_cpus(),
        "deferred_stacks": possible_cpus(),
        "events": wish.ring_bytes,
        "known_traces": wish.known_sets,
        "targets": wish.processes,
        "processes": wish.processes,
        "python_procs": wish.processes,
        "mappings": wish.mappings,
        "pages": wish.pages,
        "rules": Limit.MAX_RULES,
    }
    return load_object(plan, "profiler", sizes)


def load_object(
    plan: Plan, name: str, sizes: Mapping[str, int], lender: BpfObject | None = None
) -> BpfObject:
    """Load an object that has the unwinders, and fill its tail-call table.

    Args:
        plan: How.
        name: Of the object.
        sizes: Entries of maps.
        lender: A loaded object, of which all maps without a size here are used.

    Raises:
        KernelError: The kernel refused it.
    """
    bpf = _open(plan, object_path(name))
    try:
        for each in _UNWINDERS:
            for has_loop in (False, True):
                wanted = each in _ALWAYS and has_loop is plan.has_loop
                bpf.set_autoload(_program(each, has_loop=has_loop), wanted)
        if lender:
            _borrow(bpf, lender, {*sizes, _TAIL_CALLS})
        for map_name, entries in sizes.items():
            bpf.set_max_entries(map_name, entries)
        bpf.load()
        for each in _ALWAYS:
            _call(bpf, each, bpf, has_loop=plan.has_loop)
    except BaseException:
        bpf.close()
        raise
    return bpf


def load_unwinder(plan: Plan, unwinder: Unwinder, caller: BpfObject) -> BpfObject:
    """Load one more unwinder for the programs of a loaded object, whose table keeps it.

    The file of that object is opened once more, since libbpf loads an object only once.

    Returns:
        What was loaded; it may be closed at once.

    Raises:
        KernelError: The kernel refused it.
    """
    bpf = _open(plan, caller.path)
    try:
        program = _program(unwinder, has_loop=plan.has_loop)
        for each in bpf.programs():
            bpf.set_autoload(each, each == program)
        _borrow(bpf, caller, ())
        bpf.load()
        _call(caller, unwinder, bpf, has_loop=plan.has_loop)
    except BaseException:
        bpf.close()
        raise
    return bpf


def tell_log(plan: Plan, bpf: BpfObject) -> None:
    """Say what the verifier said to an object, if that was asked for."""
    if plan.wish.log_level:
        _log.warning("%s: %s", bpf.path.name, bpf.log)


def _open(plan: Plan, path: Path) -> BpfObject:
    """Open and configure an object."""
    bpf = BpfObject.open(path)
    try:
        if plan.wish.log_level:
            bpf.want_log(plan.wish.log_level)
        bpf.set_variable("config", make_config(plan.wish, plan.offsets))
    except BaseException:
        bpf.close()
        raise
    return bpf


def _borrow(bpf: BpfObject, lender: BpfObject, own: Container[str]) -> None:
    """Use all maps of another object but for some, and for constants."""
    for each in bpf.maps():
        if each not in own and not each.endswith(".rodata"):
            bpf.use_map(each, lender)


def _program(unwinder: Unwinder, *, has_loop: bool) -> str:
    """Name one of the two forms of an unwinder."""
    return _UNWINDERS[unwinder] + ("_loop" if has_loop else "")


def _call(caller: BpfObject, unwinder: Unwinder, owner: BpfObject, *, has_loop: bool) -> None:
    """Let the programs of one object call an unwinder of another, or of its own."""
    table = ProgArray.of(caller, _TAIL_CALLS)
    table[unwinder] = owner.program(_program(unwinder, has_loop=has_loop)).fd

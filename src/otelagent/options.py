# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a profiler is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DEFAULT_FRAMES = 1024
FREQUENCY_HELP = "Samples per second and CPU."
FRAMES_HELP = "User frames kept of a stack, the newest."
NO_SYMBOLS_HELP = "Leave native frames without names; report names them later."
BTF_HELP = "The kernel's types, where it has none itself."
NO_CHECK_HELP = "Run on kernels that may freeze, too (5.19 to 6.3)."
MAX_HZ, MAX_FRAMES = 10_000, 1024


class OffCpu(NamedTuple):
    """Which waits: those of so many of a target's switches (0 to 1), each at least so long."""

    chance: float = 1.0
    min_ns: int = 1000


def _do_nothing() -> None:
    pass


@dataclass(frozen=True, slots=True)
class Options:
    """What to profile, and how.

    Attributes:
        pids: Thread groups, with the children they will have.
        held_pid: A process that is sampled, likewise, from its next exec on.
        held_argv: What it will exec (a path, or a name to look for on PATH), and the arguments.
        cgroups: Directories of cgroups in the unified tree.
        everything: The whole system.
        on_cpu: Sample what runs.
        off_cpu: Follow what waits.
        check_kernel: Refuse kernels that can freeze (`kernel/nofault.py`).
        python: Unwind Python frames; else what interprets them is shown.
        cpus: CPUs that are sampled; empty: all.
        idle: Sample CPUs that have nothing to do, too.
        error_frames: End a stack that was cut short with a frame that says why.
        map_scale: Maps have room for 2 to the power of this times as much.
        bpf_log_level: What the verifier tells (0: nothing, 1 or 2), as a warning.
        on_loaded: Called when programs are loaded and before any thread is started.
        cache_directory: Where unwind rows and line tables are kept; None: the usual place.
    """

    frequency_hz: int = 99
    pids: tuple[int, ...] = ()
    held_pid: int = 0
    held_argv: tuple[str, ...] = ()
    cgroups: tuple[Path, ...] = ()
    everything: bool = False
    max_frames: int = DEFAULT_FRAMES
    use_cycles: bool = False
    btf_path: Path | None = None
    symbols: bool = True
    debuginfod: str = ""
    bounded: bool = False
    on_cpu: bool = True
    off_cpu: OffCpu | None = None
    check_kernel: bool = True
    python: bool = True
    cpus: tuple[int, ...] = ()
    idle: bool = False
    error_frames: bool = False
    map_scale: int = 0
    bpf_log_level: int = 0
    cache_directory: Path | None = None
    on_loaded: Callable[[], None] = _do_nothing

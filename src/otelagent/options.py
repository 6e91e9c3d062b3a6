# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a profiler is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """What to profile, and how.

    Attributes:
        pids: Thread groups, with the children they will have.
        held_pid: A process that is sampled, likewise, from its next exec on.
        held_argv: What it will exec (a path, or a name to look for on PATH), and the arguments.
        cgroups: Directories of cgroups in the unified tree.
        everything: The whole system.
        check_kernel: Refuse kernels that can freeze (`kernel/nofault.py`).
    """

    frequency_hz: int = 99
    pids: tuple[int, ...] = ()
    held_pid: int = 0
    held_argv: tuple[str, ...] = ()
    cgroups: tuple[Path, ...] = ()
    everything: bool = False
    max_frames: int = 1024
    use_cycles: bool = False
    btf_path: Path | None = None
    symbols: bool = True
    debuginfod: str = ""
    bounded: bool = False
    check_kernel: bool = True

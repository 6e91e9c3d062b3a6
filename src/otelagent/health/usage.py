# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What this process and its children cost the machine."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

_STATM, _FDS = Path("/proc/self/statm"), Path("/proc/self/fd")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU in seconds since the start, with that of children that ended; memory in bytes."""

    user_s: float
    system_s: float
    resident_bytes: int
    virtual_bytes: int
    open_files: int

    @property
    def cpu_s(self) -> float:
        """User and system time."""
        return self.user_s + self.system_s


def read_cpu() -> tuple[float, float]:
    """Read user and system time (s) of this process and of its children that ended."""
    own, children = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + children.ru_utime, own.ru_stime + children.ru_stime


def read_usage() -> Usage:
    """Read what this process uses."""
    page = os.sysconf("SC_PAGE_SIZE")
    virtual, resident = (int(word) * page for word in _STATM.read_text().split()[:2])
    # One of them is that of the directory itself.
    return Usage(*read_cpu(), resident, virtual, len(os.listdir(_FDS)) - 1)  # noqa: PTH208

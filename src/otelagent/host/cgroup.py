# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Cgroups: where the unified tree is mounted, and what a path in it means."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from otelagent.errors import AgentError

_MOUNTINFO = Path("/proc/self/mountinfo")
_ESCAPE = re.compile(r"\\([0-7]{3})")  # of blanks and the like in a path


@dataclass(frozen=True, slots=True)
class Cgroup:
    """A cgroup that was asked for; `is_unified` when BPF can follow it by itself."""

    path: Path
    is_unified: bool

    def pids(self) -> list[int]:
        """List the processes in it and below; those that end meanwhile may be missing."""
        found: list[int] = []
        for directory, _, _ in os.walk(self.path):
            try:
                text = Path(directory, "cgroup.procs").read_text()
            except OSError:
                continue  # removed meanwhile
            found.extend(int(line) for line in text.split() if line != "0")
        return found


def mounts(mountinfo: str) -> list[tuple[Path, bool]]:
    """List cgroup mounts: (mount point, is it the unified tree)."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ")[0]
        if kind in {"cgroup", "cgroup2"}:
            point = _ESCAPE.sub(lambda octal: chr(int(octal[1], 8)), before.split(" ")[4])
            found.append((Path(point), kind == "cgroup2"))
    return found


def find_cgroup(name: str) -> Cgroup:
    """Find a cgroup by its directory, or by its path below the mount point.

    Raises:
        AgentError: There is no such cgroup.
    """
    known = mounts(_MOUNTINFO.read_text())
    known.sort(key=lambda mount: (not mount[1], -len(mount[0].parts)))
    asked = Path(name)
    for point, is_unified in known:
        if asked.is_relative_to(point) and (asked / "cgroup.procs").exists():
            return Cgroup(asked, is_unified)
    for point, is_unified in known:
        path = point / name.lstrip("/")
        if (path / "cgroup.procs").exists():
            return Cgroup(path, is_unified)
    places = ", ".join(str(point) for point, _ in known[:3]) or "no place: none is mounted"
    raise AgentError(f"there is no cgroup {name}", hint=f"cgroups are mounted at {places}")

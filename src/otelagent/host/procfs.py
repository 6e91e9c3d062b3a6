# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What /proc says of processes that already ran when we came."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from otelagent.errors import ProcessGone, TargetError
from otelagent.formats.proc_maps import MappedRange, parse_executable

_MAX_MAPS_BYTES = 256 << 20
_VDSO = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", re.MULTILINE)


def read_maps(pid: int) -> list[MappedRange]:
    """Read the executable mappings of a process, also when its first thread has ended.

    Raises:
        ProcessGone: It ended.
        TargetError: It may not be read.
    """
    try:
        found = list(parse_executable(_read(Path(f"/proc/{pid}/maps"))))
        if found:
            return found
        # The maps of a process whose leader has exited are those of its other threads.
        for task in Path(f"/proc/{pid}/task").iterdir():
            found = list(parse_executable(_read(task / "maps")))
            if found:
                return found
    except (FileNotFoundError, ProcessLookupError) as err:
        raise ProcessGone(f"process {pid} is gone") from err
    except PermissionError as err:
        hint = "run as root or grant CAP_SYS_PTRACE"
        raise TargetError(f"mappings of process {pid} may not be read", hint=hint) from err
    return []


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MAX_MAPS_BYTES)


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for its parent to take its status."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
        if stat.rpartition(b")")[2].split()[0] not in {b"Z", b"X"}:
            return False
        # A process whose first thread has ended is a zombie too while others run.
        return len(os.listdir(f"/proc/{pid}/task")) <= 1  # noqa: PTH208 (names only)
    except (FileNotFoundError, ProcessLookupError):
        return True


def leader_of(tid: int) -> int:
    """Give the process that a thread belongs to; itself for a process.

    Raises:
        ProcessGone: There is no such process or thread.
    """
    try:
        status = Path(f"/proc/{tid}/status").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as err:
        raise ProcessGone(f"there is no process {tid}") from err
    found = re.search(rb"^Tgid:\s*(\d+)$", status, re.MULTILINE)
    return int(found[1]) if found else tid


def is_kernel_thread(pid: int) -> bool:
    """Tell a kernel thread: it has no memory of its own, so no executable.

    Raises:
        ProcessGone: There is no such process.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError) as err:
        raise ProcessGone(f"there is no process {pid}") from err
    flags = int(stat.rpartition(b")")[2].split()[6])
    return bool(flags & 0x00200000)  # PF_KTHREAD, include/linux/sched.h


def read_comm(pid: int) -> str:
    """Read a process's name; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def read_vdso() -> bytes:
    """Copy the vDSO out of our own memory.

    Raises:
        TargetError: This process has none.
    """
    match = _VDSO.search(Path("/proc/self/maps").read_bytes())
    if match is None:
        raise TargetError("this kernel maps no vDSO")
    start, end = int(match[1], 16), int(match[2], 16)
    return ctypes.string_at(start, end - start)

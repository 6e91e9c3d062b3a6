# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What /proc says of processes that already ran when we came."""

from __future__ import annotations

import ctypes
import os
import re
from pathlib import Path

from otelagent.errors import ProcessGone, TargetError
from otelagent.formats.proc_maps import MappedRange, keep_executable, parse_executable

_MAX_MAPS_BYTES = 256 << 20
_VDSO = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) .*\[vdso\]$", re.MULTILINE)


def read_maps(pid: int) -> list[MappedRange]:
    """Read the executable mappings of a process, also when its first thread has ended.

    Raises:
        ProcessGone: It ended.
        TargetError: It may not be read.
    """
    found = _parse(pid)
    if not found and (other := other_thread(pid)):
        found = _parse(other)
    return found


def _parse(pid: int) -> list[MappedRange]:
    try:
        with Path(f"/proc/{pid}/maps").open("rb") as stream:
            lines = keep_executable(stream.read(_MAX_MAPS_BYTES))
        # By address; a path may have what tells a line of code, which then comes twice.
        return sorted(set(parse_executable(lines)))
    except ProcessLookupError as err:
        # Newer kernels say so of a first thread that has ended before others, too.
        if other_thread(pid):
            return []
        raise ProcessGone(f"process {pid} is gone") from err
    except FileNotFoundError as err:
        raise ProcessGone(f"process {pid} is gone") from err
    except PermissionError as err:
        hint = "run as root or grant CAP_SYS_PTRACE"
        raise TargetError(f"mappings of process {pid} may not be read", hint=hint) from err


def other_thread(pid: int) -> int:
    """Find a thread of a process whose first thread has ended; 0 if that still runs.

    What /proc says of such a process's memory and root, it says of its other threads only.
    """
    try:
        if not _is_zombie(pid):
            return 0
        tids = (int(each.name) for each in Path(f"/proc/{pid}/task").iterdir())
        return next((tid for tid in tids if tid != pid and not _is_zombie(tid)), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _is_zombie(tid: int) -> bool:
    stat = Path(f"/proc/{tid}/stat").read_bytes()
    return stat.rpartition(b")")[2].split()[0] in {b"Z", b"X"}


def has_ended(pid: int) -> bool:
    """Tell whether a process is gone, or only waits for its parent to take its status."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # somebody else's
    try:
        if not _is_zombie(pid):
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

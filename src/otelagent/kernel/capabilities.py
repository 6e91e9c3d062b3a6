# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which capabilities this process has, which it needs, and what for.

Numbers: include/uapi/linux/capability.h. CAP_SYS_ADMIN stands in for CAP_BPF and
CAP_PERFMON (Linux a17b53c4a4b5, "bpf, capability: Introduce CAP_BPF", v5.8).
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from otelagent._native import lib
from otelagent.errors import KernelError, NotPermitted
from otelagent.formats.proc_status import effective_capabilities
from otelagent.log import fields

_log = logging.getLogger(__name__)
_STATUS = Path("/proc/self/status")
_PARANOID = Path("/proc/sys/kernel/perf_event_paranoid")
_MOST_PARANOID = 2
"""Of the mainline kernel. Debian's has 3 as its default, and asks for CAP_SYS_ADMIN then
("security,perf: Allow further restriction of perf_event_open"); CAP_PERFMON does not do."""

_DAC_OVERRIDE = 1
_CHECKPOINT_RESTORE = 40
_DAC_READ_SEARCH, _SYS_PTRACE, _SYS_ADMIN, _SYS_RESOURCE, _SYSLOG = 2, 19, 21, 24, 34
_PERFMON, _BPF = 38, 39
NEEDED = {
    _BPF: ("CAP_BPF", "to load BPF programs"),
    _PERFMON: ("CAP_PERFMON", "to sample and to read memory"),
    _SYS_PTRACE: ("CAP_SYS_PTRACE", "to open the files of other users' processes"),
}
GOOD = ("CAP_SYS_PTRACE",)
"""Without these it works, and results are worse."""
USEFUL = {
    _DAC_READ_SEARCH: ("CAP_DAC_READ_SEARCH", "to read programs that only their users may read"),
    _SYSLOG: ("CAP_SYSLOG", "to name kernel functions where kernel.kptr_restrict is 1"),
    _SYS_RESOURCE: ("CAP_SYS_RESOURCE", "to raise limits: open files; memlock before Linux 5.11"),
    _SYS_ADMIN: ("CAP_SYS_ADMIN", "to mount tracefs privately where it is not mounted"),
}


def missing(have: int) -> list[tuple[str, str]]:
    """List what is missing: (capability, what it is needed for)."""
    stands_in = {_BPF, _PERFMON} if have >> _SYS_ADMIN & 1 else set()
    return [
        NEEDED[number] for number in NEEDED if not have >> number & 1 and number not in stands_in
    ]


def describe(have: int) -> list[tuple[str, str, bool, bool]]:
    """List all that matter: (capability, what it is for, held or stood in for, needed)."""
    lacking = {name for name, _ in missing(have)}
    rows = [
        (*NEEDED[number], NEEDED[number][0] not in lacking, number != _SYS_PTRACE)
        for number in NEEDED
    ]
    useful = ((*USEFUL[number], bool(have >> number & 1), False) for number in USEFUL)
    return [*rows, *useful]


def may_want_admin(paranoid: Path = _PARANOID) -> bool:
    """Tell whether perf events may be opened by CAP_SYS_ADMIN only."""
    try:
        return int(paranoid.read_text()) > _MOST_PARANOID
    except (OSError, ValueError):
        return False


def still_needed(have: int, *, writes_to_others: bool, wants_admin: bool) -> int:
    """Give the capabilities that sampling needs after its programs are loaded.

    CPUs come and go: their perf events are opened then (PERFMON), rows get further maps (BPF).
    Processes and their files are read all the time (SYS_PTRACE, DAC_READ_SEARCH; links of
    map_files: CHECKPOINT_RESTORE), and kernel symbols when modules come (SYSLOG). What
    SYS_RESOURCE and SYS_ADMIN are for is done at the start; but that SYS_ADMIN stays where
    it stands in for one of the others, or where perf events may want it.

    Args:
        have: What is held.
        writes_to_others: Profiles are kept in a directory of somebody else (DAC_OVERRIDE).
        wants_admin: What `may_want_admin` says.
    """
    keep = {_BPF, _PERFMON, _SYS_PTRACE, _DAC_READ_SEARCH, _SYSLOG, _CHECKPOINT_RESTORE}
    stands_in = any(not have >> number & 1 for number in (_BPF, _PERFMON, _CHECKPOINT_RESTORE))
    if stands_in or wants_admin:
        keep.add(_SYS_ADMIN)
    if writes_to_others:
        keep.add(_DAC_OVERRIDE)
    return have & sum(1 << number for number in keep)


def keep(capabilities: int) -> None:
    """Give up all other capabilities for good: of this thread, and of those it starts from now.

    Raises:
        KernelError: The kernel refuses.
    """
    error = int(lib.oa_keep_capabilities(capabilities))
    if error:
        raise KernelError(f"capabilities cannot be given up: {os.strerror(-error)}")


def how_to_grant(names: list[str]) -> str:
    """Say how to run with these capabilities."""
    listed = " ".join(names)
    return f'use sudo, or grant them: systemd-run -t -p User=NAME -p AmbientCapabilities="{listed}"'


def held() -> int:
    """Read what this process holds."""
    return effective_capabilities(_STATUS.read_text())


def require() -> None:
    """Check that sampling is permitted; warn of what makes it worse.

    Raises:
        NotPermitted: A capability is missing without which nothing works; the hint says
            how to grant it.
    """
    lacking = missing(held())
    names = [name for name, _ in lacking]
    if not lacking:
        return
    hint = how_to_grant(names)
    if all(name in GOOD for name in names):
        lost = "the stacks of processes that are not ours to see end at their first frame"
        _log.warning("%s", fields(f"without {names[0]} {lost}", hint=hint))
        return
    what = "; ".join(f"{name} {purpose}" for name, purpose in lacking)
    raise NotPermitted(f"not permitted: this needs {what}", hint=hint)

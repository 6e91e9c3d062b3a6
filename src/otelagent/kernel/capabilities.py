# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Which capabilities this process has, which it needs, and what for.

Numbers: include/uapi/linux/capability.h. CAP_SYS_ADMIN stands in for CAP_BPF and
CAP_PERFMON (Linux a17b53c4a4b5, "bpf, capability: Introduce CAP_BPF", v5.8).
"""

from __future__ import annotations

from pathlib import Path

from otelagent.errors import NotPermitted

_DAC_READ_SEARCH, _SYS_PTRACE, _SYS_ADMIN, _SYS_RESOURCE, _SYSLOG = 2, 19, 21, 24, 34
_PERFMON, _BPF = 38, 39
NEEDED = {
    _BPF: ("CAP_BPF", "to load BPF programs"),
    _PERFMON: ("CAP_PERFMON", "to sample and to read memory"),
    _SYS_PTRACE: ("CAP_SYS_PTRACE", "to open the files of other users' processes"),
}
USEFUL = {
    _DAC_READ_SEARCH: ("CAP_DAC_READ_SEARCH", "to read programs that only their users may read"),
    _SYSLOG: ("CAP_SYSLOG", "to name kernel functions where kernel.kptr_restrict is 1"),
    _SYS_RESOURCE: ("CAP_SYS_RESOURCE", "to raise limits: open files; memlock before Linux 5.11"),
    _SYS_ADMIN: ("CAP_SYS_ADMIN", "to mount tracefs privately where it is not mounted"),
}


def effective(status: str) -> int:
    """Read the effective set out of /proc/PID/status."""
    for line in status.splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def missing(have: int) -> list[tuple[str, str]]:
    """List what is missing: (capability, what it is needed for)."""
    stands_in = {_BPF, _PERFMON} if have >> _SYS_ADMIN & 1 else set()
    return [
        NEEDED[number] for number in NEEDED if not have >> number & 1 and number not in stands_in
    ]


def describe(have: int) -> list[tuple[str, str, bool, bool]]:
    """List all that matter: (capability, what it is for, held or stood in for, needed)."""
    lacking = {name for name, _ in missing(have)}
    rows = [(name, purpose, name not in lacking, True) for name, purpose in NEEDED.values()]
    useful = ((*USEFUL[number], bool(have >> number & 1), False) for number in USEFUL)
    return [*rows, *useful]


def how_to_grant(names: list[str]) -> str:
    """Say how to run with these capabilities."""
    listed = " ".join(names)
    return f'use sudo, or grant them: systemd-run -t -p User=NAME -p AmbientCapabilities="{listed}"'


def require() -> None:
    """Check that sampling is permitted at all.

    Raises:
        NotPermitted: A capability is missing; the hint says how to grant it.
    """
    lacking = missing(effective(Path("/proc/self/status").read_text()))
    if not lacking:
        return
    what = "; ".join(f"{name} {purpose}" for name, purpose in lacking)
    hint = how_to_grant([name for name, _ in lacking])
    raise NotPermitted(f"not permitted: this needs {what}", hint=hint)

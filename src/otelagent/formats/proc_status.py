# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`/proc/PID/status` (Documentation/filesystems/proc.rst): what a process may do."""

from __future__ import annotations


def effective_capabilities(status: str) -> int:
    """Read the effective set, a bit for each of include/uapi/linux/capability.h."""
    return int(_field(status, "CapEff") or "0", 16)


def has_seccomp_filter(status: str) -> bool:
    """Tell whether a filter of system calls applies."""
    return _field(status, "Seccomp") == "2"


def _field(status: str, name: str) -> str:
    for line in status.splitlines():
        found, _, value = line.partition(":")
        if found == name:
            return value.strip()
    return ""

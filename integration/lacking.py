# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Start a program on a machine that lacks something: mounts of its own, denied system calls."""

from __future__ import annotations

import sys
from pathlib import Path

MASK_BTF = "mkdir -p /tmp/empty && mount --bind /tmp/empty /sys/kernel/btf"
# Recursively: debugfs may hold it, and the mount below it would stay.
NO_TRACEFS = "umount -l /sys/kernel/tracing; umount -l /sys/kernel/debug; true"
RAW, SYSCALLS = "raw tracepoint sys_enter", "tracepoint syscalls/sys_enter_read"
TICKS = "perf event on threads of our own"


def lacking(shell="true", deny=()):
    """Build the start of a command line: mounts of its own, and system calls that are denied."""
    script = f'{{ {shell}; }} >/dev/null 2>&1; exec "$@"'
    command = ["unshare", "-m", "sh", "-c", script, "sh"]
    denier = [sys.executable, str(Path(__file__).with_name("deny.py")), *deny, "--"]
    return [*command, *(denier if deny else [])]

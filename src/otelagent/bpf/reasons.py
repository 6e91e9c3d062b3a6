# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn -errno of the C core into exceptions, once, here.

The kernel's BPF side uses numbers that `<errno.h>` lacks (524) or words that
say nothing about BPF; the hint says what to do about them.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

_ENOTSUPP = 524
_WORDS = {
    _ENOTSUPP: "not supported by this kernel (ENOTSUPP)",
    errno.E2BIG: "too large: too many instructions for the verifier, or an unknown field (E2BIG)",
    errno.EINVAL: "invalid argument: this kernel does not know a part of it (EINVAL)",
}
_LOCKDOWN = Path("/sys/kernel/security/lockdown")


def describe(error: int) -> str:
    """Say `error` (positive or negative errno) in words."""
    number = abs(error)
    if number in _WORDS:
        return _WORDS[number]
    return f"{os.strerror(number)} ({errno.errorcode.get(number, number)})"


def is_locked_down(state: str) -> bool:
    """Tell from the text of the lockdown file whether BPF may not read kernel memory."""
    return "[confidentiality]" in state


def read_lockdown() -> str:
    """Read the lockdown state; empty where the kernel has none."""
    try:
        return _LOCKDOWN.read_text()
    except OSError:
        return ""


def hint_for(error: int, lockdown: str | None = None) -> str:
    """Say what to do about a refused BPF call; empty if there is nothing to say."""
    number = abs(error)
    if number in {errno.EPERM, errno.EACCES}:
        state = read_lockdown() if lockdown is None else lockdown
        if is_locked_down(state):
            return "kernel lockdown is in 'confidentiality' mode: boot with lockdown=integrity"
        return "run as root, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
    if number in {errno.ENOMEM, errno.ENOSPC}:
        return "not enough memory for BPF maps: ask for fewer targets, or raise the memory limit"
    if number == errno.E2BIG:
        return "lower --max-frames; if that does not help, report the kernel version"
    if number in {errno.EINVAL, _ENOTSUPP, errno.EOPNOTSUPP}:
        return "`otelagent doctor` shows what this kernel lacks"
    return ""

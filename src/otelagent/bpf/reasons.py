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

from otelagent.formats.proc_status import effective_capabilities, has_seccomp_filter

_ENOTSUPP = 524
_WORDS = {
    _ENOTSUPP: "not supported by this kernel (ENOTSUPP)",
    errno.E2BIG: "too large: too many instructions for the verifier, or an unknown field (E2BIG)",
    errno.EINVAL: "invalid argument: this kernel does not know a part of it (EINVAL)",
}
_STATUS = Path("/proc/self/status")
_SYS_ADMIN, _SYS_RESOURCE, _PERFMON, _BPF = 21, 24, 38, 39  # include/uapi/linux/capability.h
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


def read_status() -> str:
    """Read what /proc says of this process."""
    return _STATUS.read_text()


def refusal_hint(call: str, status: str | None = None) -> str:
    """Say why `call` may be denied to one who has the capabilities for it; else nothing."""
    text = read_status() if status is None else status
    held = effective_capabilities(text)
    if not (held >> _SYS_ADMIN & 1 or (held >> _BPF & 1 and held >> _PERFMON & 1)):
        return ""
    if has_seccomp_filter(text):
        return (
            f"the capabilities are there, but a seccomp filter applies, which may deny {call}: "
            "allow it (containers: --security-opt seccomp=unconfined)"
        )
    if call == "bpf" and not held >> _SYS_RESOURCE & 1:
        return (
            "the capabilities are there: a security module may deny it or, before Linux 5.11, "
            "the limit of locked memory: ulimit -l unlimited, or grant CAP_SYS_RESOURCE"
        )
    return "the capabilities are there, so a security module (SELinux, AppArmor) may deny it"


def _denial_hint(lockdown: str) -> str:
    if is_locked_down(lockdown):
        return "kernel lockdown is in 'confidentiality' mode: boot with lockdown=integrity"
    return refusal_hint("bpf") or (
        "run as root, or grant CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8)"
    )


def hint_for(error: int, lockdown: str | None = None) -> str:
    """Say what to do about a refused BPF call; empty if there is nothing to say."""
    number = abs(error)
    if number in {errno.EPERM, errno.EACCES}:
        return _denial_hint(read_lockdown() if lockdown is None else lockdown)
    if number == errno.ENOSYS:
        return "this kernel has no BPF (CONFIG_BPF_SYSCALL), or a seccomp filter denies it"
    if number in {errno.ENOMEM, errno.ENOSPC}:
        return "not enough memory for BPF maps: ask for fewer targets, or raise the memory limit"
    if number == errno.E2BIG:
        return "lower --max-frames; if that does not help, report the kernel version"
    if number in {errno.EINVAL, _ENOTSUPP, errno.EOPNOTSUPP}:
        return "`otelagent doctor` shows what this kernel lacks"
    return ""

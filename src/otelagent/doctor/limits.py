# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of the kernel, of this process and of cgroups that matter to the profiler."""

from __future__ import annotations

import resource
from pathlib import Path

from otelagent.doctor.report import Limit, Problem, Weight
from otelagent.host.cgroup import mounts

_RATE_HZ = 99
_SYSCTLS = {
    "kernel.perf_event_paranoid": "CAP_PERFMON is above it; 3, 4 (Debian, Ubuntu): CAP_SYS_ADMIN",
    "kernel.perf_event_max_sample_rate": "the most that -F can ask for",
    "kernel.unprivileged_bpf_disabled": "CAP_BPF is above it",
    "kernel.kptr_restrict": "from 1 on kernel names need CAP_SYSLOG; at 2 there are none",
    "net.core.bpf_jit_enable": "0: BPF is interpreted, some ten times slower",
}
_SECCOMP = {"0": "none", "1": "strict", "2": "a filter: it may deny bpf or perf_event_open"}


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _limit(number: int) -> str:
    soft, hard = resource.getrlimit(number)
    return " of ".join(
        "unlimited" if value == resource.RLIM_INFINITY else str(value) for value in (soft, hard)
    )


def examine_limits(root: Path = Path("/")) -> list[Limit]:
    """Read all that is there."""
    found = []
    for name, meaning in _SYSCTLS.items():
        value = _read(root / "proc/sys" / name.replace(".", "/"))
        if value:
            found.append(Limit(name, value, meaning))
    memlock = "BPF maps count against it before Linux 5.11; it is raised then"
    found.append(Limit("memlock", _limit(resource.RLIMIT_MEMLOCK), memlock))
    open_files = "one per CPU and per file of code; it is raised"
    found.append(Limit("open files", _limit(resource.RLIMIT_NOFILE), open_files))
    lockdown = _read(root / "sys/kernel/security/lockdown") or "none"
    found.append(Limit("lockdown", lockdown, "[confidentiality] forbids BPF to read the kernel"))
    for line in _read(root / "proc/self/status").splitlines():
        if line.startswith("Seccomp:"):
            mode = line.split()[1]
            found.append(Limit("seccomp", mode, _SECCOMP.get(mode, "unknown")))
    return found


def find_problems(limits: list[Limit]) -> list[Problem]:
    """Tell which settings make results worse."""
    values = {limit.name: limit.value for limit in limits}
    problems = []
    if values.get("net.core.bpf_jit_enable") == "0":
        hint = "sysctl net.core.bpf_jit_enable=1"
        lost = "each sample costs some ten times as much"
        problems.append(Problem("BPF programs are interpreted", lost, hint, Weight.REDUCED))
    rate = values.get("kernel.perf_event_max_sample_rate", "")
    if rate.isdecimal() and int(rate) < _RATE_HZ:
        hint = f"sysctl kernel.perf_event_max_sample_rate={10 * _RATE_HZ}, or a lower -F"
        lost = f"the default of {_RATE_HZ} samples per second is refused"
        what = f"kernel.perf_event_max_sample_rate is {rate}"
        problems.append(Problem(what, lost, hint, Weight.REDUCED))
    return problems


def examine_cgroups(mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Name the mode: v2, v1, hybrid or none."""
    kinds = {is_unified for _, is_unified in mounts(_read(mountinfo))}
    return {
        frozenset({True}): "v2: --cgroup follows processes that enter later, too",
        frozenset({False}): "v1: --cgroup takes the processes of the moment, and their children",
        frozenset({True, False}): "hybrid: --cgroup follows fully in the v2 tree only",
    }.get(frozenset(kinds), "none mounted: --cgroup is refused")

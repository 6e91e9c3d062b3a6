# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a profiler of the whole system costs in a guest of two busy CPUs: `make bench-guest`.

A deep C program, a Python program and a shell that starts a process twenty times a second
keep both CPUs busy. Each profiler samples them for `SECONDS` at 20 and at 97 Hz. All figures
are taken from outside, the same way for each: its CPU and memory from /proc, the time of its
BPF programs and the memory of its maps from the kernel's lists of both. CPU is of the
`STEADY_S` seconds after it has settled, so without its start and without naming.

`OTELAGENT_BENCH_PEER` is another profiler's command line, `{hz}` in it the frequency; it is
sent SIGINT at the end. Guests are emulated: compare, and do not take times for real ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import platform
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import workload
from kernel_cost import bpf_stats

if TYPE_CHECKING:
    from collections.abc import Iterator

FREQUENCIES_HZ = (20, 97)
SETTLE_S, STEADY_S = 5.0, 12.0
# What is sampled uses what is left of the host's thread: the profiler would take minutes to begin.
NICE = ("nice", "-n", "19")
STORM = ("sh", "-c", "while :; do /bin/true; sleep 0.05; done")
KERNEL = "newest"
OUT = Path("/tmp/out")
_BPF = {"x86_64": 321, "aarch64": 280}[platform.machine()]
# enum bpf_cmd: next id and descriptor of programs and of maps (include/uapi/linux/bpf.h)
_PROGRAMS, _MAPS = (11, 13), (12, 14)
_PERF_EVENT = "7"  # enum bpf_prog_type


def read_all(commands: tuple[int, int]) -> dict[int, dict[str, str]]:
    """Read what the kernel tells of each BPF program or map, by its id."""
    libc = ctypes.CDLL(None, use_errno=True)
    next_id, open_id = commands
    attributes = (ctypes.c_uint32 * 4)()
    found = {}
    while libc.syscall(_BPF, next_id, attributes, 12) == 0:
        number = attributes[1]
        fd = libc.syscall(_BPF, open_id, (ctypes.c_uint32 * 4)(number), 12)
        if fd >= 0:
            found[number] = dict(re.findall(r"(\w+):\s+(\S+)", fdinfo(fd)))
            os.close(fd)
        attributes[0] = number
    return found


def fdinfo(fd: int) -> str:
    return Path(f"/proc/self/fdinfo/{fd}").read_text()


def cpu_s(pid: int) -> float:
    """CPU of a process and of the children that it reaped."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


def sampling_cost(programs: dict[int, dict[str, str]]) -> tuple[int, int]:
    """Time (ns) and runs of programs of perf events; tail calls count for who made them."""
    rows = [row for row in programs.values() if row["prog_type"] == _PERF_EVENT]
    return tuple(sum(int(row.get(key, 0)) for row in rows) for key in ("run_time_ns", "run_cnt"))


def of_new(before: dict[int, dict[str, str]], commands: tuple[int, int]) -> dict:
    return {number: row for number, row in read_all(commands).items() if number not in before}


def measure(name: str, command: list[str], end: signal.Signals | None) -> dict[str, float]:
    """Run one profiler, and look at it from outside."""
    programs, maps = read_all(_PROGRAMS), read_all(_MAPS)
    with tempfile.TemporaryFile("w+") as talk:
        child = subprocess.Popen(command, stdout=talk, stderr=subprocess.STDOUT)
        while not sampling_cost(of_new(programs, _PROGRAMS))[1]:
            if child.poll() is not None:
                talk.seek(0)
                raise RuntimeError(f"{name} ended: {talk.read()[-500:]}")
            time.sleep(0.2)
        time.sleep(SETTLE_S)
        began, cpu = time.monotonic(), cpu_s(child.pid)
        ns, runs = sampling_cost(of_new(programs, _PROGRAMS))
        time.sleep(STEADY_S)
        cpu, seconds = cpu_s(child.pid) - cpu, time.monotonic() - began
        all_ns, all_runs = sampling_cost(of_new(programs, _PROGRAMS))
        status = Path(f"/proc/{child.pid}/status").read_text()
        held = sum(int(row["memlock"]) for row in of_new(maps, _MAPS).values())
        if end:
            child.send_signal(end)
        _, _, usage = os.wait4(child.pid, 0)
        child.returncode = 0
        talk.seek(0)
        said = talk.read()
    figures = {
        "cpu_percent": round(100 * cpu / seconds, 2),
        "cpu_s_of_all": round(usage.ru_utime + usage.ru_stime, 2),
        "bpf_us_per_sample": round((all_ns - ns) / max(1, all_runs - runs) / 1e3, 2),
        "bpf_percent": round((all_ns - ns) / seconds / 1e7, 3),
        "map_mb": round(held / 1e6, 2),
    }
    for key in ("VmRSS", "RssAnon", "VmHWM"):
        figures[f"{key}_mb"] = round(int(status.split(f"{key}:")[1].split()[0]) * 1024 / 1e6, 1)
    if told := re.search(r"(\d+) samples, (\d+) lost.* ([\d.]+) % of \d+ user", said):
        figures |= {"samples": int(told[1]), "lost": int(told[2]), "complete": float(told[3])}
    figures = {f"guest.{name}.{key}": value for key, value in figures.items()}
    for key, value in figures.items():
        print(f"{key:40} {value:10g}", flush=True)
    return figures


@contextlib.contextmanager
def busy() -> Iterator[None]:
    """Keep two CPUs busy."""
    with (
        workload.running((*NICE, workload.build_depth(), "40")),
        workload.running((*NICE, *workload.STEADY, "18")),
        workload.running((*NICE, *STORM)),
    ):
        yield


def boot() -> int:
    """Boot the newest kernel and measure there; what is built is built before, and here."""
    workload.build_depth()
    root = Path(__file__).resolve().parents[1]
    sys.path.append(str(root / "qemu"))
    import matrix

    matrix.prepare([])
    options = ["--kernel", KERNEL, "--cpus", "2", "--timeout", "900", "--out", str(root / "build")]
    options += ["--cache", str(matrix.CACHE)]  # no figure is of reading files for the first time
    if peer := os.environ.get("OTELAGENT_BENCH_PEER", ""):
        options += ["--env", f"OTELAGENT_BENCH_PEER={peer}"]
    run = [sys.executable, str(root / "qemu" / "run.py"), *options, "--", sys.executable, __file__]
    return subprocess.run(run, check=False).returncode


def main() -> int:
    """Measure every profiler at every frequency."""
    if "otelagent.guest" not in Path("/proc/cmdline").read_text():
        return boot()
    figures: dict[str, float] = {}
    seconds = str(SETTLE_S + STEADY_S + 3)
    target = ("--all", "-d", seconds, "-o", "/tmp/guest.otlp", "--force")
    peer = os.environ.get("OTELAGENT_BENCH_PEER", "")
    with bpf_stats(), busy():
        for hz in FREQUENCIES_HZ:
            own = [str(workload.OTELAGENT), "record", "-F", str(hz), *target]
            figures |= measure(f"{hz}hz", own, None)
            if peer:
                command = shlex.split(peer.replace("{hz}", str(hz)))
                figures |= measure(f"peer.{hz}hz", command, signal.SIGINT)
    if OUT.is_dir():
        (OUT / "bench-guest.json").write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

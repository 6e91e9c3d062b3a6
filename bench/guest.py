# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What a profiler of the whole system costs in a guest of two busy CPUs: `make bench-guest`.

A deep C program, a Python program and a shell that starts a process twenty times a second
keep both CPUs busy. Each profiler samples them for `SECONDS` at 20 and at 97 Hz. All figures
are taken from outside, the same way for each: its CPU and memory from /proc, the time of its
BPF programs and the memory of its maps from the kernel's lists of both. CPU is of two windows of
`STEADY_S` seconds, so without its start, and of `record` without naming, too. In the first one
much is still read for the first time, by us and by the peer; in the later one hardly anything.

The agent sends to a receiver that counts (`sink.py`): bytes on the wire for 1,000 samples, and
how long after its start the first whole stack of the C program has arrived.

`OTELAGENT_BENCH_PEER` is another profiler's command line, `{hz}` in it the frequency, `{sink}`
the receiver's HOST:PORT (gRPC); it is sent SIGINT at the end. Its figures are what ours are
divided by. Guests are emulated: compare, and do not take times for real ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import re
import shlex
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import workload
from kernel_cost import bpf_stats

if TYPE_CHECKING:
    import resource
    from collections.abc import Iterator

FREQUENCIES_HZ = (20, 97)
SETTLE_S, LATER_S, STEADY_S = 20.0, 60.0, 20.0
"""Seconds of sampling before the two windows, and how long each is. Emulated, it takes some 40 s
until what is read and named once has been: none of that is the steady state."""
END_S = 60.0
"""How long a profiler may take to end before it is killed."""
# What is sampled uses what is left of the host's thread: the profiler would take minutes to begin.
NICE = ("nice", "-n", "19")
STORM = ("sh", "-c", "while :; do /bin/true; sleep 0.05; done")
KERNEL = "newest"
OUT = Path("/tmp/out")
SINK = "127.0.0.1:14317"
TOTALS = Path("/tmp/sink.json")
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1  # include/uapi/linux/sockios.h, if.h
COMPARED = (
    *(
        "cpu_percent",
        "cpu_percent_later",
        "cpu_s_of_all",
        "bpf_us_per_sample",
        "map_mb",
        "VmRSS_mb",
    ),
    *("wire_bytes_per_1000", "first_complete_s"),
)
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


def cpu_share(pid: int) -> float:
    """Measure which part of one CPU a process takes in the next seconds."""
    began, cpu = time.monotonic(), cpu_s(pid)
    time.sleep(STEADY_S)
    return (cpu_s(pid) - cpu) / (time.monotonic() - began)


def sampling_cost(programs: dict[int, dict[str, str]]) -> tuple[int, int]:
    """Time (ns) and runs of programs of perf events; tail calls count for who made them."""
    rows = [row for row in programs.values() if row["prog_type"] == _PERF_EVENT]
    return tuple(sum(int(row.get(key, 0)) for row in rows) for key in ("run_time_ns", "run_cnt"))


def of_new(before: dict[int, dict[str, str]], commands: tuple[int, int]) -> dict:
    return {number: row for number, row in read_all(commands).items() if number not in before}


def raise_loopback() -> None:
    """Let programs of the guest reach one another."""
    with socket.socket() as any_socket:
        request = struct.pack("=16sH14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


@contextlib.contextmanager
def receiving() -> Iterator[None]:
    """Count what is sent to `SINK`, from nothing."""
    TOTALS.unlink(missing_ok=True)
    command = [sys.executable, str(Path(__file__).with_name("sink.py")), SINK.split(":")[1]]
    server = subprocess.Popen([*command, str(TOTALS)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        server.stdout.readline()  # it listens
        yield
    finally:
        server.kill()
        server.wait()


def received(began: float) -> dict[str, float]:
    """Read what was counted; nothing where nothing came."""
    if not TOTALS.exists():
        return {}
    totals = json.loads(TOTALS.read_text())
    found = {f"sent_{key}": totals[key] for key in ("samples", "stacks", "requests")}
    found["wire_bytes_per_1000"] = round(1000 * totals["wire_bytes"] / totals["samples"])
    found["plain_bytes_per_1000"] = round(1000 * totals["plain_bytes"] / totals["samples"])
    if first := totals.get("first_complete"):
        found["first_complete_s"] = round(first - began, 2)
    return found


def measure(name: str, command: list[str], end: signal.Signals | None) -> dict[str, float]:
    """Run one profiler, and look at it from outside."""
    programs, maps = read_all(_PROGRAMS), read_all(_MAPS)
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as talk:
        child = subprocess.Popen(command, stdout=talk, stderr=subprocess.STDOUT)
        while not sampling_cost(of_new(programs, _PROGRAMS))[1]:
            if child.poll() is not None:
                talk.seek(0)
                raise RuntimeError(f"{name} ended: {talk.read()[-500:]}")
            time.sleep(0.2)
        time.sleep(SETTLE_S)
        began = time.monotonic()
        ns, runs = sampling_cost(of_new(programs, _PROGRAMS))
        cpu = cpu_share(child.pid)
        time.sleep(LATER_S - SETTLE_S - STEADY_S)
        later = cpu_share(child.pid)
        seconds = time.monotonic() - began
        all_ns, all_runs = sampling_cost(of_new(programs, _PROGRAMS))
        status = Path(f"/proc/{child.pid}/status").read_text()
        held = sum(int(row["memlock"]) for row in of_new(maps, _MAPS).values())
        if end:
            child.send_signal(end)
        usage = reap(child)
        talk.seek(0)
        said = talk.read()
    figures = {
        "cpu_percent": round(100 * cpu, 2),
        "cpu_percent_later": round(100 * later, 2),
        "cpu_s_of_all": round(usage.ru_utime + usage.ru_stime, 2),
        "bpf_us_per_sample": round((all_ns - ns) / max(1, all_runs - runs) / 1e3, 2),
        "bpf_percent": round((all_ns - ns) / seconds / 1e7, 3),
        "map_mb": round(held / 1e6, 2),
    }
    for key in ("VmRSS", "RssAnon", "VmHWM"):
        figures[f"{key}_mb"] = round(int(status.split(f"{key}:")[1].split()[0]) * 1024 / 1e6, 1)
    if told := re.search(r"(\d+) samples, (\d+) lost.* ([\d.]+) % of \d+ user", said):
        figures |= {"samples": int(told[1]), "lost": int(told[2]), "complete": float(told[3])}
    figures |= received(started)
    figures = {f"guest.{name}.{key}": value for key, value in figures.items()}
    for key, value in figures.items():
        print(f"{key:40} {value:10g}", flush=True)
    return figures


def reap(child: subprocess.Popen[str]) -> resource.struct_rusage:
    """Wait for a profiler that ends; one that does not is killed."""
    timer = threading.Timer(END_S, child.kill)
    timer.start()
    _, status, usage = os.wait4(child.pid, 0)
    timer.cancel()
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage


def ratios(figures: dict[str, float]) -> dict[str, float]:
    """Divide our figures by the peer's at the same frequency."""
    found = {}
    for name, value in figures.items():
        run, _, key = name.removeprefix("guest.").rpartition(".")
        theirs = figures.get(f"guest.peer.{run.rpartition('.')[2]}.{key}")
        if theirs and key in COMPARED and not run.startswith("peer."):
            found[f"ratio.{run}.{key}"] = round(value / theirs, 3)
    for name, value in found.items():
        print(f"{name:40} {value:10g}", flush=True)
    return found


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
    options = ["--kernel", KERNEL, "--cpus", "2", "--timeout", "1500", "--out", str(root / "build")]
    options += ["--cache", str(matrix.CACHE)]  # no figure is of reading files for the first time
    if peer := os.environ.get("OTELAGENT_BENCH_PEER", ""):
        options += ["--env", f"OTELAGENT_BENCH_PEER={peer}"]
    run = [sys.executable, str(root / "qemu" / "run.py"), *options, "--", sys.executable, __file__]
    return subprocess.run(run, check=False).returncode


def commands(hz: int) -> Iterator[tuple[str, list[str], signal.Signals | None]]:
    """Give what is measured: name, command line, how it is ended (None: it ends by itself)."""
    own, rate = str(workload.OTELAGENT), str(hz)
    seconds = str(LATER_S + STEADY_S + 3)
    target = ("--all", "-d", seconds, "-o", "/tmp/guest.otlp", "--force")
    yield "", [own, "record", "-F", rate, *target], None
    for protocol, address in (("grpc", SINK), ("http", f"http://{SINK}")):
        to = ("--collection-agent", address, "--disable-tls", "--samples-per-second", rate)
        yield f"{protocol}.", [own, "agent", *to], signal.SIGINT
    if peer := os.environ.get("OTELAGENT_BENCH_PEER", ""):
        peer = peer.replace("{hz}", rate).replace("{sink}", SINK)
        yield "peer.", shlex.split(peer), signal.SIGINT


def main() -> int:
    """Measure every profiler at every frequency."""
    if "otelagent.guest" not in Path("/proc/cmdline").read_text():
        return boot()
    figures: dict[str, float] = {}
    raise_loopback()
    with bpf_stats(), busy():
        for hz in FREQUENCIES_HZ:
            for name, command, end in commands(hz):
                with receiving():
                    figures |= measure(f"{name}{hz}hz", command, end)
    figures |= ratios(figures)
    if OUT.is_dir():
        (OUT / "bench-guest.json").write_text(json.dumps(figures, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The whole of a machine that does what machines do: containers, CPUs that go, storms, no memory.

Whatever happens, the recording ends well, and what ran is in it, with whole stacks.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.programs import copy_of
from integration.recording import Whole
from integration.test_cgroups import group

pytestmark = [
    pytest.mark.whole,
    pytest.mark.needs("guest", "bpf", "cpu_clock", "tool:cc", "tool:unshare"),
]
CHAIN = ("_start", "main", "descend", "middle", "leaf")
# The profiler and what it samples share one CPU of the host: let it be quick.
NICE = ("nice", "-n", "19")
CPU1 = Path("/sys/devices/system/cpu/cpu1/online")
HOG = """
import time
def free_kib():
    text = open("/proc/meminfo").read()
    return int(text.split("MemAvailable:")[1].split()[0])
open("/proc/self/oom_score_adj", "w").write("1000")
held = []
while free_kib() > 48 << 10:
    held.append(b"x" * (4 << 20))
print("full", flush=True)
time.sleep(60)
"""


@contextlib.contextmanager
def running(*commands):
    processes = [subprocess.Popen([*map(str, command)]) for command in commands]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def whole_share(done, process):
    """Share of a program's samples at its work whose stack has all of its functions.

    Its start, and the system call that tells it the time, may take a tenth of an emulated CPU.
    """
    stacks = done.of(process)
    at_work = {stack: n for stack, n in stacks.items() if not {*CHAIN[2:]}.isdisjoint(stack)}
    assert sum(at_work.values()) > sum(stacks.values()) / 2, done.said
    names = [(n, iter(stack)) for stack, n in at_work.items()]
    return sum(n for n, rest in names if all(f in rest for f in CHAIN)) / sum(at_work.values())


def test_containers_and_nested_pid_namespaces_are_seen(tmp_path):
    """Programs in roots of their own, which only /proc/PID/root leads to; one is in two levels."""
    root = tmp_path / "root"
    root.mkdir()
    for name in ("outer", "inner"):
        copy_of("recurse-static", root, name)
    space = ("unshare", "-m", "-p", "-f", "-u")
    hidden = (
        "sh",
        "-c",
        'mount -t tmpfs tmpfs "$1" && cp "$1"/../saved/* "$1" && exec chroot "$@"',
    )
    saved = tmp_path / "saved"
    root.rename(saved)
    root.mkdir()
    with group(is_unified=True) as path:
        join = ("sh", "-c", 'echo $$ > "$0/cgroup.procs" && exec "$@"', path, *NICE, *space)
        commands = (
            (*join, *hidden, "sh", root, "/outer", "600", "9"),
            (*join, *space, *hidden, "sh", root, "/inner", "600", "9"),
        )
        with running(*commands):
            done = Whole(tmp_path, 3).end()
            subprocess.run(["pkill", "-9", "-x", "outer|inner"], check=False)
            wait_for(lambda: not (path / "cgroup.procs").read_text())

    for name in ("outer", "inner"):
        assert sum(done.of(name).values()) > 50
        assert whole_share(done, name) > 0.9, done.said


def cpu_s(pid):
    """How long a process ran, in seconds."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, words[11:13])) / os.sysconf("SC_CLK_TCK")


def wait_for(is_done):
    deadline = time.monotonic() + 60
    while not is_done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not CPU1.exists(), reason="needs a second CPU that can be switched off")
def test_cpus_go_and_come_in_a_storm_of_processes(tmp_path):
    steady, late = (copy_of("recurse", tmp_path, name) for name in ("steady", "late"))

    def storm(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            subprocess.check_call(["/bin/true"])

    with running((*NICE, steady, "600", "5"), (*NICE, steady, "600", "5")):
        whole = Whole(tmp_path, 120)
        try:
            storm(1)
            CPU1.write_text("0")
            storm(2)
            CPU1.write_text("1")
            time.sleep(1)
            CPU1.write_text("0")  # and back, before anybody looks
        finally:
            CPU1.write_text("1")
        time.sleep(2)  # CPUs are looked for about once a second
        with running(("taskset", "2", *NICE, late, "600", "5")) as (process,):
            wait_for(lambda: cpu_s(process.pid) > 2)
            whole.process.send_signal(signal.SIGINT)
            done = whole.end()

    assert sum(done.of("steady").values()) > 50
    assert whole_share(done, "steady") > 0.9, done.said
    assert sum(done.of("late").values()) > 20, f"CPU 1 is sampled again: {done.by_process()}"
    assert sum(done.of("true").values()) > 5


def test_a_profiler_that_stands_still_goes_on_where_memory_is_scarce(tmp_path):
    program = copy_of("recurse", tmp_path)
    with running((*NICE, program, "600", "5")):
        whole = Whole(tmp_path, 8)
        hog = subprocess.Popen([sys.executable, "-S", "-c", HOG], stdout=subprocess.PIPE)
        hog.stdout.readline()  # it may have been killed by now: that is as good
        os.kill(whole.process.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(whole.process.pid, signal.SIGCONT)
        done = whole.end()
        hog.kill()
        hog.communicate()

    assert sum(done.of("recurse").values()) > 50
    assert whole_share(done, "recurse") > 0.9, done.said
    assert re.search(r"\b0 lost", done.said), done.said

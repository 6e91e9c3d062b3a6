# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Targets of `record` that are odd: gone, many, kernel threads, daemons, 32-bit code."""

import os
import re
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from integration.runs import WORKLOADS, Running, otelagent, workload

TO_STDOUT = ("-f", "collapsed", "-o", "-")


def dead_pid():
    """A number that was a process's a moment ago."""
    child = subprocess.Popen(["true"])
    child.wait()
    return child.pid


def test_a_process_that_does_not_exist_is_told_in_one_line():
    pid = dead_pid()

    assert otelagent("record", *TO_STDOUT, "-p", pid) == (
        1,
        "",
        f"otelagent: there is no process {pid}\n",
    )


def test_a_thread_is_told_from_a_process():
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait()))
    thread.start()
    ready.wait()

    status, _, said = otelagent("record", *TO_STDOUT, "-p", thread.native_id)

    done.set()
    thread.join()
    assert status == 1
    assert f"{thread.native_id} is a thread of process {os.getpid()}" in said


def test_a_cgroup_that_does_not_exist_is_told():
    status, _, said = otelagent("record", *TO_STDOUT, "--cgroup", "/no/such/cgroup")

    assert status == 1
    assert "there is no cgroup /no/such/cgroup" in said


def test_a_kernel_thread_is_refused():
    status, out, said = otelagent("record", *TO_STDOUT, "-p", 2)

    assert (status, out) == (1, "")
    assert "process 2 is a kernel thread (kthreadd)" in said


def test_nothing_sampled_is_no_failure_and_is_told():
    with subprocess.Popen(["sleep", "100"]) as idle:
        status, out, said = otelagent("record", *TO_STDOUT, "-p", idle.pid, "-d", 0.5)
        idle.kill()

    assert (status, out) == (0, "")
    last = said.splitlines()[-1]
    assert " 0 samples, 0 lost" in last
    assert "nothing ran on a CPU" in last


def test_several_processes_are_sampled_until_the_last_one_ends():
    first, second = (subprocess.Popen(workload("spin.py", cpu)) for cpu in (1.5, 2.5))

    def reap():
        first.wait()
        second.wait()

    reaper = threading.Thread(target=reap)
    reaper.start()
    with Running("record", *TO_STDOUT, "-p", first.pid, "-p", second.pid) as run:
        status = run.end()
    reaper.join()

    assert status == 0
    assert f"processes {first.pid} (" in run.said
    assert "all that was asked for has ended" in run.said


def test_a_process_that_ended_but_was_not_reaped_has_ended():
    spin = subprocess.Popen(workload("spin.py", 1.5))
    with Running("record", *TO_STDOUT, "-p", spin.pid) as run:
        status = run.end()  # its parent, we, has not taken its status
    spin.wait()

    assert status == 0
    assert re.search(r" [1-9]\d* samples", run.said.splitlines()[-1])


def test_a_command_that_ends_at_once():
    status, _, said = otelagent("record", *TO_STDOUT, "--", "true")

    assert status == 0, said
    assert "wrote standard output: " in said


def test_a_command_that_leaves_a_daemon_ends_when_it_does(tmp_path):
    note = tmp_path / "pid"
    script = f"(exec >/dev/null 2>&1; exec sleep 100) & echo $! > {note}; exit 4"

    status, _, _ = otelagent("record", *TO_STDOUT, "--", "sh", "-c", script)

    os.kill(int(note.read_text()), signal.SIGKILL)
    assert status == 4


def test_children_are_covered():
    script = " ".join(workload("spin.py", 0.5)) + "; true"

    status, out, _ = otelagent("record", *TO_STDOUT, "--", "sh", "-c", script)

    assert status == 0
    assert ";leaf" in out


@pytest.mark.needs("tool:gcc")
def test_a_32_bit_process_keeps_its_kernel_frames_and_tells_why(tmp_path):
    program = tmp_path / "spin32"
    source = WORKLOADS / "spin32.c"
    build = ["gcc", "-m32", "-nostdlib", "-static", "-fno-pic", "-o", program, source]
    if subprocess.run(build, capture_output=True, check=False).returncode:
        pytest.skip("needs gcc -m32")

    status, _, said = otelagent("record", *TO_STDOUT, "--", program)

    assert status == 0, said
    assert "samples of 32-bit code have kernel frames only" in said
    assert "not_64_bit" in said.splitlines()[-1]


def test_verbose_explains_the_numbers():
    status, _, said = otelagent("record", "-v", *TO_STDOUT, "--", *workload("spin.py", 0.3))

    assert status == 0, said
    assert re.search(r"[1-9]\d*  ticks: interruptions of a target", said)
    assert re.search(r"\d+  guessed: ", said)
    assert re.search(r"\d+  deferred: ", said)


def test_a_report_of_a_recording_names_the_same_functions(tmp_path):
    saved = Path(tmp_path, "x.otlp")

    otelagent("record", "-o", saved, "--", *workload("spin.py", 0.5))
    status, out, _ = otelagent("report", saved)

    assert status == 0
    assert "leaf" in out

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Python frames of samples that are older than all that user space knows of their process."""

import os
import subprocess
import threading
from collections import Counter

import pytest

from integration.test_python import PYTHONS, python_lines
from otelagent.abi._generated import SampleFlag
from otelagent.options import Options
from otelagent.processes.forecast import preload
from otelagent.profiler import Profiler

pytestmark = pytest.mark.needs("bpf", "cpu_clock")
PROGRAM = """
import sys, time, json, decimal, struct, ctypes

def inner():
    while time.process_time() < 0.4:
        sum(range(20000))
        json.dumps(list(range(500)))

def outer():
    inner()

outer()
print(flush=True)
sys.stdin.readline()
"""
CHAIN = ("inner", "outer", "<module>")


def record_unknown(python, program=PROGRAM, *, bounded=False):
    """Record a program to where it waits, and let its process be known only then.

    Its files are known, as if they had been seen before. Returns (trace, count) pairs of
    user code, and how many stacks were deferred.
    """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = ["/bin/sh", "-c", 'read x; exec "$@"', "sh", *python.command, "-c", program]
    with subprocess.Popen(command, env={**os.environ, **dict(python.env)}, **pipes) as child:
        profiler = Profiler(Options(999, held_pid=child.pid, bounded=bounded))
        profiler.start()
        for file in {python.command[0], python.command[-1]}:
            preload(profiler.executables, [file])
        gate = threading.Event()
        work = profiler.processes._round
        profiler.processes._round = lambda: (gate.wait(), work())
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        gate.set()
        profiler.stop()
        child.kill()
    collector = profiler.collector
    found = [
        (profiler.handler.finish(collector.traces[key.hash]), total.count)
        for key, total in collector.groups.items()
        if collector.traces[key.hash].flags >> SampleFlag.USER_BIT & 1
    ]
    profiler.close()
    return found, collector.deferred


def judge(trace):
    """Say of a stack that it is `python`, or `native`, or what is wrong with it."""
    names = [frame.lines[-1].function.name for frame in trace.frames if frame.lines]
    if trace.fault or "_PyEval_EvalFrameDefault" in names:
        return f"{trace.fault} {names[:4]} {names[-9:]}"
    return "python" if python_lines(trace) else "native"


EVERY = [
    pytest.param(python, id=python.name, marks=[pytest.mark.sweep] * (python.name != "3.11-pyenv"))
    for python in PYTHONS
]


@pytest.mark.parametrize("bounded", [False, True], ids=["loop", "bounded"])
@pytest.mark.parametrize("python", EVERY)
def test_stacks_of_a_process_that_nobody_knew_are_whole(python, bounded):
    """All of them are deferred, and finished when memory has long been another."""
    found, deferred = record_unknown(python, bounded=bounded)

    judged, chains = Counter(), 0
    for trace, count in found:
        judged[judge(trace)] += count
        names = tuple(name for name, _, _ in python_lines(trace))
        chains += count * (names[-len(CHAIN) :] == CHAIN)
    assert deferred >= 200
    assert judged["python"] >= 100
    assert judged["python"] + judged["native"] >= 0.99 * judged.total(), judged
    assert chains >= 50

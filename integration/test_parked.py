# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads that spin at fixed depths: every sample has the stack that gdb or py-spy see."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import subprocess
import sys
from collections import Counter

import pytest

from integration.oracles import (
    gdb_stacks,
    place_of,
    py_spy_stacks,
    python_frames,
    record,
    user_stacks,
    without_loops,
    without_python,
)
from integration.programs import SOURCES, build

pytestmark = pytest.mark.any_kernel
SAMPLES = 20
CLONE = re.compile(r"(\.(isra|constprop|part|cold)(\.\d+)?|_impl)+$")
ALIAS = re.compile(r"^_*(GI_)?_*")


@contextlib.contextmanager
def parked(*command, env=()):
    """Start a workload, wait until it is parked, end it afterwards."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env=os.environ | dict(env)
    )
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def recorded(pid, threads):
    """Record until each of the threads has enough samples; their stacks."""
    total = {tid: Counter() for tid in threads}
    for _ in range(8):
        result = record("-p", str(pid), "-d", "1")
        for tid, stacks in user_stacks(result.profile, pid).items():
            if tid in total:
                total[tid] += stacks
        if all(sum(stacks.values()) >= SAMPLES for stacks in total.values()):
            return total
    pytest.fail(f"too few samples: { {tid: sum(s.values()) for tid, s in total.items()} }")


def same(ours, theirs):
    """Compare two stacks of places."""
    return len(ours) == len(theirs) and all(map(alike, ours, theirs))


def alike(one, other):
    """Compare two places; a name counts where both have one."""
    if (one.file, one.address) != (other.file, other.address):
        return False
    return not one.names or not any(other.names) or plain(one.names) == plain(other.names)


def difference(ours, theirs):
    pairs = itertools.zip_longest(ours, theirs)
    return "ours | theirs:\n" + "\n".join(
        f"{at}: {one} | {other}"
        for at, (one, other) in enumerate(pairs)
        if not one or not other or not alike(one, other)
    )


def plain(names):
    """Without what compilers append to clones (`.isra.0`), and by which glibc's aliases differ."""
    return tuple(CLONE.sub("", ALIAS.sub("", name.split("@")[0])) for name in names)


def check(pid, theirs):
    ours = recorded(pid, theirs)
    for tid, expected in theirs.items():
        for stack in ours[tid]:
            places = [place_of(frame, newest=not at) for at, frame in enumerate(stack)]
            assert same(places, expected), difference(places, expected)
    return ours


def spinning(stacks, name):
    """The threads that burn: those with this function as their newest frame."""
    return {tid: stack for tid, stack in stacks.items() if (name,) == plain(stack[0].names)}


@pytest.mark.needs("tool:gdb", "tool:gcc")
@pytest.mark.parametrize("binary", ["parked", "parked-clang", "parked-static"])
def test_every_stack_of_c_threads_is_that_of_gdb(binary):
    """Recursion, a callback of qsort, a signal handler, a moved stack pointer, and main."""
    with parked(build(binary)) as process:
        theirs = spinning(gdb_stacks(process.pid), "spin")
        assert len(theirs) == 5
        assert max(len(stack) for stack in theirs.values()) > 100
        check(process.pid, theirs)


@pytest.mark.needs("tool:gdb", "tool:go")
def test_every_stack_of_goroutines_is_that_of_gdb():
    """Recursion, a callback of sort, an interface, a deferred function of a panic."""
    with parked(build("go-parked"), env={"GODEBUG": "asyncpreemptoff=1"}.items()) as process:
        theirs = spinning(gdb_stacks(process.pid), "main.spin")
        assert len(theirs) == 4
        check(process.pid, theirs)


@pytest.mark.needs("tool:gdb", "tool:gcc")
def test_every_stack_of_python_threads_is_that_of_gdb_and_py_spy():
    """Where gdb shows runs of the eval loop, we show the Python frames that py-spy shows."""
    extension = build("parkedext.so").parent
    with parked(sys.executable, SOURCES / "python" / "parked.py", extension) as process:
        theirs = spinning(gdb_stacks(process.pid), "spin_here")
        assert len(theirs) == 4
        pythons = py_spy_stacks(process.pid)
        ours = recorded(process.pid, [*theirs, process.pid])
    for tid, stacks in ours.items():
        for stack in stacks:
            assert python_frames(stack) == pythons[tid]
    for tid, expected in theirs.items():
        for stack in ours[tid]:
            places, wanted = without_python(stack), without_loops(expected)
            assert same(places, wanted), difference(places, wanted)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""CPython of every minor version, live: stacks are what the programs say of themselves.

`python integration/pythons.py` fetches the builds that this machine lacks.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from integration.pythons import MINORS, find_pythons
from integration.workloads.python.graph import CALLS
from otelagent.abi._generated import SampleFlag
from otelagent.model import FrameType
from otelagent.options import Options
from otelagent.profiler import Profiler
from tests.interpreters.python.walker import wait_for_stack

WORKLOADS = Path(__file__).parent / "workloads" / "python"
KINDS = (
    *("recursion", "generators", "asynchronous", "c_extension", "callback"),
    *("methods", "executed", "names", "switches"),
)
MOVING = ("calls", "threads", "churn", "forks", "subinterpreters")
PYTHONS = find_pythons()
MISSING = [minor for minor in MINORS if minor not in {python.version for python in PYTHONS}]
EVERY = pytest.mark.parametrize(
    "python",
    [
        *(pytest.param(python, id=python.name) for python in PYTHONS),
        *(
            pytest.param(None, id=minor, marks=pytest.mark.skip(f"no CPython {minor} here"))
            for minor in MISSING
        ),
    ],
)

OFTEN = ("recursion", "asynchronous", "c_extension")
THOROUGH = ("3.6", "3.11", "3.14")
"""Versions that are tried with everything; the others with everything by `make accuracy`."""


def versions(*kinds):
    """Each version with each of these kinds; what takes long is left to `make accuracy`."""
    pairs = [(python, kind) for python in PYTHONS for kind in kinds or ("",)]
    return [
        pytest.param(
            python,
            *(kind,) * bool(kind),
            id=f"{kind}-{python.name}",
            marks=[pytest.mark.sweep] * (python.version not in THOROUGH and kind not in OFTEN),
        )
        for python, kind in pairs
    ]


@contextmanager
def running(python, program, kind, *options):
    command = [*python.command, *options, str(WORKLOADS / program), kind]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    child = subprocess.Popen(command, env={**os.environ, **dict(python.env)}, **pipes)
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def profile(pid, *, until, frequency_hz=299, bounded=False):
    """Profile a process until enough samples have Python frames; (trace, count) pairs."""
    groups = collect(pid, until=until, frequency_hz=frequency_hz, bounded=bounded)
    counts, traces = Counter(), {}
    for key, trace, count in groups:
        counts[key.hash] += count
        traces[key.hash] = trace
    return [(traces[hash_], count) for hash_, count in counts.items()]


def collect(pid, *, until, frequency_hz=299, bounded=False):
    """Profile a process and its children: (group, trace, count) where there is user code."""
    options = Options(frequency_hz, pids=(pid,), bounded=bounded, max_frames=1024)
    profiler = Profiler(options)
    profiler.start()
    deadline = time.monotonic() + 10
    while count_python(profiler) < until and time.monotonic() < deadline:
        time.sleep(0.05)
    profiler.stop()
    collector = profiler.collector
    found = [
        (key, profiler.handler.finish(collector.traces[key.hash]), total.count)
        for key, total in collector.groups.items()
        if collector.traces[key.hash].flags >> SampleFlag.USER_BIT & 1
    ]
    profiler.close()
    return found


def count_python(profiler):
    profiler.flush()
    traces = dict(profiler.collector.traces)
    groups = list(profiler.collector.groups.items())
    with_python = {key for key, raw in traces.items() if any(f.kind == 1 for f in raw.frames())}
    return sum(total.count for key, total in groups if key.hash in with_python)


def python_lines(trace):
    """List (function, file, line) of a trace's Python frames, newest first."""
    lines = []
    for frame in trace.frames:
        if frame.type == FrameType.PYTHON:
            line = frame.lines[0] if frame.lines else None
            named = line and (line.function.name, line.function.file, line.line)
            lines.append(named or ("?", frame.reason, 0))
    return lines


@EVERY
@pytest.mark.parametrize("kind", KINDS)
def test_parked_stack_read_from_outside(python, kind):
    """User space alone, by the same offsets: a waiting process's frames, names, lines."""
    with running(python, "chains.py", kind) as child:
        told = [tuple(frame[:3]) for frame in json.loads(child.stdout.readline())[0]]

        is_found = wait_for_stack(child.pid, told)

    assert is_found


@pytest.mark.parametrize(("python", "kind"), versions(*KINDS))
def test_spinning_stack_is_whole(python, kind):
    """Each sample has all Python frames, named, in order, and reaches the first C frame."""
    with running(python, "chains.py", f"{kind},spin") as child:
        told = [tuple(frame[:3]) for frame in json.loads(child.stdout.readline())[0]]

        traces = profile(child.pid, until=15)

    stacks = [(python_lines(trace), trace) for trace, _ in traces]
    stacks = [(lines, trace) for lines, trace in stacks if lines]
    assert stacks
    for lines, trace in stacks:
        begin = [name for name, _, _ in lines].index("park") + 1
        assert told == lines[begin:]
        assert trace.fault == ""


@EVERY
def test_switches_keep_c_frames_between(python):
    """64 times Python → list.sort → Python: between two lambdas lie C frames, and no eval loop."""
    with running(python, "chains.py", "switches,spin") as child:
        child.stdout.readline()

        traces = profile(child.pid, until=15)

    whole = [trace for trace, _ in traces if python_lines(trace) and not trace.fault]
    assert whole
    for trace in whole:
        kinds = "".join("p" if f.type == FrameType.PYTHON else "n" for f in trace.frames)
        runs = [run for run in kinds.split("n") if run]
        assert len(runs) >= 64
        names = [f.lines[-1].function.name for f in trace.frames if f.lines]
        assert "_PyEval_EvalFrameDefault" not in names


@pytest.mark.parametrize("python", versions())
def test_bounded_programs_give_the_same(python):
    """Without bpf_loop, by tail calls."""
    with running(python, "chains.py", "recursion,spin") as child:
        told = [tuple(frame[:3]) for frame in json.loads(child.stdout.readline())[0]]

        traces = profile(child.pid, until=15, bounded=True)

    stacks = [lines for lines in (python_lines(trace) for trace, _ in traces) if lines]
    assert stacks
    assert all(lines[-len(told) :] == told for lines in stacks)


@EVERY
def test_trampolines_of_x_perf_are_passed(python):
    """With `-X perf` (3.12) each Python call goes through made-up code without rows."""
    if int(python.version[2:]) < 12:
        pytest.skip(f"CPython {python.version} has no -X perf")
    with running(python, "chains.py", "generators,spin", "-X", "perf") as child:
        told = [tuple(frame[:3]) for frame in json.loads(child.stdout.readline())[0]]

        traces = profile(child.pid, until=15)

    stacks = [(python_lines(trace), trace.fault) for trace, _ in traces]
    stacks = [(lines, fault) for lines, fault in stacks if lines]
    assert stacks
    assert all(lines[-len(told) :] == told and not fault for lines, fault in stacks)


EMBEDDING = r"""
#include <Python.h>
#include <pthread.h>
static void *run(void *code)
{
	PyGILState_STATE state = PyGILState_Ensure();
	PyRun_SimpleString(code);
	PyGILState_Release(state);
	return NULL;
}
int main(int argc, char **argv)
{
	pthread_t thread;
	Py_Initialize();
	PyEval_SaveThread();
	pthread_create(&thread, NULL, run, argv[1]);
	pthread_join(thread, NULL);
	return 0;
}
"""


@pytest.mark.needs("tool:cc")
@pytest.mark.parametrize("minor", ["3.8", "3.12"])
def test_embedded_interpreter(tmp_path, minor):
    """A C program that runs Python in a thread that C made, with a shared libpython."""
    found = [python for python in PYTHONS if (python.version, python.origin) == (minor, "pyenv")]
    if not found:
        pytest.skip(f"no CPython {minor} with a shared library")
    home = Path(found[0].command[0]).parents[1]
    (tmp_path / "embed.c").write_text(EMBEDDING)
    flags = [f"-I{home}/include/python{minor}", f"-L{home}/lib", f"-lpython{minor}"]
    command = ["cc", "embed.c", "-o", "embed", *flags, f"-Wl,-rpath,{home}/lib", "-lpthread"]
    subprocess.run(command, cwd=tmp_path, check=True)
    code = "def inner():\n while 1: sum(range(100))\ndef outer(): inner()\nouter()"

    with subprocess.Popen([tmp_path / "embed", code], env={"PYTHONHOME": str(home)}) as child:
        traces = profile(child.pid, until=15)
        child.kill()

    stacks = [tuple(name for name, _, _ in python_lines(trace)) for trace, _ in traces]
    assert ("inner", "outer", "<module>") in stacks


def find_wrong_call(lines):
    """Say what in a stack the program could not have done; None if it could."""
    ours = [
        name.rsplit(".", maxsplit=1)[-1]
        for name, file, _ in lines
        if file.endswith("graph.py") or file in ("<string>", "<script>")
    ]
    for callee, caller in pairwise(ours):
        if (callee, caller) == ("<module>", "subinterpreters"):
            continue
        if caller not in CALLS.get(callee, ()):
            return f"{caller} cannot call {callee}"
    return None if not ours or ours[-1] in ("<module>", "run_thread") else f"ends in {ours[-1]}"


@pytest.mark.sweep
@EVERY
@pytest.mark.parametrize("kind", MOVING)
def test_moving_stacks_are_possible(python, kind):
    """Of a program that calls all the time, 99 % of the stacks are paths of its call graph.

    Not all: the kernel may interrupt CPython between two stores that belong together.
    """
    if kind == "subinterpreters" and int(python.version[2:]) < 8:
        pytest.skip(f"CPython {python.version} has no module for them")
    with running(python, "graph.py", kind) as child:
        traces = profile(child.pid, until=200, frequency_hz=499)

    wrong = Counter()
    for trace, count in traces:
        lines = python_lines(trace)
        if lines:
            wrong[find_wrong_call(lines) or trace.fault] += count
    assert wrong[""] >= 100
    assert wrong[""] >= 0.99 * wrong.total(), wrong


@pytest.mark.parametrize("python", versions())
def test_children_that_live_for_20_ms_are_whole(python):
    """From its first sample on a forked child has Python frames, with names, and no eval loop."""
    with running(python, "graph.py", "quick_forks") as child:
        groups = collect(child.pid, until=300, frequency_hz=999)

    found = Counter()
    for key, trace, count in groups:
        if key.pid == child.pid:
            continue
        lines = python_lines(trace)
        names = [f.lines[-1].function.name for f in trace.frames if f.lines]
        is_loop = "_PyEval_EvalFrameDefault" in names
        is_whole = lines and lines[-1][0] == "<module>" and not trace.fault and not is_loop
        wrong = "" if is_whole else f"{trace.fault} {lines[-1:]} {names[-9:]}"
        found[wrong or find_wrong_call(lines) or "right"] += count
    assert len({key.pid for key, _, _ in groups}) > 10
    assert found["right"] >= 0.99 * found.total(), found


@pytest.mark.parametrize("kind", ["recursion", "generators", "methods", "switches"])
def test_stack_is_that_of_py_spy(kind):
    """Another profiler that reads memory sees the same functions and lines."""
    python = next(python for python in PYTHONS if python.version == "3.11")
    py_spy = Path(sys.executable).parent / "py-spy"
    with running(python, "chains.py", f"{kind},spin") as child:
        child.stdout.readline()
        command = [py_spy, "dump", "--json", "--pid", str(child.pid)]
        dump = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        traces = profile(child.pid, until=15)

    theirs = [(f["name"], f["filename"], f["line"]) for f in json.loads(dump)[0]["frames"]]
    begin = [name for name, _, _ in theirs].index("park")
    ours = [lines for lines in (python_lines(trace) for trace, _ in traces) if lines]
    for lines in ours:
        at = [name for name, _, _ in lines].index("park")
        mine = [(name.rsplit(".", 1)[-1], file, line) for name, file, line in lines[at:]]
        assert mine == [(n.rsplit(".", 1)[-1], f, line) for n, f, line in theirs[begin:]]

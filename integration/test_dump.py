# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`otelagent dump` against gdb and py-spy, on processes and on cores; and who may use it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from subprocess import DEVNULL

import pytest

from integration.oracles import (
    gdb_stacks,
    place_of,
    py_spy_stacks,
    python_frames,
    without_loops,
    without_python,
)
from integration.programs import SOURCES, build, workloads
from integration.pythons import find_pythons
from integration.test_parked import difference, parked, same, spinning
from otelagent.dump.stacks import unwind
from otelagent.errors import NotPermitted
from otelagent.host.core import CoreImage
from otelagent.host.live import LiveImage
from otelagent.model import FrameType
from otelagent.unwind.cache import RowCache

pytestmark = pytest.mark.any_kernel
THROWERS = {("_Unwind_Resume",), ("_Unwind_RaiseException",), ("_Unwind_Resume_or_Rethrow",)}


def taken(image):
    """Thread id → user frames; every stack is whole."""
    stacks = unwind(image, cache=RowCache())
    assert [(s.thread.tid, s.trace.fault) for s in stacks if s.trace.fault] == []
    return {
        stack.thread.tid: tuple(f for f in stack.trace.frames if f.type != FrameType.KERNEL)
        for stack in stacks
    }


def places(frames):
    return [place_of(frame, newest=not at) for at, frame in enumerate(frames)]


def check(ours, theirs):
    assert set(theirs) <= set(ours)
    for tid, expected in theirs.items():
        assert same(places(ours[tid]), expected), difference(places(ours[tid]), expected)


@pytest.mark.needs("tool:gdb", "tool:gcc", "tool:gcore")
def test_stacks_of_c_threads_are_those_of_gdb_live_and_in_a_core(tmp_path):
    with parked(build("parked")) as process:
        theirs = spinning(gdb_stacks(process.pid), "spin")
        check(taken(LiveImage(process.pid)), theirs)
        made = ["gcore", "-o", str(tmp_path / "core"), str(process.pid)]
        subprocess.run(made, check=True, capture_output=True, timeout=60)
        with CoreImage.open(str(tmp_path / f"core.{process.pid}")) as core:
            in_core = taken(core)
    assert len(theirs) == 5
    check(in_core, theirs)


@pytest.mark.needs("tool:gdb", "tool:go")
def test_stacks_of_goroutines_are_those_of_gdb():
    with parked(build("go-parked"), env={"GODEBUG": "asyncpreemptoff=1"}.items()) as process:
        theirs = spinning(gdb_stacks(process.pid), "main.spin")
        assert len(theirs) == 4
        check(taken(LiveImage(process.pid)), theirs)


@pytest.mark.needs("tool:gdb", "tool:gcc")
def test_stacks_of_python_threads_are_those_of_gdb_and_py_spy():
    extension = build("parkedext.so").parent
    with parked(sys.executable, SOURCES / "python" / "parked.py", extension) as process:
        theirs = spinning(gdb_stacks(process.pid), "spin_here")
        pythons = py_spy_stacks(process.pid)
        ours = taken(LiveImage(process.pid))
    assert {tid: python_frames(ours[tid]) for tid in pythons} == pythons
    for tid, expected in theirs.items():
        found, wanted = without_python(ours[tid]), without_loops(expected)
        assert same(found, wanted), difference(found, wanted)


@pytest.mark.needs("tool:gcc")
def test_a_core_of_the_kernel_has_all_threads(tmp_path):
    if re.match(r"[|/]", Path("/proc/sys/kernel/core_pattern").read_text()):
        pytest.skip("cores of this machine go elsewhere")
    limited = f"ulimit -c unlimited; cd {tmp_path}; exec {build('parked')}"
    with parked("sh", "-c", limited) as process:
        live = taken(LiveImage(process.pid))
        process.send_signal(signal.SIGABRT)
        process.wait()
    (path,) = tmp_path.iterdir()
    with CoreImage.open(str(path)) as core:
        found = taken(core)
        assert core.problems == []

    assert [len(frames) for frames in found.values()] == [len(live[tid]) for tid in found]
    assert set(found) == set(live)


@pytest.mark.needs("tool:gcc")
def test_a_thread_that_cannot_be_stopped_is_told_and_soon():
    with parked(build("uninterruptible")) as process:
        image = LiveImage(process.pid)
        began = time.monotonic()
        stacks = {s.thread.state: s for s in unwind(image, cache=RowCache())}
        state = Path(f"/proc/{process.pid}/status").read_text()

    assert stacks.keys() == {"disk sleep", "sleeping"}
    late = stacks["disk sleep"]
    assert "did not stop in time" in late.thread.problem
    assert any("vfork" in name for name in late.thread.kernel)
    assert stacks["sleeping"].trace.fault == ""
    assert time.monotonic() - began < 10
    assert "TracerPid:\t0" in state


def as_nobody(act):
    """Do something as a user who owns nothing; gives what it returns as an exit status."""
    child = os.fork()
    if not child:
        status = 99
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            status = act()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_its_own_user_may_dump_a_process_and_others_may_not():
    def of_another() -> int:
        try:
            LiveImage(1)
        except NotPermitted as err:
            return err.exit_status
        return 98

    def of_its_own() -> int:
        with subprocess.Popen(["/bin/sleep", "60"]) as sleeping:
            image = LiveImage(sleeping.pid)
            with image.hold() as threads:
                found = bool(threads[0].registers)
            sleeping.kill()
        return 0 if found and image.held_ns else 97

    assert as_nobody(of_another) == 77
    assert as_nobody(of_its_own) == 0


@pytest.mark.sweep
@pytest.mark.parametrize("python", find_pythons(), ids=lambda python: python.name)
def test_every_python_shows_its_functions(python):
    code = (
        "import sys, time\n"
        "def inner():\n    print('ready'); sys.stdout.flush()\n    time.sleep(60)\n"
        "def outer():\n    inner()\n"
        "outer()\n"
    )
    with parked(*python.command, "-c", code, env=python.env) as process:
        time.sleep(0.1)
        ours = taken(LiveImage(process.pid))[process.pid]

    names = [line.function.name for f in ours if f.type == FrameType.PYTHON for line in f.lines]
    assert names == ["inner", "outer", "<module>"]


def differs(stack, expected):
    """Compare addresses alone; a stack of ours that is whole may end where gdb goes astray.

    While libgcc installs a handler's context we leave out the frames that it discards.
    """
    frames = [f for f in stack.trace.frames if f.type != FrameType.KERNEL]
    found = without_python(frames)
    wanted = without_loops(expected)
    thrown = [at for at, one in enumerate(found) if one.names[-1:] in THROWERS]
    if thrown:
        found, wanted = found[: thrown[0] + 1], wanted[: thrown[0] + 1]
    pairs = [
        (one.file, one.address) == (two.file, two.address)
        for one, two in zip(found, wanted, strict=False)
    ]
    is_whole = len(found) == len(wanted) or (not stack.trace.fault and len(found) < len(wanted))
    return "" if is_whole and all(pairs) else difference(found, wanted)


@pytest.mark.sweep
@pytest.mark.needs("tool:gdb")
@pytest.mark.parametrize("family", ["stacks ", "stacks-clang ", "throws", "python ", "openssl"])
def test_stacks_of_mixed_workloads_are_those_of_gdb(family):
    """Caught anywhere, threads that wait included; each is stopped for both."""
    count, wrong = 0, []
    for workload in workloads():
        if not workload.name.startswith(family) or workload.missing:
            continue
        with subprocess.Popen(workload.command(20), stdout=DEVNULL, stderr=DEVNULL) as process:
            for _ in range(5):
                time.sleep(0.3)
                os.kill(process.pid, signal.SIGSTOP)
                ours = {s.thread.tid: s for s in unwind(LiveImage(process.pid), cache=RowCache())}
                theirs = gdb_stacks(process.pid)
                os.kill(process.pid, signal.SIGCONT)
                count += len(theirs)
                wrong += [w for tid, each in theirs.items() if (w := differs(ours[tid], each))]
            process.kill()

    print(f"{family}: {count - len(wrong)} of {count} stacks are gdb's")
    assert count > 0
    assert len(wrong) <= count / 100, "\n\n".join(wrong[:5])

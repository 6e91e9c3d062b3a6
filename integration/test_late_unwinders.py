# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The unwinder of a runtime is loaded when the first program of that runtime is met."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.runs import wait_until
from otelagent.abi._generated import Unwinder
from otelagent.bpf.maps import HashMap
from otelagent.model import FrameType
from otelagent.options import Options
from otelagent.profiler import Profiler
from otelagent.recording import make_profile

pytestmark = pytest.mark.needs("bpf", "cpu_clock", "ring_buffer")
STEADY = Path(__file__).parents[1] / "bench" / "workloads" / "steady.py"
BUSY = "while :; do :; done"


def is_loaded(profiler):
    table = HashMap.of(profiler.bpf, "unwinders")
    return table.get(int(Unwinder.PYTHON).to_bytes(4, sys.byteorder)) is not None


def python_samples(profile):
    """How many samples have Python frames."""
    return sum(
        group.count
        for trace, _process, _thread, group in profile
        if any(frame.type is FrameType.PYTHON for frame in trace.frames)
    )


@pytest.fixture
def start():
    children = []

    def run(*command):
        children.append(subprocess.Popen(command))
        return children[-1].pid

    yield run
    for child in children:
        child.kill()
        child.wait()


def walks_by_itself(profiler):
    """Whether BPF had to copy none of the next 50 stacks."""
    profiler.flush()
    profiler.collector.take()
    before = profiler.collector.tally_now().samples, profiler.collector.deferred
    wait_until(lambda: profiler.flush() or profiler.collector.tally_now().samples >= before[0] + 50)
    return profiler.collector.deferred == before[1]


@pytest.mark.parametrize("bounded", [pytest.param(False, marks=pytest.mark.guest), True])
def test_a_program_met_while_recording_has_it_loaded_and_is_walked_by_it(start, bounded):
    shell = start("sh", "-c", BUSY)
    profiler = Profiler(Options(frequency_hz=199, pids=(shell,), bounded=bounded))
    profiler.start()
    try:
        assert not is_loaded(profiler)
        os.kill(shell, signal.SIGKILL)
        profiler.add_target(start(sys.executable, STEADY))
        wait_until(lambda: walks_by_itself(profiler))
        assert is_loaded(profiler)
        profiler.stop()
        profile = make_profile(profiler, profiler.collector.take_each(), profiler.losses())
    finally:
        profiler.close()

    assert python_samples(profile) >= 50
    assert all(not trace.fault for trace in profile.traces)


def test_without_its_tracer_it_is_not_loaded(start):
    pid = start(sys.executable, STEADY)
    profiler = Profiler(Options(frequency_hz=499, pids=(pid,), python=False))
    profiler.start()
    try:
        time.sleep(0.3)
        assert not is_loaded(profiler)
        profiler.stop()
    finally:
        profiler.close()

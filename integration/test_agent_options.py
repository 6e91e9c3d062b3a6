# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Options of the agent that change what the profiler does: each does what its name says."""

import logging
import os
import subprocess
import sys
import time

import pytest

from integration.runs import wait_until
from otelagent.abi._generated import Target
from otelagent.bpf.object import LOG_STATISTICS
from otelagent.model import FrameType
from otelagent.options import OffCpu, Options
from otelagent.profiler import Profiler
from otelagent.recording import make_profile

SPIN = "while True: sum(i * i for i in range(1000))"


@pytest.fixture
def spinning():
    process = subprocess.Popen([sys.executable, "-S", "-c", SPIN])
    os.sched_setaffinity(process.pid, {0})
    yield process.pid
    process.kill()
    process.wait()


def profile_of(profiler, samples=30):
    def are_there():
        profiler.flush()
        return profiler.collector.tally_now().samples >= samples

    wait_until(are_there, "samples")
    profiler.stop()
    groups = profiler.collector.take()
    made = make_profile(profiler, groups.items(), profiler.losses())
    profiler.close()
    return made


def test_tracers_maps_cache_and_log_are_as_asked_for(spinning, tmp_path, caplog):
    options = Options(
        frequency_hz=499,
        pids=(spinning,),
        python=False,
        map_scale=1,
        off_cpu=OffCpu(),
        bpf_log_level=LOG_STATISTICS,  # what 1 and 2 tell is long, and takes seconds
        cache_directory=tmp_path,
        symbols=False,  # line tables would take seconds in an empty directory
    )
    profiler = Profiler(options)
    logging.getLogger("otelagent").propagate = True
    profiler.start()
    try:
        entries = profiler.bpf.map_info("mappings").max_entries
    finally:
        made = profile_of(profiler)

    frames = {frame for trace, *_ in made for frame in trace.frames}
    assert FrameType.PYTHON not in {frame.type for frame in frames}
    assert any(frame.type is FrameType.NATIVE for frame in frames)
    assert entries == 1 << 20
    assert list(tmp_path.glob("*.rows"))
    told = [record.getMessage() for record in caplog.records if "processed" in record.getMessage()]
    assert [line.partition(".")[0] for line in told] == ["profiler", "offcpu"]


def test_only_the_cpus_asked_for_are_sampled(spinning):
    other = Profiler(Options(frequency_hz=499, pids=(spinning,), cpus=(1,)))
    other.start()
    time.sleep(0.2)
    sampled, ticks = other.sampling.cpus, other.losses().counters["TICKS"]
    other.stop()
    other.close()

    assert (sampled, ticks) == ([1], 0)

    own = Profiler(Options(frequency_hz=499, pids=(spinning,), cpus=(0,)))
    own.start()
    assert profile_of(own).samples


def test_cpus_that_have_nothing_to_do_are_sampled_if_asked_for():
    """pid 0 alone, so that nobody else is."""
    profiler = Profiler(Options(frequency_hz=499, idle=True))
    profiler.start()
    profiler.targets.set(0, Target.FOLLOW)
    made = profile_of(profiler, samples=1)

    assert {process.pid for _trace, process, *_ in made} == {0}
    kernel = {frame.type for trace, *_ in made for frame in trace.frames}
    assert kernel == {FrameType.KERNEL}


def test_how_often_to_sample_can_be_changed_while_it_samples(spinning):
    profiler = Profiler(Options(frequency_hz=499, pids=(spinning,)))
    profiler.start()

    def ticks_in(seconds):
        before = profiler.losses().counters["TICKS"]
        time.sleep(seconds)
        return profiler.losses().counters["TICKS"] - before

    profiler.sampling.set_frequency(10)
    slow = ticks_in(0.5)
    profiler.sampling.set_frequency(499)
    fast = ticks_in(0.5)
    profiler.stop()
    profiler.close()

    assert slow <= 6
    assert fast > 3 * max(slow, 5)

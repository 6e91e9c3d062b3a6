# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""No sample vanishes: every tick of a target is a sample, or is counted as lost."""

import subprocess
import time
from dataclasses import replace

import pytest

from otelagent import metrics, sampling
from otelagent.kernel.plan import wish_of
from otelagent.options import Options
from otelagent.profiler import Profiler

SHORT = "i=0; while [ $i -lt 150 ]; do /bin/true; /bin/ls / >/dev/null; i=$((i+1)); done"
LOST = ("LOST_SAMPLE", "LOST_TRACE", "LOST_DEFERRED", "LOST_INTERNAL")


@pytest.fixture
def recorded():
    """Record a shell with hundreds of short children at a high frequency."""

    def record(**options):
        before = sum(metric.total for metric in metrics.LOST_SAMPLES)
        shell = subprocess.Popen(["sh", "-c", f"read go; {SHORT}"], stdin=subprocess.PIPE)
        profiler = Profiler(Options(frequency_hz=1999, pids=(shell.pid,), **options))
        profiler.start()
        try:
            shell.communicate(b"\n", timeout=60)
            time.sleep(0.1)
            profiler.stop()
            counters = profiler.losses().counters
        finally:
            shell.kill()
            shell.wait()
            profiler.close()
        dropped = sum(metric.total for metric in metrics.LOST_SAMPLES) - before
        return profiler, counters, dropped

    return record


@pytest.mark.parametrize("bounded", [False, True])
def test_every_tick_is_a_sample_or_a_counted_loss(recorded, bounded):
    profiler, counters, dropped = recorded(bounded=bounded)

    assert counters["TICKS"] > 100
    assert counters["TICKS"] == counters["SAMPLES"] + sum(counters[each] for each in LOST)
    assert counters["SAMPLES"] == profiler.collector.tally.samples + dropped
    assert counters["LOST_INTERNAL"] == 0


def test_a_ring_that_is_far_too_small_loses_and_counts(recorded, monkeypatch):
    """The same sum where most is lost."""
    monkeypatch.setattr(sampling, "wish_of", lambda o: replace(wish_of(o), ring_bytes=4096))

    profiler, counters, dropped = recorded()

    lost = sum(counters[each] for each in LOST)
    assert lost > 0
    assert counters["TICKS"] == counters["SAMPLES"] + lost
    assert counters["SAMPLES"] == profiler.collector.tally.samples + dropped

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Ticks that the kernel leaves out are told."""

import os
from pathlib import Path

import pytest

from integration.recording import build_c, record

LIMIT = Path("/proc/sys/kernel/perf_event_max_sample_rate")


@pytest.fixture
def lowered():
    """Let the kernel take a tick a jiffy, as it does by itself where ticks take it too long."""
    before = LIMIT.read_text()
    LIMIT.write_text("1000")
    yield
    LIMIT.write_text(before)


@pytest.mark.needs("bpf", "cpu_clock", "tool:cc")
def test_what_the_kernel_throttles_is_told_in_percent(tmp_path, lowered):
    """On CPUs that all are busy: how many an idle one loses depends on when its jiffies begin."""
    cpus = len(os.sched_getaffinity(0))
    busy = f"{build_c(tmp_path, 'recurse')} 1 20"
    done = record(tmp_path, "-F", "5000", "--", "sh", "-c", f"{f'{busy} & ' * cpus} wait")

    (line,) = [line for line in done.said.splitlines() if "left out" in line]
    percent = float(line.split("left out ")[1].split()[0])
    missing = 100 * (1 - done.user_stacks / (5000 * cpus))
    assert 50 < percent < 95
    assert abs(percent - missing) < 15

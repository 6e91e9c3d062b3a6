# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Stacks reach their thread's first frame: the last line of `record` says of how many it is true.

Some workloads of each kind; `make accuracy` measures all of them, for longer.
Truncated, guessed and lost samples count as failures.
"""

from __future__ import annotations

import re

import pytest

from integration.oracles import record, record_enough
from integration.programs import WORKLOADS, build

pytestmark = pytest.mark.any_kernel
SECONDS = 1
LONGER = {"go-cgo": 4, "python extensions": 2, "python processes": 2}
"""Where loading takes a part of a second, in which Python's frames are missing."""
CHOSEN = (
    "python extensions",
    "python threads",
    "python processes",
    "stacks plt",
    "stacks signals",
    "stacks vfork",
    "stacks dlopen",
    "stacks-clang frames",
    "stacks-static-pie plt",
    "throws",
    "openssl rsa2048",
    "rust-mixed",
    "go-mixed",
    "go-cgo",
)


@pytest.mark.parametrize("name", CHOSEN)
def test_99_of_100_stacks_are_complete(name):
    """≥ 99 % of user stacks, of at least 200."""
    workload = WORKLOADS[name]
    if workload.missing:
        pytest.skip(f"needs {workload.missing}")
    seconds = LONGER.get(name, SECONDS)
    recorded = record_enough("--", *workload.command(seconds), samples=200, hertz=999)
    assert recorded.complete[0] >= 99, recorded.last_line


@pytest.mark.needs("tool:gcc")
def test_95_of_100_stacks_of_short_processes_are_complete():
    """Programs that live for some 50 ms, one after the other."""
    recorded = record_enough("--", *WORKLOADS["short processes"].command(1.5), samples=200)
    assert recorded.complete[0] >= 95, recorded.last_line


@pytest.mark.needs("tool:gcc", "bpf_loop")
def test_hundreds_of_frames_are_kept():
    """600 frames of recursion; a hundred are soon there when modules import each other."""
    command = [str(build("stacks")), "recursion", "1.5", "600"]
    recorded = record_enough("--", *command, samples=200)
    assert recorded.complete[0] >= 99, recorded.last_line
    assert max(len(trace.frames) for trace in recorded.profile.traces) > 600


@pytest.mark.needs("tool:gcc")
def test_a_stack_that_is_cut_keeps_its_newest_frames_and_says_so():
    """600 frames of recursion, of which the newest 128 are kept."""
    command = [str(build("stacks")), "recursion", "1.5", "600"]
    recorded = record("--max-frames", "128", "--", *command)
    cut = [trace for trace in recorded.profile.traces if trace.fault == "MAX_FRAMES"]
    assert cut
    assert "max_frames" in recorded.last_line
    for trace in cut:
        user = [frame for frame in trace.frames if frame.type != "kernel"]
        assert len(user) == 128


@pytest.mark.needs("tool:node")
def test_node_is_walked_to_the_end_if_only_by_frame_pointers():
    """V8's code has no call frame information: its frames are guessed, and said to be."""
    recorded = record_enough("--", *WORKLOADS["node"].command(2), samples=300)
    share, count = recorded.complete
    guessed = int(re.search(r"([0-9]+) guessed", recorded.last_line)[1])
    assert share + 100 * guessed / count >= 98, recorded.last_line

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Traces on the wire: two processes with one stack share it, and nothing else is merged."""

import re
import signal
import subprocess
from contextlib import ExitStack

import pytest

from integration.programs import build
from integration.runs import Running, wait_until
from tests.export.receivers import HttpReceiver, pids_of

DELIVERED = re.compile(r"attempted = \d+ \((\d+) samples\) delivered \+ 0 \(0 samples\) dropped")


def profiles_of(request):
    resources = zip(pids_of(request), request.resource_profiles, strict=True)
    for pid, resource in resources:
        for scope in resource.scope_profiles:
            for profile in scope.profiles:
                yield pid, profile


def user_frames(request, stack_index):
    """A stack without the kernel's frames: files and addresses."""
    table = request.dictionary
    return tuple(
        (location.mapping_index, location.address)
        for location in map(
            table.location_table.__getitem__, table.stack_table[stack_index].location_indices
        )
        if location.mapping_index
    )


@pytest.mark.parametrize("timestamps", [True, False])
def test_two_processes_with_one_stack_have_one_trace(timestamps):
    with ExitStack() as stack, HttpReceiver() as receiver:
        pids = []
        for _ in range(2):
            process = subprocess.Popen([build("recurse"), "60", "3"])
            stack.callback(process.wait)
            stack.callback(process.kill)
            pids.append(process.pid)
        options = ("agent", "-p", pids[0], "-p", pids[1], f"-collection-agent={receiver.url}")
        times = f"--timestamps={str(timestamps).lower()}"
        rate = ("--samples-per-second=499", "--reporter-interval=300ms")
        with Running(*options, times, *rate) as agent:
            wait_until(
                lambda: sum(len(pids_of(each)) > 1 for each in receiver.requests) >= 2, "both"
            )
            agent.process.send_signal(signal.SIGTERM)
            assert agent.end() == 0

    shared, counted = 0, 0
    for request in receiver.requests:
        stacks = {pid: set() for pid in pids}
        for pid, profile in profiles_of(request):
            stacks[pid] |= {each.stack_index for each in profile.samples}
            for sample in profile.samples:
                assert bool(sample.timestamps_unix_nano) == timestamps
                assert bool(sample.values) != timestamps
                counted += len(sample.timestamps_unix_nano) or sum(sample.values)
        both = stacks[pids[0]] & stacks[pids[1]]
        shared += len(both)
        # What both have is in the table once: no two entries have the same frames.
        frames = [tuple(each.location_indices) for each in request.dictionary.stack_table]
        assert len(set(frames)) == len(frames)
        assert all(len(user_frames(request, index)) >= 5 for index in both)
    # The checker also refuses two samples of one thread with the same stack.
    assert receiver.faults == []
    assert shared >= 2
    assert counted == int(DELIVERED.search(agent.said)[1])

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waits of a whole system under every kernel, held against what threads say of themselves."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from integration.programs import copy_of
from integration.recording import ENDS_UNSEEN, PLACES, Whole, measured

pytestmark = [pytest.mark.whole, pytest.mark.needs("guest", "bpf", "cpu_clock", "tool:cc")]


def waited_ns(stacks, function):
    """How long the threads waited whose stacks have the function."""
    return 1000 * sum(
        us
        for stack, us in stacks.items()
        if stack[-1].startswith("[off-CPU: ") and any(function in name for name in stack)
    )


def test_what_threads_waited_is_what_they_did_not_run(tmp_path):
    """At least while they looked at their clocks, at most while they were there.

    Before its clock a new thread of a busy guest may wait for its CPU for half a second.
    """
    program = copy_of("waits", tmp_path)
    whole = Whole(tmp_path, 60, "--wall")
    began = time.monotonic_ns()
    said = subprocess.check_output(["nice", "-n", "19", program, "1"], text=True)
    elapsed = time.monotonic_ns() - began
    whole.process.send_signal(signal.SIGINT)
    done = whole.end()

    threads = measured(said).values()
    stacks = done.of("waits")
    assert len(threads) == 7
    (longest,) = (wall for name, wall, _cpu in threads if name == "main")
    waited = waited_ns(stacks, "")
    slack = len(threads) * 20e6
    least = sum(wall - cpu for _name, wall, cpu in threads)
    most = sum(longest - cpu for _name, _wall, cpu in threads) + elapsed - longest
    assert (1 - ENDS_UNSEEN) * least - slack <= waited <= most + slack, (least, most, done.said)
    # Stacks of a program that is new may be short: its rows are read under emulation.
    assert all(waited_ns(stacks, place) for place in PLACES.values()), done.said

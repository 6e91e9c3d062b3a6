# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Offsets, features and the side-band on this machine's kernel."""

import os
import struct
import subprocess
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from otelagent.bpf.sideband import EventKind, Sideband
from otelagent.kernel.calibration import is_plausible_distance, read_ticks
from otelagent.kernel.features import probe_features
from otelagent.kernel.offsets import TaskOffsets, find_offsets, read_btf_offsets
from otelagent.kernel.scan import read_witnesses, scan_offsets

pytestmark = [pytest.mark.guest, pytest.mark.needs("bpf", "cpu_clock")]


@pytest.mark.needs("btf")
def test_offsets_lead_to_what_proc_says_of_this_thread():
    offsets = find_offsets()
    tick = read_ticks()[0]

    def field(offset, layout):
        return struct.unpack_from(layout, tick.task_copy, offset)[0]

    assert field(offsets.task.task_pid, "=I") == int(Path("/proc/thread-self").readlink().name)
    assert field(offsets.task.task_tgid, "=I") == os.getpid()
    stat = Path("/proc/thread-self/stat").read_text().rpartition(")")[2].split()
    started_ns = field(offsets.task.task_start_boottime, "=Q")
    assert started_ns // 10**7 == int(stat[19]) * 100 // os.sysconf("SC_CLK_TCK")
    stack = field(offsets.task.task_stack, "=Q")
    assert tick.regs == stack + offsets.user_regs_distance
    assert field(offsets.task.task_mm, "=Q") >> 63 == 1
    assert is_plausible_distance(offsets.user_regs_distance)


@pytest.mark.needs("btf")
def test_the_search_without_btf_finds_what_btf_says():
    found = TaskOffsets(**scan_offsets(read_witnesses()))

    assert found == read_btf_offsets()


def test_offsets_are_found_with_and_without_btf():
    assert is_plausible_distance(find_offsets().user_regs_distance)


def test_features_are_consistent():
    features = asdict(probe_features())

    assert features["bpf"]
    assert features["ring_buffer"], "Linux 5.8 has it: nothing older is supported"


@pytest.fixture
def sideband():
    listening = Sideband(pid=os.getpid())
    listening.open()
    yield listening
    listening.close()


def collect(sideband, pid, until):
    """Drain until an event of `pid` is of the kind `until`."""
    events = []
    deadline = time.monotonic() + 5
    while not any(event.kind == until for event in events):
        assert time.monotonic() < deadline, events
        sideband.wait(100)
        events += [event for event in sideband.drain() if event.pid == pid]
    return events


def test_a_childs_life_is_told_in_order(sideband):
    before = time.monotonic_ns()
    child = subprocess.Popen(["/bin/true"])
    child.wait()

    events = collect(sideband, child.pid, EventKind.EXIT)

    kinds = [event.kind for event in events]
    assert kinds[0] == EventKind.FORK
    assert events[0].is_new_process
    assert events[0].ppid == os.getpid()
    assert kinds.index(EventKind.EXEC) < kinds.index(EventKind.MMAP)
    assert events[-1].is_leader_exit
    mapping = next(e for e in events if e.kind == EventKind.MMAP)
    assert mapping.name == os.fsencode(Path("/bin/true").resolve())
    assert mapping.inode == Path("/bin/true").stat().st_ino
    assert mapping.prot & 4
    times = [event.time_ns for event in events]
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= time.monotonic_ns()
    assert sideband.malformed == 0


def test_losses_are_told(sideband):
    small = Sideband(pid=os.getpid(), pages=1)
    small.open()
    for _ in range(40):
        subprocess.check_call(["/bin/true"])

    # The kernel tells of a loss when it writes the next record.
    small.drain()
    subprocess.check_call(["/bin/true"])
    assert any(event.kind == EventKind.LOST for event in small.drain())
    assert not any(event.kind == EventKind.LOST for event in sideband.drain())
    small.close()

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

from integration.conftest import expected
from otelagent.bpf.btf import VMLINUX, btf_available
from otelagent.bpf.object import object_path
from otelagent.bpf.sideband import EventKind, Sideband
from otelagent.errors import MissingFeature
from otelagent.host.tracefs import find_event
from otelagent.kernel import offsets
from otelagent.kernel.calibration import is_plausible_distance, read_ticks
from otelagent.kernel.features import probe_features
from otelagent.kernel.offsets import TaskOffsets, find_offsets
from otelagent.kernel.scan import BY_SYSCALLS, BY_TICKS, read_witnesses, scan_offsets

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


@pytest.mark.parametrize("look", [*BY_SYSCALLS, BY_TICKS], ids=lambda look: look.name)
def test_each_search_finds_what_the_kernels_own_types_say(look):
    if look is BY_SYSCALLS[1] and not find_event("syscalls", "sys_enter_read"):
        pytest.skip("needs syscall_tracepoints")

    found = TaskOffsets(**scan_offsets(read_witnesses(look)))

    assert found == find_offsets().task


def test_offsets_are_seen_twice_with_and_without_btf():
    found = find_offsets()

    assert is_plausible_distance(found.user_regs_distance)
    assert found.again
    assert found.unseen == ()
    assert ("BTF" in found.source) is btf_available()


@pytest.mark.needs("btf")
def test_a_btf_file_is_taken_if_it_is_of_this_kernel(tmp_path):
    """The profiler's own object has BTF, too, with the task_struct of another kernel."""
    (tmp_path / "btf").write_bytes(VMLINUX.read_bytes())
    (tmp_path / "cut").write_bytes(VMLINUX.read_bytes()[:4096])

    assert find_offsets(tmp_path / "btf").task == find_offsets().task
    with pytest.raises(MissingFeature, match="no BTF in"):
        find_offsets(tmp_path / "cut")
    with pytest.raises(MissingFeature, match="task_struct"):
        find_offsets(object_path("profiler"))


@pytest.mark.needs("btf")
def test_where_btf_is_masked_a_search_takes_its_place(monkeypatch):
    expected = find_offsets()
    monkeypatch.setattr(offsets, "find_btf_files", list)

    found = find_offsets()

    # A thread's state is known by BTF alone: without it waits are told without theirs.
    assert found.config_fields() == expected.config_fields() | {"task_state": 0}
    assert (found.source, found.again) == (BY_SYSCALLS[0].name, BY_TICKS.name)


def test_features_are_those_of_the_table_of_kernels():
    features = asdict(probe_features())

    assert features["bpf"]
    assert features["ring_buffer"], "Linux 5.8 has it: nothing older is supported"
    assert [name for name in expected("OTELAGENT_FEATURES") if not features[name]] == []
    assert [name for name in expected("OTELAGENT_LACKS") if features[name]] == []


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


@pytest.fixture
def one_cpu():
    """Keep this process and its children on one CPU: each has a buffer of its own."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.usefixtures("one_cpu")
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

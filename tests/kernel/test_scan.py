# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The search for fields in task_structs that are made up."""

import os
import random
import struct
from pathlib import Path

import pytest

from otelagent.errors import MissingFeature
from otelagent.kernel import calibration, scan
from otelagent.kernel.calibration import Tick
from otelagent.kernel.scan import Known, Witnesses, scan_offsets

TRUE = {
    "task_stack": 32,
    "task_mm": 1136,
    "task_pid": 1264,
    "task_tgid": 1268,
    "task_group_leader": 1328,
    "task_start_boottime": 1560,
    "task_self_exec_id": 2016,
    "task_tls": 3128,
}
TICKS = 123_456


def put(task, name, *words, shift=0, layout="Q"):
    struct.pack_into(f"={len(words)}{layout}", task, TRUE[name] + shift, *words)


def thread(number, pid, tid, mm, leader, exec_ids, *, slept_ns=0):
    """One thread of a made-up kernel; everything else is noise."""
    task = bytearray(random.Random(number).randbytes(8192))
    address = 0xFFFF_8880_0000_0000 + number * 0x3000
    stack = 0xFFFF_C900_0000_0000 + number * 0x5000
    start_ns = (TICKS + number) * (10**9 // os.sysconf("SC_CLK_TCK")) + 77
    put(task, "task_stack", stack)
    put(task, "task_mm", mm, mm)
    put(task, "task_pid", tid, pid, layout="I")
    put(task, "task_pid", 0xFFFF_8881_0000_0000, 0xFFFF_8881_0000_0000, shift=16)
    put(task, "task_group_leader", leader or address)
    put(task, "task_start_boottime", start_ns - slept_ns, start_ns, shift=-8)
    put(task, "task_self_exec_id", *exec_ids, shift=-8)
    tls = 0x7F00_0000_0000 + number if pid == 100 else 0
    put(task, "task_tls", tls)
    tick = Tick(tid, pid, address, stack + 0x3F58, b"", bytes(task))
    return Known(tick, TICKS + number, tls)


@pytest.fixture
def make(monkeypatch):
    monkeypatch.setattr(calibration.platform, "machine", lambda: "x86_64")

    def witnesses(**options):
        leader = thread(1, 100, 100, 0xFFFF_8882_0000_1000, 0, (4, 6), **options)
        first = leader.tick.task
        return Witnesses(
            leader,
            thread(2, 100, 101, 0xFFFF_8882_0000_1000, first, (4, 6), **options),
            thread(3, 102, 102, 0xFFFF_8882_0000_2000, 0, (6, 7), **options),
            thread(4, 103, 103, 0xFFFF_8882_0000_2000, 0, (6, 8), **options),
        )

    return witnesses


def test_every_field_is_found(make):
    assert scan_offsets(make()) == TRUE


def test_start_boottime_is_told_from_start_time_on_a_machine_that_slept(make):
    assert scan_offsets(make(slept_ns=10**12)) == TRUE


@pytest.mark.parametrize(
    ("field", "patch"),
    [
        ("pid", "_is_pid"),
        ("stack", "_is_stack"),
        ("mm", "_is_mm"),
        ("self_exec_id", "_is_exec_id"),
    ],
)
def test_a_field_that_is_not_found_is_named(make, monkeypatch, field, patch):
    monkeypatch.setattr(scan, patch, lambda *_: False)

    with pytest.raises(MissingFeature, match=f"task_struct.{field}:") as caught:
        scan_offsets(make())

    assert "--btf-path" in caught.value.hint


def test_of_several_memory_maps_the_one_nearest_to_the_pid_is_taken(make, monkeypatch):
    expected = scan.scan_offsets(make())["task_mm"]
    real = scan._is_mm
    monkeypatch.setattr(scan, "_is_mm", lambda seen, offset: offset == 64 or real(seen, offset))

    assert scan.scan_offsets(make())["task_mm"] == expected


def test_a_short_copy_is_no_crash(make):
    seen = make()
    short = Known(Tick(100, 100, 1, 2, b"", b""), 1)

    with pytest.raises(MissingFeature):
        scan_offsets(Witnesses(seen.leader, seen.thread, seen.once, short))


@pytest.mark.parametrize(
    ("before", "vector", "found"),
    [(512, slice(None), 512), (512, slice(0, 100), 0), (512, slice(1, None), 0)],
)
def test_auxiliary_vector_is_found_by_what_proc_shows_of_ours(monkeypatch, before, vector, found):
    own = Path("/proc/self/auxv").read_bytes()[vector]
    copy = (bytes(before) + own).ljust(960, b"\0")
    monkeypatch.setattr(scan, "read_code", lambda addr, size: copy[:size] if addr == 5 else b"")

    assert scan.find_auxv(5) == found
    assert scan.find_auxv(6) == 0


def test_address_space_that_cannot_be_read_has_none(monkeypatch):
    def refuse(_addr, _size):
        raise MissingFeature("cannot be read")

    monkeypatch.setattr(scan, "read_code", refuse)

    assert scan.find_auxv(5) == 0

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The side-band's reader on perf buffers made in memory."""

import os
import struct
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent import metrics
from otelagent._native import ffi, lib
from otelagent.bpf import sideband as sideband_module
from otelagent.bpf.sideband import EventKind, Sideband
from otelagent.errors import KernelError

PAGE, DATA = 4096, 8192
LOST, COMM, EXIT, THROTTLE, FORK, MMAP2, KSYMBOL = 2, 3, 4, 5, 7, 10, 17
COMM_EXEC = 1 << 13


class Buffers:
    """One fake buffer per CPU: a control page, then the data."""

    def __init__(self, cpus=1, start=0, **options):
        self.sideband = Sideband(**options)
        self.memory = [ffi.new("u8[]", PAGE + DATA) for _ in range(cpus)]
        for memory in self.memory:
            # struct perf_event_mmap_page: data_head, data_tail, data_offset, data_size at 1024.
            struct.pack_into("=QQQQ", ffi.buffer(memory), 1024, start, start, PAGE, DATA)
            assert lib.oa_sideband_add_memory(self.sideband._handle, memory) == 0

    def head(self, cpu=0):
        return struct.unpack_from("=Q", ffi.buffer(self.memory[cpu]), 1024)[0]

    def tail(self, cpu=0):
        return struct.unpack_from("=Q", ffi.buffer(self.memory[cpu]), 1032)[0]

    def put_bytes(self, data, cpu=0):
        head = self.head(cpu)
        for at, byte in enumerate(data):
            self.memory[cpu][PAGE + (head + at) % DATA] = byte
        struct.pack_into("=Q", ffi.buffer(self.memory[cpu]), 1024, head + len(data))

    def put(self, kind, body, time_ns=1, cpu=0, misc=0):
        body += b"\0" * (-len(body) % 8)
        tail = struct.pack("=IIQII", 5, 6, time_ns, cpu, 0)
        header = struct.pack("=IHH", kind, misc, 8 + len(body) + len(tail))
        self.put_bytes(header + body + tail, cpu)


def mmap2(name=b"/lib/x.so"):
    fields = (5, 6, 0x7F00, 0x1000, 0x2000, 254, 3, 77, 9, 5, 2)
    return struct.pack("=IIQQQIIQQII", *fields) + name + b"\0"


def test_layout_matches_the_c_core():
    assert ffi.sizeof("struct oa_event") == sideband_module._EVENT.size
    for kind in EventKind:
        assert getattr(lib, f"OA_EVENT_{kind.name}") == kind


def test_a_mapping_has_all_its_fields():
    buffers = Buffers()
    buffers.put(MMAP2, mmap2(), time_ns=123, cpu=0)

    (event,) = buffers.sideband.drain()

    assert event.kind is EventKind.MMAP
    assert (event.pid, event.tid, event.time_ns) == (5, 6, 123)
    assert (event.addr, event.length, event.page_offset) == (0x7F00, 0x1000, 0x2000)
    assert (event.major, event.minor, event.inode, event.inode_generation) == (254, 3, 77, 9)
    assert (event.prot, event.flags, event.name) == (5, 2, b"/lib/x.so")
    assert buffers.tail() == buffers.head()


def test_exec_is_told_from_a_mere_name():
    buffers = Buffers()
    buffers.put(COMM, struct.pack("=II", 5, 6) + b"old\0")
    buffers.put(COMM, struct.pack("=II", 5, 5) + b"new\0", misc=COMM_EXEC)

    events = buffers.sideband.drain()

    assert [(e.kind, e.tid, e.name) for e in events] == [
        (EventKind.COMM, 6, b"old"),
        (EventKind.EXEC, 5, b"new"),
    ]


def test_fork_and_exit_tell_process_from_thread():
    buffers = Buffers()
    buffers.put(FORK, struct.pack("=IIIIQ", 9, 5, 9, 5, 1))
    buffers.put(FORK, struct.pack("=IIIIQ", 9, 9, 10, 9, 1))
    buffers.put(EXIT, struct.pack("=IIIIQ", 9, 5, 9, 5, 1))

    process, thread, gone = buffers.sideband.drain()

    assert (process.is_new_process, process.pid, process.ppid) == (True, 9, 5)
    assert (thread.is_new_process, thread.tid) == (False, 10)
    assert gone.is_leader_exit


def test_kernel_symbols_come_and_go():
    buffers = Buffers()
    buffers.put(KSYMBOL, struct.pack("=QIHH", 0xFFFF0000, 64, 1, 1) + b"bpf_prog_x\0")

    (event,) = buffers.sideband.drain()

    assert (event.kind, event.addr, event.length) == (EventKind.KSYMBOL, 0xFFFF0000, 64)
    assert (event.flags & 1, event.name) == (1, b"bpf_prog_x")


def test_lost_records_are_counted_and_told():
    buffers = Buffers()
    before = metrics.sideband_lost.total
    buffers.put(LOST, struct.pack("=QQ", 1, 42))

    (event,) = buffers.sideband.drain()

    assert (event.kind, event.length) == (EventKind.LOST, 42)
    assert metrics.sideband_lost.total == before + 42


def test_events_of_several_cpus_come_ordered_by_time():
    buffers = Buffers(cpus=3)
    for time in (30, 10, 20, 60, 50, 40):
        buffers.put(EXIT, struct.pack("=IIIIQ", time, 1, time, 1, 1), time, cpu=time // 10 % 3)

    assert [e.time_ns for e in buffers.sideband.drain()] == [10, 20, 30, 40, 50, 60]


def test_records_wrap_around_the_end():
    buffers = Buffers(start=DATA * 5 - 16)
    for at in range(300):
        name = b"/lib/" + b"y" * (at % 90)
        buffers.put(MMAP2, mmap2(name), time_ns=at + 1)
        assert [e.name for e in buffers.sideband.drain()] == [name]


@pytest.mark.parametrize("kind", [LOST, COMM, EXIT, FORK, MMAP2, KSYMBOL, 99])
def test_a_record_too_short_for_its_kind_is_counted(kind):
    buffers = Buffers()
    buffers.put(kind, b"")
    buffers.put(COMM, struct.pack("=II", 5, 6) + b"after\0")

    assert [e.name for e in buffers.sideband.drain()] == [b"after"]
    assert buffers.sideband.malformed == 1


def test_throttling_is_no_event():
    buffers = Buffers()
    buffers.put(THROTTLE, b"\0" * 24)

    assert buffers.sideband.drain() == []
    assert buffers.sideband.malformed == 0


def test_a_size_that_cannot_be_empties_the_buffer():
    buffers = Buffers()
    buffers.put_bytes(struct.pack("=IHH", COMM, 0, 4) + b"\0" * 64)

    assert buffers.sideband.drain() == []
    assert buffers.sideband.malformed == 1
    assert buffers.tail() == buffers.head()


@settings(deadline=None)
@given(st.lists(st.binary(max_size=600), max_size=4), st.integers(0, 2 * DATA))
def test_any_bytes_end_and_stay_inside(pieces, jump):
    buffers = Buffers(cpus=2)
    for at, piece in enumerate(pieces):
        buffers.put_bytes(piece, cpu=at % 2)
    struct.pack_into("=Q", ffi.buffer(buffers.memory[1]), 1024, jump)

    for _ in range(3):
        for event in buffers.sideband.drain():
            assert len(event.name) <= 65536
    assert buffers.tail(0) == buffers.head(0)


def test_only_wanted_processes_and_their_children_are_told_of():
    buffers = Buffers()
    buffers.sideband.want(5)
    buffers.put(COMM, struct.pack("=II", 8, 8) + b"other\0", misc=COMM_EXEC)
    buffers.put(FORK, struct.pack("=IIIIQ", 9, 5, 9, 5, 1))
    buffers.put(FORK, struct.pack("=IIIIQ", 10, 9, 10, 9, 1))
    buffers.put(FORK, struct.pack("=IIIIQ", 11, 8, 11, 8, 1))
    buffers.put(COMM, struct.pack("=II", 10, 10) + b"grandchild\0", misc=COMM_EXEC)
    buffers.put(COMM, struct.pack("=II", 11, 11) + b"nephew\0", misc=COMM_EXEC)
    buffers.put(MMAP2, mmap2())
    buffers.put(KSYMBOL, struct.pack("=QIHH", 0xFFFF0000, 64, 1, 0) + b"bpf_prog_x\0")
    buffers.put(LOST, struct.pack("=QQ", 1, 1))

    told = [(event.kind.name, event.pid, event.name) for event in buffers.sideband.drain()]

    assert told == [
        ("FORK", 9, b""),
        ("FORK", 10, b""),
        ("EXEC", 10, b"grandchild"),
        ("MMAP", 5, b"/lib/x.so"),
        ("KSYMBOL", 0, b"bpf_prog_x"),
        ("LOST", 0, b""),
    ]


def test_of_wanted_processes_their_threads_are_not_told_of():
    buffers = Buffers()
    buffers.sideband.want(5)
    buffers.put(COMM, struct.pack("=II", 5, 6) + b"worker\0")
    buffers.put(FORK, struct.pack("=IIIIQ", 5, 5, 7, 5, 1))
    buffers.put(EXIT, struct.pack("=IIIIQ", 5, 5, 7, 5, 1))
    buffers.put(EXIT, struct.pack("=IIIIQ", 5, 1, 5, 1, 1))

    assert [event.is_leader_exit for event in buffers.sideband.drain()] == [True]


def test_of_a_whole_system_threads_and_names_are_not_told_of():
    buffers = Buffers(is_patient=True)
    buffers.put(COMM, struct.pack("=II", 5, 6) + b"worker\0")
    buffers.put(COMM, struct.pack("=II", 5, 5) + b"image\0", misc=COMM_EXEC)
    buffers.put(FORK, struct.pack("=IIIIQ", 5, 5, 7, 5, 1))
    buffers.put(FORK, struct.pack("=IIIIQ", 9, 5, 9, 5, 1))
    buffers.put(EXIT, struct.pack("=IIIIQ", 5, 5, 7, 5, 1))

    told = [(event.kind.name, event.pid) for event in buffers.sideband.drain()]

    assert told == [("EXEC", 5), ("FORK", 9)]


def test_a_patient_wait_looks_in_the_end_and_takes_nothing():
    buffers = Buffers(is_patient=True)
    assert not buffers.sideband.wait(1)

    began = monotonic()
    buffers.put(FORK, struct.pack("=IIIIQ", 9, 5, 9, 5, 1))

    assert buffers.sideband.wait(40)
    assert monotonic() - began > 0.035
    assert len(buffers.sideband.drain()) == 1


def test_what_is_not_wanted_is_dropped_without_a_drain_and_the_rest_stays():
    buffers = Buffers(cpus=2)
    buffers.sideband.want(5)
    for time in range(1, 40):
        buffers.put(EXIT, struct.pack("=IIIIQ", 8, 1, 8, 1, 1), time, cpu=time % 2)
    handle = buffers.sideband._handle

    assert not lib.oa_sideband_skip(handle)
    assert [buffers.tail(cpu) for cpu in (0, 1)] == [buffers.head(cpu) for cpu in (0, 1)]

    # The child is wanted by the time that its own event is looked at, on another CPU.
    buffers.put(FORK, struct.pack("=IIIIQ", 9, 5, 9, 5, 1), 50, cpu=1)
    buffers.put(EXIT, struct.pack("=IIIIQ", 9, 5, 9, 5, 1), 51, cpu=0)
    assert lib.oa_sideband_skip(handle)
    assert lib.oa_sideband_skip(handle)
    told = [(event.kind.name, event.pid) for event in buffers.sideband.drain()]
    assert told == [("FORK", 9), ("EXIT", 9)]
    assert not lib.oa_sideband_skip(handle)


def test_a_wait_ends_by_time_or_by_the_descriptor_that_is_watched():
    buffers = Buffers()
    wake = os.eventfd(0, os.EFD_NONBLOCK)
    buffers.sideband.watch(wake)

    assert not buffers.sideband.wait(1)
    os.eventfd_write(wake, 1)
    assert buffers.sideband.wait(60_000)
    os.close(wake)


def test_broken_records_that_were_skipped_are_counted():
    buffers = Buffers()
    buffers.sideband.want(5)
    buffers.put(COMM, b"")

    assert not lib.oa_sideband_skip(buffers.sideband._handle)
    assert buffers.sideband.drain() == []
    assert buffers.sideband.malformed == 1


def test_a_process_that_is_no_longer_wanted_is_silent():
    buffers = Buffers()
    buffers.sideband.want(5)
    buffers.sideband.want(5, on=False)
    buffers.put(MMAP2, mmap2())

    assert buffers.sideband.drain() == []
    assert buffers.tail() == buffers.head()


def test_no_process_has_a_pid_above_the_kernels_limit():
    with pytest.raises(KernelError):
        Buffers().sideband.want(4 << 20)

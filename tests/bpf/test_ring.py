# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import mmap
import os
import random
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otelagent._native import ffi
from otelagent.abi._generated import RecordKind
from otelagent.bpf import ring as ring_module
from tests.bpf.rings import BUSY, DISCARD, FakeRing, MappedRing, sample, trace


def taken(fake):
    fake.ring.drain()
    return fake.ring.take()


def test_layouts_match_the_c_core():
    assert ffi.sizeof("struct oa_group") == ring_module._GROUP.size
    assert ffi.sizeof("struct oa_record_ref") == ring_module._RECORD.size


def test_samples_of_one_thread_and_trace_become_one_group():
    fake = FakeRing()
    for time in (5, 6, 9):
        fake.put(sample(0xABC, time_ns=time, flags=1 if time == 9 else 0))

    samples = taken(fake)

    (group,) = samples.groups()
    assert (group.hash, group.pid, group.tid, group.samples) == (0xABC, 7, 8, 3)
    assert group.comm.rstrip(b"\0") == b"work"
    assert group.weight == 30
    assert group.flags == 1
    assert list(samples.times_ns) == [5, 6, 9]
    assert fake.ring.pending_bytes() == 0


@pytest.mark.parametrize(
    "other",
    [{"hash_": 2}, {"pid": 70}, {"tid": 80}, {"comm": b"other"}],
    ids=lambda o: next(iter(o)),
)
def test_what_differs_in_trace_process_thread_or_name_stays_apart(other):
    fake = FakeRing()
    fake.put(sample(1))
    fake.put(sample(**{"hash_": 1, **other}))

    assert [g.samples for g in taken(fake).groups()] == [1, 1]


def test_times_of_interleaved_groups_lie_together():
    fake = FakeRing()
    for time in range(10):
        fake.put(sample(1 + time % 2, time_ns=time))

    samples = taken(fake)

    times = {g.hash: list(samples.times_ns[g.first :][: g.samples]) for g in samples.groups()}
    assert times == {1: [0, 2, 4, 6, 8], 2: [1, 3, 5, 7, 9]}


def test_a_trace_is_kept_whole_and_counts_as_a_sample():
    fake = FakeRing()
    record = trace(0x11, kernel=[0xFFFF], user=[(1, 2), (3, 4)])
    fake.put(record)
    fake.put(sample(0x11, time_ns=2))

    batch = fake.ring.drain()

    assert [(kind, bytes(data)) for kind, data in batch.records()] == [(RecordKind.TRACE, record)]
    assert [(g.hash, g.samples) for g in fake.ring.take().groups()] == [(0x11, 2)]


def test_reports_and_deferred_stacks_are_no_samples_and_keep_their_order():
    fake = FakeRing(size=1 << 18)
    report = struct.pack("=QQQIIHHI", 1, 2, 3, 4, 5, RecordKind.REPORT, 1, 6)
    deferred = bytearray(ffi.sizeof("struct oa_deferred"))
    struct.pack_into("=H", deferred, 32, RecordKind.DEFERRED)
    fake.put(bytes(deferred))
    fake.put(report)

    batch = fake.ring.drain()

    assert [kind for kind, _ in batch.records()] == [RecordKind.DEFERRED, RecordKind.REPORT]
    assert list(fake.ring.take().groups()) == []
    assert bytes([*batch.records()][1][1]) == report


def test_records_wrap_around_the_end_of_the_ring():
    fake = FakeRing(start=4096 * 3 - 24)
    for time in range(200):
        fake.put(sample(1, time_ns=time))
        assert list(taken(fake).times_ns) == [time]


def test_a_record_that_is_still_written_stops_the_drain_until_it_is_done():
    fake = FakeRing()
    fake.put(sample(1))
    busy = fake.put(sample(2), flags=BUSY)
    fake.put(sample(3))

    assert [g.hash for g in taken(fake).groups()] == [1]
    assert [g.hash for g in taken(fake).groups()] == []

    fake.write(busy, struct.pack("=I", 56))
    assert [g.hash for g in taken(fake).groups()] == [2, 3]


def test_a_discarded_record_is_skipped_and_counted():
    fake = FakeRing()
    fake.put(sample(1), flags=DISCARD)
    fake.put(sample(2))

    batch = fake.ring.drain()

    assert batch.discarded == 1
    assert [g.hash for g in fake.ring.take().groups()] == [2]


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\0" * 8,
        sample(1)[:-1],
        sample(1, kind=77),
        trace(1)[:-1],
        trace(1, user=[(1, 2)] * 3)[:-1],
        trace(1, kernel=range(128)),
        trace(1, user=[(0, 0)] * 1025),
        sample(1, kind=RecordKind.DEFERRED),
        struct.pack("=QQQIIHH", 1, 2, 3, 4, 5, RecordKind.REPORT, 1),
    ],
)
def test_a_record_that_is_not_what_its_kind_says_is_counted_and_skipped(record):
    fake = FakeRing(size=1 << 15)
    fake.put(record)
    fake.put(sample(2))

    batch = fake.ring.drain()

    assert batch.malformed == 1
    assert [g.hash for g in fake.ring.take().groups()] == [2]


def test_a_length_beyond_what_was_produced_empties_the_ring():
    fake = FakeRing()
    fake.put(sample(1))
    fake.put(sample(2), size=0x3FFFFFF0)

    batch = fake.ring.drain()

    assert [g.hash for g in fake.ring.take().groups()] == [1]
    assert batch.malformed == 1
    assert fake.ring.pending_bytes() == 0


def test_samples_are_counted_over_drains_until_they_are_taken():
    fake = FakeRing()
    for time in (5, 6, 9):
        fake.put(sample(1 + time % 2, time_ns=time))
        fake.ring.drain()

    first, second = fake.ring.take(), fake.ring.take()

    assert [(g.hash, g.samples) for g in first.groups()] == [(2, 2), (1, 1)]
    assert list(first.times_ns) == [5, 9, 6]
    assert list(second.groups()) == []
    fake.put(sample(1))
    assert [(g.hash, g.samples) for g in taken(fake).groups()] == [(1, 1)]


def test_samples_that_wait_are_bounded_and_the_rest_comes_once_they_are_taken():
    fake = FakeRing(size=1 << 22)
    one = sample(1)
    for _ in range(33_000):
        at = fake.producer[0]
        ffi.memmove(fake.data + at, struct.pack("=II", len(one), 0) + one, 64)
        fake.producer[0] = at + 64

    assert fake.ring.drain().has_more
    assert fake.ring.drain().has_more
    assert len(fake.ring.take().times_ns) == 32_768
    assert not fake.ring.drain().has_more
    assert len(fake.ring.take().times_ns) == 232


def test_random_interleavings_lose_nothing():
    chance = random.Random(1)
    fake = FakeRing(size=8192, start=100 * 8)
    put, got = {}, {}
    for _ in range(500):
        while fake.producer[0] - fake.consumer[0] < 7000:
            key = (chance.randrange(1, 9), chance.randrange(3))
            make = trace if chance.random() < 0.2 else sample
            fake.put(make(key[0], tid=key[1]))
            put[key] = put.get(key, 0) + 1
        for group in taken(fake).groups():
            key = (group.hash, group.tid)
            got[key] = got.get(key, 0) + group.samples
    assert put == got


@settings(deadline=None)
@given(st.binary(max_size=4000), st.integers(0, 8000))
def test_any_bytes_end_and_stay_inside(content, produced):
    fake = FakeRing(size=4096)
    fake.write(0, content)
    fake.producer[0] = produced // 8 * 8

    for _ in range(3):
        batch = fake.ring.drain()
        assert len(batch.data) <= 4 << 20
    fake.ring.close()


def test_a_ring_of_the_kernel_is_read_across_its_end_again_and_again():
    fake = MappedRing()
    for number in range(1000):
        fake.put(sample(number, time_ns=number))
        fake.put(trace(number, user=[(number, 1)] * (number % 50)))
        batch = fake.ring.drain()
        ((kind, data),) = batch.records()
        assert (kind, data[:8], len(data)) == (
            *(RecordKind.TRACE, struct.pack("=Q", number)),
            len(trace(number)) + 16 * (number % 50),
        )
        (group,) = fake.ring.take().groups()
        assert (group.hash, group.samples, batch.malformed) == (number, 2, 0)


def test_of_a_ring_little_stays_mapped():
    """What is mapped counts as resident memory, and a ring has megabytes, twice."""
    fake = MappedRing(1 << 20)
    ours = mapped_bytes(fake.fd) - 2 * mmap.PAGESIZE
    assert ours >= 2 << 20
    for count in (5000, 10):
        for number in range(count):
            fake.put(trace(number))
        assert len(list(fake.ring.drain().records())) == count
        assert mapped_bytes(fake.fd) <= ours + (256 << 10) + 2 * mmap.PAGESIZE


def mapped_bytes(fd):
    """Add up what this process has mapped of a file."""
    inode = str(os.fstat(fd).st_ino)
    total = 0
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, _, _, _, number, *_ = line.split()
        if number == inode and "memfd:ring" in line:
            first, last = (int(word, 16) for word in span.split("-"))
            total += last - first
    return total


def test_positions_that_cannot_be_are_counted_and_left():
    fake = FakeRing()
    fake.producer[0] = 3 * fake.size

    batch = fake.ring.drain()

    assert (batch.malformed, fake.ring.pending_bytes()) == (1, 0)
    fake.put(sample(1))
    assert fake.ring.drain().malformed == 0
    assert fake.ring.take().group_bytes

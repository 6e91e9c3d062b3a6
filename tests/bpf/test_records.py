# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What user space shares of each CPU's record: the epoch, and the counters."""

import struct
from types import SimpleNamespace

from otelagent.abi._generated import Counter, Fault
from otelagent.bpf.records import COUNTERS, CpuRecords


def test_each_cpu_is_told_and_each_time_something_else():
    buffer = bytearray(3 * 24)
    records = CpuRecords([SimpleNamespace(buffer=memoryview(buffer))], 24, 3)
    seen = set()

    for _ in range(100):
        records.advance_epoch()
        words = list(struct.iter_unpack("QQQ", buffer))
        assert {rest for _, *rest in map(list, words) for rest in rest} == {0}
        assert len({first for first, *_ in words}) == 1
        seen.add(words[0][0])

    assert len(seen) == 100
    assert 0 not in seen


def test_counters_of_all_cpus_are_summed():
    stride = 8 + 8 * COUNTERS + 40
    buffer = bytearray(3 * stride)
    records = CpuRecords([SimpleNamespace(buffer=memoryview(buffer))], stride, 3)
    last = Counter.COUNT + Fault.COUNT - 1
    for cpu in range(3):
        struct.pack_into("QQQ", buffer, cpu * stride, 99, 10 + cpu, 1 << 40)
        struct.pack_into("Q", buffer, cpu * stride + 8 + 8 * last, cpu)

    sums = records.read_counters()

    assert len(sums) == COUNTERS
    assert (sums[Counter.TICKS], sums[Counter.SAMPLES], sums[last]) == (33, 3 << 40, 3)


def test_both_records_of_a_cpu_count_and_are_told():
    """Ticks have one, and switches another: what either lost is lost."""
    stride = 8 + 8 * COUNTERS
    buffers = [bytearray(2 * stride) for _ in range(2)]
    memory = [SimpleNamespace(buffer=memoryview(each)) for each in buffers]
    records = CpuRecords(memory, stride, 2)
    for at, buffer in enumerate(buffers):
        struct.pack_into("Q", buffer, stride + 8 + 8 * Counter.LOST_TRACE, 5 + at)

    records.advance_epoch()

    assert records.read_counters()[Counter.LOST_TRACE] == 11
    assert all(struct.unpack_from("Q", each, stride)[0] for each in buffers)

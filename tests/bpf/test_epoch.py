# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The epoch that makes BPF forget what it looked up before."""

import struct
from types import SimpleNamespace

from otelagent.bpf.epoch import Epoch


def test_each_cpu_is_told_and_each_time_something_else():
    buffer = bytearray(3 * 24)
    epoch = Epoch(SimpleNamespace(buffer=memoryview(buffer)), 24, 3)
    seen = set()

    for _ in range(100):
        epoch.advance()
        records = list(struct.iter_unpack("QQQ", buffer))
        assert {rest for _, *rest in map(list, records) for rest in rest} == {0}
        assert len({first for first, *_ in records}) == 1
        seen.add(records[0][0])

    assert len(seen) == 100
    assert 0 not in seen

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Nothing of a trace or count is lost when it is packed."""

import pytest

from otelagent.abi._generated import SampleFlag
from otelagent.abi.codec import decode_trace, encode_trace
from otelagent.traces import kept
from otelagent.traces.collector import Collector
from otelagent.traces.kept import BLOCK, GroupKey, KeptTraces
from tests.bpf.rings import FakeRing, sample, trace

USER = 1 << SampleFlag.USER_BIT


def raw(number):
    user = [(number << 40, 5), (7, 0xFF00_0000_0000_1234)]
    kernel = [(1 << 64) - 1 - at for at in range(number % 3)]
    return decode_trace(trace((1 << 64) - 1 - number, kernel, user, pid=number, flags=USER))


@pytest.fixture
def full():
    """Three blocks and a half."""
    traces = KeptTraces(most_loose=BLOCK // 2)
    for number in range(3 * BLOCK + BLOCK // 2):
        traces[raw(number).hash] = raw(number)
    return traces


def test_a_record_is_the_same_after_decoding():
    record = trace(77, kernel=[1, 2], user=[(3, 4)], flags=USER)

    assert encode_trace(decode_trace(record)) == record


def test_packed_traces_are_found_as_they_were(full):
    numbers = range(3 * BLOCK + BLOCK // 2)

    assert len(full._loose) < 2 * BLOCK
    assert len(full) == len(numbers)
    assert [full[raw(number).hash] for number in numbers] == [raw(number) for number in numbers]
    assert set(full) == {raw(number).hash for number in numbers}
    assert full.get(5) is None


def test_how_a_packed_trace_was_walked_is_told_without_unpacking(full, monkeypatch):
    monkeypatch.delattr(kept, "_unpack")

    assert full.how(raw(0).hash).flags == USER
    assert full.how(raw(0).hash).fault == 0
    assert full.how(5) is None


def test_a_packed_trace_can_be_removed_and_come_again(full):
    assert full.discard(raw(0).hash)
    assert not full.discard(raw(0).hash)
    assert raw(0).hash not in full

    full[raw(0).hash] = raw(0)

    assert full[raw(0).hash] == raw(0)
    with pytest.raises(KeyError):
        del full[5]


def test_counts_that_were_put_away_are_given_back_whole(monkeypatch):
    monkeypatch.setattr("otelagent.traces.collector.MOST_LOOSE", 2)
    collector = Collector(lambda _: None, lambda _: None, lambda _: None)
    ring = FakeRing(1 << 16)
    for number in range(5):
        ring.put(trace(number, kernel=[1], pid=number, time_ns=number, flags=USER))
        for time_ns in (10 + number, 20 + number):
            ring.put(sample(number, pid=number, time_ns=time_ns, weight=3, flags=USER))
    for number in (0, 4):
        ring.put(sample(number, pid=number, time_ns=30 + number, weight=1 << 40, flags=USER))
        collector.add_batch(ring.ring.drain())
        collector.add_samples(ring.ring.take())

    groups = collector.take()

    key = GroupKey(0, 0, 8, b"work".ljust(16, b"\0"))
    assert sorted(each.hash for each in groups) == [0, 1, 2, 3, 4]
    assert (groups[key].count, groups[key].weight) == (4, 10 + 3 + 3 + (1 << 40))
    assert sorted(groups[key].times_ns) == [0, 10, 20, 30]
    assert collector.take() == {}
    assert collector.tally.complete == 17

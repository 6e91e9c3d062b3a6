# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Counts can be taken while samples come in."""

from collections import Counter

import pytest

from otelagent import metrics
from otelagent._native import ffi
from otelagent.abi._generated import RecordKind, SampleFlag
from otelagent.losses import Losses
from otelagent.traces.collector import Collector
from otelagent.traces.kept import GroupKey
from tests.bpf.rings import DISCARD, FakeRing, sample, trace

USER = 1 << SampleFlag.USER_BIT


@pytest.fixture
def ring():
    return FakeRing()


@pytest.fixture
def collector():
    return Collector(lambda _: None, lambda _: None, lambda _: None)


def collect(ring, collector):
    collector.add_batch(ring.drain())
    collector.add_samples(ring.take())


def test_what_was_taken_is_not_given_again(ring, collector):
    ring.put(trace(77, kernel=[1], flags=USER))
    ring.put(sample(77, time_ns=5, flags=USER))
    collect(ring.ring, collector)

    taken = collector.take()
    ring.put(sample(77, time_ns=6, flags=USER))
    collect(ring.ring, collector)

    key = GroupKey(77, 7, 8, b"work".ljust(16, b"\0"))
    assert list(taken) == [key]
    first = taken[key].count
    assert collector.take()[key].count == 1
    assert collector.take() == {}
    assert collector.tally.samples == first + 1
    assert 77 in collector.traces


def test_a_record_that_makes_no_sense_is_counted(ring, collector, monkeypatch):
    monkeypatch.setattr(metrics.records_lost, "values", Counter())
    ring.put(trace(77, kernel=[1], flags=USER)[:-4])
    collect(ring.ring, collector)

    assert metrics.records_lost.values == {"malformed": 1}
    assert collector.traces == {}


def test_a_copied_tally_does_not_change(ring, collector):
    before = collector.tally_now()
    ring.put(trace(77, kernel=[1], flags=USER))
    ring.put(sample(77, flags=USER))
    collect(ring.ring, collector)

    assert before.samples == 0
    assert collector.tally_now().samples >= 1
    assert collector.tally_now().faults is not collector.tally.faults


def test_a_record_that_bpf_withdrew_is_a_lost_sample(ring, collector, monkeypatch):
    monkeypatch.setattr(metrics.records_lost, "values", Counter())
    ring.put(sample(77), flags=DISCARD)
    collect(ring.ring, collector)

    assert metrics.records_lost.values == {"withdrawn by BPF": 1}
    assert Losses({"LOST_INTERNAL": 2}).lost_samples == 3 + metrics.trace_forgotten.total + (
        metrics.deferred_dropped.total
    )


def deferred(tid=8, time_ns=5, cpu=1):
    record = ffi.new("struct oa_deferred *")
    record.trace.sample.kind = RecordKind.DEFERRED
    record.trace.sample.tid, record.trace.sample.time_ns = tid, time_ns
    record.trace.sample.cpu = cpu
    return ffi.buffer(record)[: ffi.offsetof("struct oa_deferred", "stack")]


def deep(tid=8, time_ns=5, cpu=1):
    fields = {"kind": RecordKind.DEEP, "tid": tid, "time_ns": time_ns, "cpu": cpu}
    return bytes(ffi.buffer(ffi.new("struct oa_deep *", fields)))


@pytest.mark.parametrize("others", [{"tid": 9}, {"time_ns": 6}, {"cpu": 2}])
def test_what_is_deep_of_a_stack_is_put_behind_it_and_behind_no_other(others):
    ring, posted = FakeRing(size=1 << 20), []
    collector = Collector(posted.append, lambda _: None, lambda _: None)

    for record in (deep(), deferred(), deferred(), deep(**others), deferred()):
        ring.put(record)
        collect(ring.ring, collector)

    assert posted == [deferred() + deep(), deferred(), deferred()]


def test_a_deep_record_that_is_too_short_is_counted(ring, collector, monkeypatch):
    monkeypatch.setattr(metrics.records_lost, "values", Counter())
    ring.put(deep()[:1000])
    collect(ring.ring, collector)

    assert metrics.records_lost.values == {"malformed": 1}

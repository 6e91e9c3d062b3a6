# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Counts can be taken while samples come in."""

from collections import Counter

import pytest

from otelagent import metrics
from otelagent.abi._generated import SampleFlag
from otelagent.losses import Losses
from otelagent.traces.collector import Collector, GroupKey
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

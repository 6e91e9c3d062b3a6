# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The end of a wait finds its stack, whichever comes first."""

from collections import Counter

import pytest

from otelagent import metrics
from otelagent.abi._generated import RecordKind, SampleFlag
from otelagent.abi.codec import Sample
from otelagent.traces.collector import Collector
from otelagent.traces.kept import GroupKey
from otelagent.traces.waits import Begin, Ended, Waits
from tests.bpf.rings import FakeRing, sample, trace

OFF = 1 << SampleFlag.USER_BIT | 1 << SampleFlag.OFF_CPU_BIT
COMM = b"work".ljust(16, b"\0")
KEY = GroupKey(77, 7, 8, COMM)


@pytest.fixture(autouse=True)
def unmatched(monkeypatch):
    monkeypatch.setattr(metrics.waits_unmatched, "values", Counter())
    return metrics.waits_unmatched


@pytest.fixture
def ring():
    return FakeRing()


@pytest.fixture
def collector():
    return Collector(lambda _: None, lambda _: None, lambda _: None)


def collect(ring, collector):
    collector.add_batch(ring.ring.drain())
    collector.add_samples(ring.ring.take())


def stack(hash_, time_ns):
    """What BPF sends at a switch with a stack that is not known yet."""
    return trace(hash_, kernel=[1], flags=OFF, time_ns=time_ns, kind=RecordKind.STACK)


def waited(begin_ns, weight):
    return sample(begin_ns, time_ns=begin_ns + weight, weight=weight, kind=RecordKind.WAITED)


def total(collector):
    (found,) = collector.take().items()
    return found[0], found[1].count, found[1].weight, list(found[1].times_ns)


def test_a_stack_is_no_sample_until_its_wait_is_over(ring, collector):
    ring.put(stack(77, 5))
    collect(ring, collector)
    assert (collector.groups, collector.tally.samples) == ({}, 0)

    ring.put(sample(77, time_ns=905, weight=900, flags=OFF))
    collect(ring, collector)

    assert total(collector) == (KEY, 1, 900, [905])


@pytest.mark.parametrize("is_stack_first", [False, True])
def test_a_deferred_stack_and_its_end_become_one_sample(ring, collector, is_stack_first):
    finished = trace(77, kernel=[1], flags=OFF, time_ns=5)

    if is_stack_first:
        collector.add_finished(finished)
    ring.put(waited(5, 900))
    collect(ring, collector)
    if not is_stack_first:
        collector.add_finished(finished)

    assert total(collector) == (KEY, 1, 900, [905])


def test_the_end_of_another_wait_finds_nothing(ring, collector):
    collector.add_finished(trace(77, kernel=[1], flags=OFF, time_ns=5))
    ring.put(waited(6, 900))
    collect(ring, collector)

    assert collector.take() == {}


def test_what_still_waits_counts_until_the_end(ring, collector, unmatched):
    ring.put(stack(77, 5))
    collect(ring, collector)
    collector.add_finished(trace(78, kernel=[2], flags=OFF, time_ns=6))
    known = Sample(77, 5, 0, 7, 8, RecordKind.SAMPLE, 0, OFF, COMM)
    deferred = known._replace(hash=0, time_ns=6, kind=RecordKind.DEFERRED)
    lost = deferred._replace(time_ns=7)

    assert collector.add_waiting([known, deferred, lost], 1000) == 3

    weights = {key.hash: each.weight for key, each in collector.take().items()}
    assert weights == {77: 995, 78: 994}
    assert unmatched.total == 1


def test_a_stack_that_may_be_asked_for_is_not_buried(collector):
    collector.add_finished(trace(77, kernel=[1], flags=OFF, time_ns=5))
    collector.doom([77])

    assert collector.bury([77], lambda _left: None) == []
    assert 77 in collector.traces


def test_the_oldest_are_dropped_and_counted(unmatched):
    waits = Waits(most=2)
    for at in range(3):
        assert waits.add_end(Begin(1, at), Ended(9, at + 9)) is None
        assert waits.add_stack(Begin(2, at), KEY) is None

    assert waits.add_stack(Begin(1, 0), KEY) is None
    assert waits.add_end(Begin(2, 2), Ended(9, 11)) == KEY
    assert waits.add_stack(Begin(1, 2), KEY) == Ended(9, 11)
    assert unmatched.total == 1

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Forgetting traces loses no sample: what is forgotten comes again, what came again stays."""

import random
from collections import Counter

import pytest

from otelagent import metrics
from otelagent.abi._generated import SampleFlag
from otelagent.traces.collector import Collector
from otelagent.traces.recent import Bounds, RecentTraces
from tests.bpf.rings import FakeRing, sample, trace

USER = 1 << SampleFlag.USER_BIT


class Handler:
    """What is kept of frames."""

    def __init__(self, world):
        self.world = world

    @property
    def frame_count(self):
        return self.world.frame_count

    def keep(self, traces):
        self.world.kept.append(set(traces))

    def forget(self, hashes):
        self.world.buried += hashes


class World:
    """A kernel that sends a trace unless it is known, and what listens to it."""

    def __init__(self, **bounds):
        self.known = set()
        self.near = set()
        self.slow = set()
        self.ring = FakeRing()
        self.collector = Collector(lambda _: None, lambda _: None, lambda _: None)
        self.frame_count = 0
        self.kept, self.buried = [], []
        self.cleaned = []
        self.recent = RecentTraces(
            self.collector, Handler(self), self, self.cleaned.append, Bounds(**bounds)
        )

    def forget(self, hashes):
        self.known -= set(hashes)
        self.forget_near(hashes)
        # A program that had just found it in the table notes it only now.
        self.near |= self.slow & set(hashes)

    def forget_near(self, hashes):
        self.near -= set(hashes)

    def keep(self, hashes):
        self.known &= set(hashes)

    def run(self, *hashes):
        """Sample stacks; a report follows."""
        self.sample(*hashes)
        return self.report()

    def sample(self, *hashes):
        for each in hashes:
            if each in self.near or each in self.known:
                self.ring.put(sample(each, flags=USER))
            else:
                self.ring.put(trace(each, kernel=[1], flags=USER))
                self.known.add(each)
            self.near.add(each)

    def report(self):
        self.collector.add_batch(self.ring.ring.drain())
        self.collector.add_samples(self.ring.ring.take())
        groups = self.collector.take()
        for key in groups:
            assert key.hash in self.collector.traces
        self.recent.note(key.hash for key in groups)
        return sum(total.count for total in groups.values())


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.setattr(metrics.trace_forgotten, "values", Counter())


def test_what_is_not_sampled_any_more_is_forgotten():
    world = World(age=3)
    world.run(1, 2)

    for _ in range(10):
        world.run(1)

    assert set(world.collector.traces) == {1}
    assert (world.known, world.buried) == ({1}, [2])


def test_there_are_never_many_more_than_the_bound():
    world = World(traces=5)

    counted = [world.run(*range(at, at + 3)) for at in range(1, 300, 3)]

    assert counted == [3] * 100
    assert len(world.collector.traces) <= 5 + 3 * 3
    assert metrics.trace_forgotten.total == 0


def test_deep_stacks_are_bounded_by_their_bytes():
    world = World(words_bytes=0)
    world.run(1)

    world.collector.traces[1] = world.collector.traces[1]._replace(user=bytes(16))
    world.recent._bytes = 16
    for _ in range(4):
        world.run()

    assert world.collector.traces == {}


def test_one_that_comes_again_in_the_midst_of_it_is_kept():
    world = World(age=1)
    world.run(1)
    world.run()
    world.run()  # it was told to come anew
    assert 1 not in world.known

    counted = [world.run(1), world.run(1), world.run(1)]

    assert counted == [1, 1, 1]
    assert set(world.collector.traces) == {1}


def test_one_that_comes_just_before_it_is_removed_is_kept():
    world = World(age=1)
    for _ in range(4):
        world.run(*([1] if not world.known and not world.collector.traces else []))
    world.sample(1)

    assert world.report() == 1
    assert world.run(1) == 1
    assert metrics.trace_forgotten.total == 0


def test_a_cpu_that_noted_it_in_the_midst_of_it_is_cleared_too():
    world = World(age=1)
    world.slow.add(1)
    world.run(1)
    world.run()
    world.run()
    assert world.near == {1}

    counted = [world.run(1), *(world.run() for _ in range(4)), world.run(1)]

    assert counted == [1, 0, 0, 0, 0, 1]
    assert metrics.trace_forgotten.total == 0


@pytest.mark.parametrize("seed", range(5))
def test_random_histories_lose_nothing(seed):
    rng = random.Random(seed)
    world = World(age=2, traces=4)
    world.slow = set(range(1, 20))
    put = got = 0

    for _ in range(2000):
        hashes = [rng.randrange(1, 20) for _ in range(rng.randrange(4))]
        put += len(hashes)
        world.sample(*hashes)
        if rng.random() < 0.7:
            got += world.report()

    assert got + world.report() == put
    assert metrics.trace_forgotten.total == 0


def test_frames_are_looked_through_only_when_there_are_many_more():
    world = World(age=1, frames=10)
    world.run(1)
    for _ in range(6):
        world.run(2)
    assert world.kept == []

    world.frame_count = 11
    world.run(2)
    world.run(2)

    assert world.kept == [{2}]
    assert [set(each) for each in world.cleaned] == [{2}]


def test_frames_are_looked_through_now_and_then_where_none_is_new():
    """Short processes run code that is known: each leaves notes, and none has a new frame."""
    world = World(age=1, frames=10, rest=5)

    for number in range(1, 21):
        world.known.add(1000 + number)  # BPF notes other things, too
        world.run(number)

    assert len(world.cleaned) == 4
    assert world.known <= set(world.collector.traces)
    assert all(len(each) <= 4 for each in world.cleaned)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A long recording ends in time: packed traces are unpacked once, in whatever order they came."""

import random
from types import SimpleNamespace

import pytest

from otelagent.abi._generated import SampleFlag
from otelagent.abi.codec import decode_trace
from otelagent.model import Frame, FrameType, Trace
from otelagent.profile.model import Profile
from otelagent.recording import Merger
from otelagent.traces import handler, kept
from otelagent.traces.handler import PythonNamers, TraceHandler
from otelagent.traces.kept import BLOCK, GroupKey, GroupTotal, KeptTraces
from tests.bpf.rings import trace

BLOCKS = 6
USER = 1 << SampleFlag.USER_BIT


class Handler:
    """Finishes traces: one frame, the trace's own number."""

    def finish(self, raw):
        return Trace((Frame(FrameType.NATIVE, raw.hash),))

    def finished(self, _hash):
        return None


@pytest.fixture
def traces():
    made = KeptTraces(most_loose=0)
    for number in range(BLOCKS * BLOCK):
        raw = decode_trace(trace(number + 1, user=[(7, number)], pid=3, tid=4, flags=USER))
        made[raw.hash] = raw
    return made


def merge(traces, groups):
    profiler = SimpleNamespace(
        collector=SimpleNamespace(traces=traces),
        handler=Handler(),
        options=SimpleNamespace(off_cpu=None),
        table=SimpleNamespace(images={}),
    )
    profile = Profile()
    Merger(profiler).add(groups, profile, offset_ns=1000)
    return profile


def test_each_block_of_traces_is_unpacked_once(traces, monkeypatch):
    """20,000 stacks, sampled now and then, took more than five minutes to be written."""
    unpacked, unpack = [], kept._unpack
    monkeypatch.setattr(kept, "_unpack", lambda block: unpacked.append(block) or unpack(block))
    groups = [
        (GroupKey(each, 3, 4, b"a\0"), GroupTotal(2, 2, kept.array("Q", [each, each + 1])))
        for each in random.Random(3).sample(range(1, BLOCKS * BLOCK + 1), BLOCKS * BLOCK)
    ]

    profile = merge(traces, groups)

    assert len(unpacked) == BLOCKS
    assert {
        (stack.frames[0].address, group.count, *group.timestamps_ns)
        for stack, _, _, group in profile
    } == {(each, 2, each + 1000, each + 1001) for each in range(1, BLOCKS * BLOCK + 1)}


def test_what_was_finished_is_not_unpacked_again(traces, monkeypatch):
    """An agent that knew more than 4,096 traces spent a third of its reports on unpacking them."""
    named = TraceHandler(lambda _: None, SimpleNamespace(), PythonNamers(lambda *_: None), print)
    profiler = SimpleNamespace(
        collector=SimpleNamespace(traces=traces),
        handler=named,
        options=SimpleNamespace(off_cpu=None),
        table=SimpleNamespace(images={}),
    )
    merger = Merger(profiler)
    total = GroupTotal(1, 1, kept.array("Q", [5]))
    groups = [(GroupKey(each, 3, 4, b"a\0"), total) for each in traces]
    first, second = Profile(), Profile()
    merger.add(groups, first)
    monkeypatch.delattr(kept, "_unpack")

    merger.add(groups, second)

    assert [each[:3] for each in second] == [each[:3] for each in first]
    assert len(second) == BLOCKS * BLOCK
    assert {merger.generation(key.hash).pid for key, _ in groups} == {7}


def test_finished_traces_are_kept_up_to_a_limit(traces, monkeypatch):
    """Each sample of a storm of processes has a trace of its own."""
    monkeypatch.setattr(handler, "MAX_FINISHED", 10)
    named = TraceHandler(lambda _: None, SimpleNamespace(), PythonNamers(lambda *_: None), print)

    made = [named.finish(traces[number]) for number in range(1, 36)]

    assert len(named._finished) <= 10
    assert [each.frames[0].address for each in made] == list(range(35))
    assert named.finish(traces[35]) is made[-1]

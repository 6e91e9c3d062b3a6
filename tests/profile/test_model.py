# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from otelagent.model import Frame, FrameType, Function, Line, Pid, Process, Thread, Trace
from otelagent.profile.model import MAX_ALIASES, Profile

PROCESS = Process(Pid(1), "p")
THREAD = Thread(1)


def trace(line: int = 1, *, fault: str = "") -> Trace:
    return Trace((Frame(FrameType.PYTHON, lines=(Line(Function("f"), line),)),), fault)


def test_equal_traces_of_different_identity_are_one():
    profile = Profile()

    profile.add(trace(), PROCESS, THREAD, 1, 1, [10])
    profile.add(trace(), PROCESS, THREAD, 2, 2, [11, 12])

    [(_, _, _, group)] = profile
    assert (group.count, list(group.timestamps_ns)) == (3, [10, 11, 12])


def test_traces_that_differ_only_in_line_or_fault_stay_apart():
    profile = Profile()

    for one in (trace(1), trace(2), trace(1, fault="NO_ROW")):
        profile.add(one, PROCESS, THREAD, 1, 1)

    assert len(profile) == len(profile.traces) == 3


def test_a_time_stamp_for_some_samples_only_is_dropped():
    profile = Profile()
    profile.add(trace(), PROCESS, THREAD, 1, 1, [10])
    profile.add(trace(), PROCESS, THREAD, 1, 1)
    profile.add(trace(), PROCESS, THREAD, 1, 1, [12])

    [(_, _, _, group)] = profile
    assert (group.count, list(group.timestamps_ns)) == (3, [])


def test_a_known_trace_is_not_hashed_again(monkeypatch):
    profile = Profile()
    one = trace()
    profile.add(one, PROCESS, THREAD, 1, 1)

    def refuse(_self):
        pytest.fail("hashed")

    monkeypatch.setattr(Frame, "__hash__", refuse)
    profile.add(one, PROCESS, THREAD, 1, 1)

    assert profile.samples == 2


def test_a_frame_that_many_traces_share_is_hashed_once(monkeypatch):
    profile = Profile()
    shared, other = trace(1).frames[0], trace(2).frames[0]
    profile.add(Trace((shared, other)), PROCESS, THREAD, 1, 1)

    def refuse(_self):
        pytest.fail("hashed")

    monkeypatch.setattr(Frame, "__hash__", refuse)
    for frames in ((shared,), (other, shared), (shared, other)):
        profile.add(Trace(frames), PROCESS, THREAD, 1, 1)

    assert [group.count for *_, group in profile] == [2, 1, 1]


def test_many_short_lived_traces_keep_their_counts():
    """An identity that Python gives away again must not count for the old trace."""
    profile = Profile()

    for number in range(MAX_ALIASES + 10):
        profile.add(trace(number % 7), PROCESS, THREAD, 1, 1)

    assert len(profile) == 7
    assert profile.samples == MAX_ALIASES + 10


def test_values_count_where_the_unit_is_not_a_count():
    profile = Profile(sample_type=("off_cpu", "nanoseconds"))

    profile.add(trace(), PROCESS, THREAD, 2, 500)

    assert (profile.samples, profile.total) == (2, 500)

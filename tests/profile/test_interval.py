# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The samples of an interval: counted by the objects that they are of, equal or not."""

from otelagent.export.otlp_profiles import encode_profiles
from otelagent.model import Frame, FrameType, Function, Line, Pid, Process, Thread, Trace
from otelagent.profile.interval import Interval

PROCESS, THREAD = Process(Pid(7), "app"), Thread(8, "main")


def trace(name: str) -> Trace:
    return Trace((Frame(FrameType.PYTHON, lines=(Line(Function(name)),)),))


def test_samples_of_one_trace_in_one_thread_are_counted_together():
    interval, same = Interval(), trace("a")
    interval.add(same, PROCESS, THREAD, 2, 50, (5, 6))
    interval.add(same, PROCESS, THREAD, 1, 25, (7,))
    interval.add(same, PROCESS, Thread(9, "main"), 1, 25, (8,))

    assert [(each[3].count, each[3].value, [*each[3].timestamps_ns]) for each in interval] == [
        (3, 3, [5, 6, 7]),
        (1, 1, [8]),
    ]
    assert len(interval) == 2


def test_a_sample_of_waits_weighs_its_time():
    interval = Interval(sample_type=("off_cpu", "nanoseconds"))
    interval.add(trace("a"), PROCESS, THREAD, 2, 50)

    assert [each[3].value for each in interval] == [50]


def test_times_of_some_samples_only_are_left_out():
    interval, same = Interval(), trace("a")
    interval.add(same, PROCESS, THREAD, 1, 1, (5,))
    interval.add(same, PROCESS, THREAD, 2, 2)

    assert [(each[3].count, [*each[3].timestamps_ns]) for each in interval] == [(3, [])]


def test_equal_traces_are_one_sample_of_a_request():
    """Two raw traces may look alike once they are named, as one stack of two address spaces."""
    interval = Interval()
    for at in (9, 5):
        interval.add(trace("a"), PROCESS, THREAD, 1, 1, (at,))
    interval.add(trace("b"), PROCESS, THREAD, 1, 1, (7,))
    assert len(interval) == 3

    request = encode_profiles(interval, interval)

    (resource,) = request.resource_profiles
    (profile,) = resource.scope_profiles[0].profiles
    assert [[*each.timestamps_unix_nano] for each in profile.samples] == [[5, 9], [7]]
    assert len(request.dictionary.stack_table) == 3  # the first stands for none

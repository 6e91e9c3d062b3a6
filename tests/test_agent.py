# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent over a fake profiler: intervals become requests, lots switch sampling off."""

import os
import random
import time
from array import array
from types import SimpleNamespace

import pytest
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service

from otelagent import metrics
from otelagent.abi._generated import SampleFlag
from otelagent.abi.codec import Generation
from otelagent.agent import Agent
from otelagent.agentplan import Plan
from otelagent.chance import draw_lot, jittered
from otelagent.losses import Losses
from otelagent.model import Trace
from otelagent.options import OffCpu
from otelagent.recording import time_grain_ns
from otelagent.traces.collector import Tally
from otelagent.traces.kept import GroupKey, GroupTotal
from otelagent.waiting import waiting_frame
from tests.export.conformance import check
from tests.export.receivers import resources_of


class Traces(dict):
    """Of which none is packed."""

    def place(self, _hash):
        return 0


class FakeProfiler:
    """What the agent takes of a profiler."""

    def __init__(self):
        self.options = SimpleNamespace(frequency_hz=20, off_cpu=None, on_cpu=True)
        self.started_ns = 1000
        self.switched = []
        self.waits = []
        self.frequencies = []
        self.sampling = SimpleNamespace(
            enable=self.switched.append,
            set_frequency=self.frequencies.append,
            waiting=lambda: self.waits,
        )
        self.table = SimpleNamespace(images={}, entries={})
        generation = Generation(1, 0, 999_999_999)  # no process
        raw = SimpleNamespace(hash=1, flags=0, generation=generation, comm=b"app", user=b"")
        self.collector = SimpleNamespace(
            traces=Traces({1: raw}),
            take=self._take,
            tally=Tally(),
            deferred=0,
            watch=lambda _: None,
        )
        self.collector.bury = lambda _hashes, on_left: on_left({1: raw}) or []
        self.handler = SimpleNamespace(finish=lambda _raw: Trace(()), frame_count=0)
        self.handler.finished = lambda _hash: None
        self.handler.keep = self.handler.forget = lambda _traces: None
        self.runtimes = SimpleNamespace(keep_namers=lambda _is_wanted: None)
        self.namers = SimpleNamespace(rest=lambda _turns: None)
        self.kernel = SimpleNamespace(rest=lambda: None)
        self.groups = {}
        self.lost = 0

    def sample(self, *times_ns, tid=7):
        total = self.groups.setdefault(GroupKey(1, 7, tid, b"app"), GroupTotal())
        total.count += len(times_ns)
        total.times_ns.extend(array("Q", times_ns))

    def _take(self):
        groups, self.groups = self.groups, {}
        return groups

    def flush(self):
        pass

    def losses(self):
        return Losses({"LOST_SAMPLE": self.lost})


class FakeSink:
    def __init__(self):
        self.records = []
        self.ended = None

    def put(self, record):
        self.records.append(record)

    def close(self, seconds):
        self.ended = seconds

    def summary(self):
        return "all is well"


@pytest.fixture(autouse=True)
def _fresh_metrics(monkeypatch):
    for metric in metrics.ALL.values():
        monkeypatch.setattr(metric, "values", type(metric.values)())


class Now:
    def __init__(self):
        self.seconds = 100.0

    def __call__(self):
        return self.seconds


def make(profiler, sink, now, **plan):
    known = SimpleNamespace(**dict.fromkeys(("forget", "forget_near", "keep"), lambda _: None))
    return Agent(profiler, [sink], Plan(**plan), random.Random(1), known, now)


def requests_of(sink):
    return [service.ExportProfilesServiceRequest.FromString(each.data) for each in sink.records]


def profiles_of(request):
    scopes = [scope for each in request.resource_profiles for scope in each.scope_profiles]
    return [profile for scope in scopes for profile in scope.profiles]


def samples_of(request):
    return [sample for profile in profiles_of(request) for sample in profile.samples]


def test_each_interval_is_one_request_of_what_is_new():
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    agent = make(profiler, sink, now, jitter=0.0)
    profiler.sample(2000, 3000)
    agent.work()
    assert sink.records == []

    now.seconds += 5
    agent.work()
    profiler.sample(4000)
    now.seconds += 5
    agent.work()
    now.seconds += 5
    agent.work()

    assert [each.samples for each in sink.records] == [2, 1]
    assert [fault for one in requests_of(sink) for fault in check(one)] == []


def slow(profiler, now, seconds=1.5):
    """Let each stack take so long to be named."""

    def name_slowly(_raw):
        now.seconds += seconds
        return Trace(())

    profiler.handler.finish = name_slowly


def windows_of(sink):
    """Start and end of each request's profiles."""
    found = []
    for request in requests_of(sink):
        profiles = profiles_of(request)
        found.append({(p.time_unix_nano, p.time_unix_nano + p.duration_nano) for p in profiles})
    return found


def test_a_report_that_takes_long_lets_others_go_first():
    """Signals and signs of life wait for it; what was left over is due at once, and not lost."""
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    slow(profiler, now)
    agent = make(profiler, sink, now, jitter=0.0)
    for tid in range(1, 6):
        profiler.sample(1000 + tid, tid=tid)
    now.seconds += 5
    taken, dues = [], []
    while not dues or dues[-1] <= 0:
        began = now.seconds
        agent.work()
        taken.append(now.seconds - began)
        dues.append(agent.due - now.seconds)

    assert taken == [3.0, 3.0, 1.5]
    assert [due <= 0 for due in dues] == [True, True, False]
    assert [each.samples for each in sink.records] == [2, 2, 1]
    assert [fault for one in requests_of(sink) for fault in check(one)] == []


def test_parts_of_a_late_report_have_its_times_and_the_next_one_begins_at_its_end():
    """Who divides by the duration gets the rate, and time stamps are within it (OTLP)."""
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    slow(profiler, now)
    agent = make(profiler, sink, now, jitter=0.0)
    for tid in range(1, 4):
        profiler.sample(1000 + tid, tid=tid)
    agent.report()
    profiler.sample(time.monotonic_ns(), tid=4)  # comes while the report is not finished
    agent.report()
    agent.report()

    assert [each.samples for each in sink.records] == [2, 1, 1]
    first, second, third = windows_of(sink)
    ((_, end),) = first
    ((begin, _),) = third
    assert first == second
    assert begin == end


def test_what_is_left_of_a_late_report_is_asked_for_at_each_next_one():
    """Else its traces might be forgotten before it is finished."""
    profiler, now = FakeProfiler(), Now()
    slow(profiler, now, seconds=5.0)
    agent = make(profiler, FakeSink(), now, jitter=0.0)
    noted = []
    agent._recent = SimpleNamespace(note=noted.append)
    for tid in (1, 2):
        profiler.sample(1000 + tid, tid=tid)
    agent.report()
    agent.set_frequency(5)

    assert noted == [{1}, {1}]


def test_no_request_is_made_of_more_than_can_be_held(monkeypatch):
    monkeypatch.setattr("otelagent.agent.MOST_GROUPS", 3)
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    agent = make(profiler, sink, now)
    for tid in range(1, 9):
        profiler.sample(1000 + tid, tid=tid)
    agent.report()

    assert [each.samples for each in sink.records] == [3, 3, 2]
    assert len({tuple(each) for each in windows_of(sink)}) == 1


def test_the_last_report_has_everything_however_long_it_takes():
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    slow(profiler, now)
    agent = make(profiler, sink, now)
    for tid in range(1, 4):
        profiler.sample(1000 + tid, tid=tid)
    agent.report()
    profiler.sample(time.monotonic_ns(), tid=4)
    agent.finish()

    assert [each.samples for each in sink.records] == [2, 1, 1]


def test_losses_are_told_once():
    profiler, sink = FakeProfiler(), FakeSink()
    agent = make(profiler, sink, Now())
    noted = []
    for lost in (3, 3, 5):
        profiler.lost = lost
        profiler.sample(2000)
        agent.report()
        table = requests_of(sink)[-1].dictionary
        noted.append(
            [
                entry.value.int_value
                for entry in table.attribute_table
                if table.string_table[entry.key_strindex] == "otelagent.note.lost.sample"
            ]
        )

    assert noted == [[3], [], [2]]


def test_without_timestamps_a_sample_has_a_value():
    profiler, sink = FakeProfiler(), FakeSink()
    profiler.sample(2000, 3000)

    make(profiler, sink, Now(), timestamps=False).report()

    [sample] = samples_of(requests_of(sink)[0])
    assert (list(sample.values), list(sample.timestamps_unix_nano)) == ([2], [])


def test_times_are_cut_to_a_256th_of_the_period():
    """Bytes of chance below that only cost: 131 µs at 20 Hz."""
    profiler, sink = FakeProfiler(), FakeSink()
    grain_ns = time_grain_ns(1_000_000_000 // profiler.options.frequency_hz)
    exact = [7_000_000_000 + step * 777_777_777 for step in range(9)]
    profiler.sample(*exact)
    agent = make(profiler, sink, Now())

    agent.report()

    [sample] = samples_of(requests_of(sink)[0])
    offset_ns = agent._offset.offset_ns
    assert grain_ns > 1
    assert list(sample.timestamps_unix_nano) == [
        (at + offset_ns) // grain_ns * grain_ns for at in exact
    ]
    assert check(requests_of(sink)[0]) == []


@pytest.mark.parametrize(
    ("period_ns", "grain_ns"), [(50_000_000, 131_072), (10_309_278, 32_768), (100_000, 256), (0, 1)]
)
def test_the_grain_of_times_is_a_power_of_two_within_a_256th(period_ns, grain_ns):
    assert time_grain_ns(period_ns) == grain_ns


def test_the_resource_is_on_every_request():
    profiler, sink = FakeProfiler(), FakeSink()
    profiler.sample(2000)

    make(profiler, sink, Now(), resource=(("service.name", "shop"), ("host.name", "h"))).report()

    [found] = resources_of(requests_of(sink)[0])
    assert (found["service.name"], found["host.name"]) == ("shop", "h")


def test_what_was_sampled_before_the_agent_was_there_is_described_too():
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    profiler.collector.traces[1].generation = Generation(1, 0, os.getpid())
    agent = make(profiler, sink, now)
    profiler.sample(2000)
    agent.report()

    (request,) = requests_of(sink)
    assert "process.command" in resources_of(request)[0]


def test_traces_that_threads_wait_with_are_kept():
    """Their waits come when they are over, with nothing but the hash."""
    profiler, now = FakeProfiler(), Now()
    profiler.options.off_cpu, profiler.collector.take_begun = OffCpu(), lambda: {2}
    profiler.collector.traces[2] = profiler.collector.traces[3] = profiler.collector.traces[1]
    profiler.waits = [SimpleNamespace(hash=3), SimpleNamespace(hash=4)]
    agent = make(profiler, FakeSink(), now)
    noted = []
    agent._recent = SimpleNamespace(note=noted.append)

    profiler.sample(2000)
    agent.report()

    assert noted == [{1, 2, 3}]


def test_waits_are_a_profile_of_their_own():
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    profiler.options.off_cpu, profiler.collector.take_begun = OffCpu(0.25), set
    profiler.collector.traces[1].flags = 1 << SampleFlag.OFF_CPU_BIT
    profiler.handler.finish = lambda _raw: Trace((waiting_frame("sleeping"),))
    agent = make(profiler, sink, now)
    profiler.sample(2000)
    profiler.groups[GroupKey(1, 7, 7, b"app")].weight = 3_000_000
    agent.report()

    [request] = requests_of(sink)
    assert check(request) == []
    [profile] = request.resource_profiles[0].scope_profiles[0].profiles
    strings = request.dictionary.string_table
    assert strings[profile.sample_type.type_strindex] == "off_cpu"
    # One in four was followed.
    assert [list(sample.values) for sample in profile.samples] == [[12_000_000]]


def test_lots_switch_sampling_itself_off_and_on():
    profiler, now = FakeProfiler(), Now()
    agent = make(profiler, FakeSink(), now, threshold=50, lot_interval_s=60.0)

    for _ in range(100):
        agent.work()
        now.seconds = agent.due

    assert set(profiler.switched) == {True, False}
    # Only changes cost a system call for each CPU.
    assert all(a != b for a, b in zip(profiler.switched, profiler.switched[1:], strict=False))


def test_always_is_never_switched():
    profiler, now = FakeProfiler(), Now()
    agent = make(profiler, FakeSink(), now, threshold=100)

    for _ in range(10):
        agent.work()
        now.seconds = agent.due

    assert profiler.switched == []


@pytest.mark.parametrize("threshold", [1, 10, 50, 90, 99])
def test_the_share_of_lots_is_the_threshold(threshold):
    """10,000 seeded draws are within 1 %; 100 is always."""
    rng = random.Random(20261121)

    drawn = sum(draw_lot(threshold, rng) for _ in range(10_000))

    assert abs(drawn / 10_000 - threshold / 100) <= 0.01
    assert all(draw_lot(100, rng) for _ in range(1000))


@pytest.mark.parametrize(("interval_s", "first_s"), [(5.0, 1.0), (0.5, 0.5)])
def test_the_first_report_comes_soon_and_never_later_than_the_interval(interval_s, first_s):
    now = Now()
    agent = make(FakeProfiler(), FakeSink(), now, interval_s=interval_s)
    agent.work()  # draws the first lot

    assert agent.due == now.seconds + first_s


def test_jitter_spreads_around_the_interval():
    rng = random.Random(1)
    found = [jittered(5.0, 0.2, rng) for _ in range(1000)]

    assert 4.0 <= min(found) < 4.1
    assert 5.9 < max(found) <= 6.0


def test_the_end_tells_what_became_of_everything():
    sink = FakeSink()

    assert make(FakeProfiler(), sink, Now()).close(5) == ["all is well"]
    assert sink.ended is not None


def test_another_frequency_holds_at_once_and_what_was_sampled_before_keeps_its_period():
    """Whoever limits what is sampled does not wait until it is reported."""
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    slow(profiler, now)
    agent = make(profiler, sink, now)
    profiler.sample(2000)
    began = now.seconds
    agent.set_frequency(5)
    assert (now.seconds, agent.due) == (began, began)

    profiler.sample(time.monotonic_ns())
    agent.report()

    periods = [profile.period for request in requests_of(sink) for profile in profiles_of(request)]
    assert (periods, profiler.frequencies) == ([50_000_000, 200_000_000], [5])


def test_another_plan_holds_at_once_and_sampling_that_a_lot_switched_off_goes_on():
    profiler, sink, now = FakeProfiler(), FakeSink(), Now()
    agent = make(profiler, sink, now, threshold=1, lot_interval_s=60.0)
    agent.work()
    assert profiler.switched == [False]

    agent.follow(Plan(interval_s=30.0, jitter=0.0, resource=(("team", "x"),)))
    profiler.sample(2000)
    agent.report()

    assert profiler.switched == [False, True]
    [resource] = resources_of(requests_of(sink)[-1])
    assert "team" in resource
    agent.work()
    assert agent.due == now.seconds + 30

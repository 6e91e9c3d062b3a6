# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waits: how long, where and why, held against what the threads themselves measured."""

import re
import signal
import time
from collections import Counter

import pytest

from integration.recording import (
    ENDS_UNSEEN,
    PLACES,
    build_c,
    measured,
    read_recording,
    record,
    stolen_ns,
)
from integration.runs import Running, otelagent, wait_until
from otelagent.export.otlp_reading import decode_profiles
from otelagent.options import Options
from otelagent.profile.formats import registry
from otelagent.sampling import load_objects
from otelagent.waiting import OFF_CPU, UNKNOWN, WALL, is_waiting, state_of
from tests.export.conformance import check
from tests.export.receivers import HttpReceiver

pytestmark = [pytest.mark.needs("bpf")]


@pytest.fixture(scope="module")
def waits(tmp_path_factory):
    return build_c(tmp_path_factory.mktemp("waits"), "waits", "-O1", "-pthread")


def run(output, *arguments):
    status, said_by_threads, said = otelagent("record", "-o", output, *arguments)
    assert status == 0, said
    return registry.read(output), measured(said_by_threads), said


def by_thread(profile, wanted):
    sums = Counter()
    for trace, _process, thread, group in profile:
        if wanted(trace):
            sums[thread.tid] += group.value
    return sums


def functions(trace):
    return {line.function.name for frame in trace.frames for line in frame.lines}


def test_what_threads_ran_and_waited_is_how_long_they_lived(waits, tmp_path):
    stolen = -stolen_ns()
    profile, threads, said = run(tmp_path / "all.otlp", "--wall", "-F", "997", "--", waits, "1.5")
    stolen += stolen_ns()

    assert profile.sample_type == WALL
    assert re.search(r"\d+ switches were followed, [\d.]+ µs each", said)
    waited, ran = by_thread(profile, is_waiting), by_thread(profile, lambda t: not is_waiting(t))
    assert len(threads) == 7
    for tid, (name, wall_ns, cpu_ns) in threads.items():
        off_cpu = pytest.approx(wall_ns - cpu_ns, rel=ENDS_UNSEEN, abs=20e6 + stolen)
        assert waited[tid] == off_cpu, name
        # Of a thread that runs p of the time, n ticks see it n * p times, give or take.
        assert waited[tid] + ran[tid] == pytest.approx(wall_ns, rel=0.08), name


def test_waits_are_where_and_why_threads_waited(waits, tmp_path):
    stolen = -stolen_ns()
    profile, threads, _said = run(tmp_path / "all.html", "--off-cpu", "--", waits, "1")
    stolen += stolen_ns()

    assert profile.sample_type == OFF_CPU
    assert all(map(is_waiting, profile.traces))
    for tid, (name, wall_ns, cpu_ns) in threads.items():
        state = "preempted" if name == "spin" else "sleeping"
        # Old kernels without BTF do not tell the state.
        states, place = {state, UNKNOWN}, PLACES[name]
        there = by_thread(
            profile, lambda t, s=states, p=place: p in functions(t) and state_of(t) in s
        )
        off_cpu = pytest.approx(wall_ns - cpu_ns, rel=0.05, abs=20e6 + stolen)
        assert there[tid] == off_cpu, name


def test_a_tenth_of_the_switches_stands_for_all(waits, tmp_path):
    """Some 700 of 7,000 waits of a millisecond: within four deviations of 3.6 %."""
    options = ("--off-cpu", "--off-cpu-threshold", "0.1")
    profile, threads, _said = run(tmp_path / "part.pb.gz", *options, "--", waits, "1", "8")

    naps = sum(
        group.value
        for trace, _p, _t, group in profile
        if "nap" in functions(trace) and "run" in functions(trace)
    )
    waited = sum(wall - cpu for name, wall, cpu in threads.values() if name == "ms")
    samples = len(threads) * 100  # a nap takes at least a millisecond: fewer of them deviate more
    assert naps == pytest.approx(waited, rel=4 * (0.9 / min(samples, 700)) ** 0.5)


def test_a_thread_that_still_waits_at_the_end_counts(waits, tmp_path):
    output = tmp_path / "x.folded"
    with Running("60", "0", program=(str(waits),)) as target:
        options = ("--off-cpu", "-p", str(target.process.pid), "-d", "1", "-o", str(output))
        with Running("record", *options) as recorder:
            recorder.wait_for("stops and writes")
            time.sleep(0.2)
            target.process.send_signal(signal.SIGUSR1)  # now it pauses
            assert recorder.end() == 0

    recording = read_recording(output, recorder.said)
    paused = sum(n for stack, n in recording.stacks.items() if any("pause" in f for f in stack))
    assert "1 threads still waited at the end" in recording.said
    assert 0.4e6 < paused < 1.1e6


def test_what_waits_all_the_time_is_not_seen_and_the_user_is_told(tmp_path):
    with Running("5", program=("sleep",)) as target:
        recording = record(tmp_path, "--off-cpu", "-p", str(target.process.pid), "-d", "0.2")

    assert recording.samples == 0
    assert "otelagent dump" in recording.said


def test_an_agent_sends_waits_and_what_ran(waits):
    with HttpReceiver() as receiver, Running("30", program=(str(waits),)) as target:
        options = ("-off-cpu-threshold=1", "--off-cpu-min", "1ms", "--reporter-interval", "300ms")
        pid = ("-p", target.process.pid)
        with Running("agent", *pid, f"-collection-agent={receiver.url}", *options) as agent:
            wait_until(lambda: len(receiver.requests) >= 3, "a third request")
            agent.process.send_signal(signal.SIGTERM)
            assert agent.end() == 0, agent.said

    assert receiver.faults == []
    found = Counter()
    for request in receiver.requests:
        assert check(request) == []
        info, entries = decode_profiles(request)
        assert info.sample_type in (WALL, OFF_CPU)
        for trace, *_keys, group in entries:
            found[state_of(trace), *(functions(trace) & {"nap", "spin"})] += group.value
    assert found["sleeping", "nap"] > 0.5e9
    assert found["preempted", "spin"] > 0
    assert found["", "spin"] > 0


def test_short_waits_are_left_out_and_counted(waits, tmp_path):
    options = ("--off-cpu", "--off-cpu-min", "200ms", "--", str(waits), "0.3", "2")
    recording = record(tmp_path, *options)

    assert int(re.search(r"(\d+) short waits left out", recording.said)[1]) > 50
    assert not any("nap" in stack and "run" in stack for stack in recording.stacks)


def test_nothing_is_loaded_for_switches_unless_asked():
    (only,), _ = load_objects(Options())

    assert "on_switch" not in only.programs()
    only.close()

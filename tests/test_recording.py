# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The last line of a recording tells what was lost, as a number and a share."""

from types import SimpleNamespace

import pytest

from otelagent import metrics
from otelagent.cli.details import details, jit_remarks, remarks
from otelagent.losses import Losses
from otelagent.model import Frame, FrameType, Pid, Process, Thread, Trace
from otelagent.profile.model import Profile
from otelagent.recording import notes, summary
from otelagent.traces.collector import Tally


@pytest.fixture(autouse=True)
def _fresh_metrics(monkeypatch):
    for metric in metrics.ALL.values():
        monkeypatch.setattr(metric, "values", type(metric.values)())


def profiler(throttled=0.0, **tally):
    told = Tally(**tally)
    collector = SimpleNamespace(tally=told, deferred=4, tally_now=lambda: told)
    return SimpleNamespace(collector=collector, throttled=throttled)


def test_a_full_ring_is_told_as_number_and_share():
    losses = Losses({"LOST_SAMPLE": 20, "LOST_TRACE": 5})

    told = summary(profiler(samples=75, user=75, complete=75), losses)

    assert told.startswith("75 samples, 25 lost (25.00 %), 75.0 % of 100 user stacks")


def test_nothing_lost_has_no_share():
    assert summary(profiler(samples=1, user=1, complete=1), Losses()).startswith(
        "1 samples, 0 lost, 100.0 % of 1 user stacks are complete"
    )


def test_faults_are_told_the_most_frequent_first():
    faults = {"NO_ROW": 1, "READ_STACK": 3}

    told = summary(profiler(samples=9, user=9, complete=5, faults=faults), Losses())

    assert "3 read_stack, 1 no_row" in told


def test_ticks_that_the_kernel_left_out_have_a_way_out():
    few, many = profiler(samples=9, throttled=0.002), profiler(samples=9, throttled=0.5)

    [told] = remarks(many, Losses())

    assert list(remarks(few, Losses())) == []
    assert "50.0 % of the ticks" in told
    assert "perf_event_max_sample_rate" in told


def test_a_stack_cut_at_max_frames_has_a_way_out():
    [told] = remarks(profiler(samples=9, user=9, faults={"MAX_FRAMES": 3}), Losses())

    assert told.startswith("3 stacks")
    assert "--max-frames" in told


def test_stacks_without_their_python_functions_are_told():
    [told] = remarks(profiler(samples=9, user=9, faults={"PY_NOT_ATTACHED": 3}), Losses())

    assert told == "3 stacks from before their Python was known lack its functions"


def test_details_explain_each_counter_fault_and_reason():
    metrics.unresolved.add(7, reason="no symbol table")
    losses = Losses({"TICKS": 12, "LOST_SAMPLE": 3})

    told = "\n".join(details(profiler(samples=9, user=9, guessed=2, faults={"NO_ROW": 1}), losses))

    assert "12  ticks: interruptions of a target by the sampling event" in told
    assert "3  lost_sample: samples lost: ring full" in told
    assert "1  no_row: no unwind row covers the address" in told
    assert "2  guessed: " in told
    assert "4  deferred: " in told
    assert "7  otelagent.symbols.unresolved: addresses without a name" in told
    assert "7: no symbol table" in told


def test_every_loss_is_a_note_of_the_profile():
    metrics.records_lost.add(2, reason="withdrawn by BPF")
    metrics.reports_dropped.add(4)
    losses = Losses({"LOST_INTERNAL": 3, "LOST_SAMPLE": 0, "TARGETS_FULL": 5})

    told = notes(profiler(samples=9), losses)

    assert told["otelagent.records.lost"] == 2
    assert told["otelagent.reports.dropped"] == 4
    assert (told["lost.internal"], told["lost.children"]) == (3, 5)
    assert "lost.sample" not in told
    assert losses.lost_samples == 5


def test_stacks_that_end_in_code_of_a_jit_are_told_by_program():
    jit, native = Frame(FrameType.JIT, 5), Frame(FrameType.NATIVE, 6)
    profile = Profile()
    for name, frames, fault, count in (
        ("java", (jit,), "NO_ROW", 3),
        ("java", (native, jit), "NO_ROW", 4),
        ("java", (jit, native), "NO_ROW", 50),
        ("node", (native, jit), "", 50),
        ("guile", (), "NO_ROW", 50),
    ):
        profile.add(Trace(frames, fault), Process(Pid(1), name), Thread(1), count, count)

    [told] = jit_remarks(profile)

    assert told.startswith("7 stacks of java end in code that it compiled")

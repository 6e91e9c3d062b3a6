# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Readings: each sum is there with its parts, and nothing grows without bound."""

import pytest

from otelagent import metrics
from otelagent.export.account import Account, Amount
from otelagent.health import readings
from otelagent.health.usage import read_usage
from otelagent.losses import Losses
from otelagent.traces.collector import Tally


@pytest.fixture(autouse=True)
def _fresh_metrics(monkeypatch):
    for metric in metrics.ALL.values():
        monkeypatch.setattr(metric, "values", type(metric.values)())


def values(found):
    return {
        (reading.name, *(value for _, value in labels)): value
        for reading in found
        for labels, value in reading.points
    }


def test_samples_stacks_and_losses_are_told_by_kind():
    tally = Tally(10, 9, complete=5, guessed=1, faults={"NO_ROW": 2, "PY_READ": 1})
    sent = {"SAMPLES": 12, "TRACES": 3, "DEFERRED": 2, "LOST_TRACE": 4, "TICKS": 13}
    metrics.deferred_dropped.add(6, reason="malformed")

    found = values(readings.of_traces(tally, Losses(sent)))

    assert found["otelagent.samples",] == 10
    assert [found["otelagent.traces", kind] for kind in ("new", "known", "deferred")] == [3, 7, 2]
    results = ("complete", "guessed", "short")
    assert [found["otelagent.stacks", result] for result in results] == [5, 1, 3]
    assert found["otelagent.unwinding.errors", "no_row", "native"] == 2
    assert found["otelagent.unwinding.errors", "py_read", "cpython"] == 1
    assert found["otelagent.lost", "bpf", "trace"] == 4
    assert found["otelagent.lost", "deferred.dropped", "malformed"] == 6
    assert found["otelagent.bpf.events", "ticks"] == 13


def test_reasons_are_bounded_and_none_is_lost():
    for number in range(100):
        metrics.unresolved.add(number, reason=f"reason {number}")

    parts = readings.split(metrics.unresolved)

    assert len(parts) == readings.MOST_REASONS
    assert sum(parts.values()) == metrics.unresolved.total
    assert parts["reason 99"] == 99


class FakeSink:
    where = "http://x"
    queued = Amount(2, 20)
    queued_bytes = 4096

    def __init__(self):
        self.account = Account()
        for samples in (5, 6, 7, 8, 9, 11):
            self.account.attempt(samples)
        for samples in (5, 6, 7):
            self.account.deliver(samples)
        self.account.drop(8, "full")


def test_a_sinks_book_can_be_checked_from_its_metrics():
    found = values(readings.of_sinks([FakeSink()]))

    parts = [
        found["otelagent.export.samples", "http://x", "delivered"],
        found["otelagent.export.samples", "http://x", "dropped", "full"],
        found["otelagent.export.queued_samples", "http://x"],
    ]
    assert sum(parts) == found["otelagent.export.samples", "http://x", "attempted"] == 46
    assert found["otelagent.export.queued_size", "http://x"] == 4096


def test_every_counter_of_user_space_is_told_once():
    traces = readings.of_traces(Tally(), Losses())
    names = [each.name for each in [*traces, *readings.of_user_space()]]
    names += [each.name for each in readings.of_sampling(20, 2, 0)]

    told_elsewhere = {each.name for each in (*metrics.LOST_SAMPLES, *metrics.EXPORT)}
    assert len(names) == len(set(names))
    assert set(metrics.ALL) - told_elsewhere <= set(names)


def test_what_the_agent_costs_is_read_from_the_kernel():
    before = read_usage()
    sum(number * number for number in range(2_000_000))
    after = read_usage()

    assert after.cpu_s > before.cpu_s > 0
    assert 1 << 20 < after.resident_bytes < after.virtual_bytes
    assert after.open_files >= 3

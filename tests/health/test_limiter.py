# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The limit of CPU: the frequency falls until the cost is below it, and rises again slowly."""

import os

import pytest

from otelagent.health.limiter import TELL_SECONDS, WINDOW_SECONDS, CpuLimiter

CPUS = os.cpu_count()


class Machine:
    """An agent whose cost is a constant part and one that follows the frequency."""

    def __init__(self, limit, fixed=0.0, per_hz=0.001, wanted_hz=20):
        self.now = self.spent_s = 0.0
        self.fixed, self.per_hz = fixed, per_hz
        self.changes = []
        self.limiter = CpuLimiter(
            limit, wanted_hz, self.changes.append, lambda: self.spent_s, lambda: self.now
        )

    def run(self, windows):
        for _ in range(windows):
            self.now = self.limiter.due
            share = self.fixed + self.per_hz * self.limiter.frequency_hz
            self.spent_s += share * WINDOW_SECONDS * CPUS
            self.limiter.work()


def test_below_the_limit_nothing_changes():
    machine = Machine(0.05)
    machine.run(50)

    assert machine.changes == []


def test_what_the_start_took_does_not_count():
    machine = Machine(0.05)
    machine.spent_s = 1000.0
    machine.run(10)

    assert machine.changes == []


def test_above_it_the_frequency_falls_until_it_fits(caplog):
    machine = Machine(0.01)
    machine.run(20)

    assert 7 <= machine.limiter.frequency_hz <= 10
    assert machine.changes[0] == 10
    said = caplog.records[0].getMessage()
    assert said.startswith("the agent costs too much: it samples less often hz=10 wanted=20")
    assert "limit=1%" in said


def test_what_does_not_follow_the_frequency_leads_to_the_least_and_no_further():
    machine = Machine(0.01, fixed=0.02)
    machine.run(50)

    assert machine.limiter.frequency_hz == 1


def test_it_rises_again_by_and_by_and_never_above_what_was_asked_for():
    machine = Machine(0.01)
    machine.run(5)
    low = machine.limiter.frequency_hz
    machine.per_hz = 0.0001
    machine.run(3)

    assert low < machine.limiter.frequency_hz <= low + 3
    machine.run(50)
    assert machine.limiter.frequency_hz == 20


def test_small_changes_are_told_now_and_then_and_the_last_one_is(caplog):
    """A cost about the limit changes the frequency up and down, each window."""
    machine = Machine(0.01, wanted_hz=1000)
    for window in range(60):
        machine.per_hz = 0.0002 if window % 2 else 0.00005
        machine.run(1)
    machine.per_hz = 0.009 / machine.limiter.frequency_hz
    said = [each.getMessage() for each in caplog.records]
    machine.run(12)

    assert len(machine.changes) > 30
    assert len(said) <= 4 + 60 * WINDOW_SECONDS / TELL_SECONDS
    last = caplog.records[-1].getMessage()
    assert f"hz={machine.limiter.frequency_hz} " in last


def test_no_limit_is_no_limit():
    machine = Machine(0, fixed=1.0)
    machine.run(20)

    assert machine.changes == []


@pytest.mark.parametrize(("limit", "wanted"), [(0.01, 40), (0.5, 20)])
def test_another_aim_holds_at_once(limit, wanted):
    machine = Machine(0.01)
    machine.run(5)

    machine.limiter.aim(limit, wanted)

    assert machine.changes[-1] == machine.limiter.frequency_hz == wanted

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Unwinders of runtimes: loaded once for each object that walks stacks, or said to be refused."""

from types import SimpleNamespace

import pytest

from otelagent.abi._generated import Unwinder
from otelagent.errors import LoadFailed, UnsupportedRuntime
from otelagent.kernel import unwinders
from otelagent.kernel.plan import Plan, Wish
from otelagent.kernel.unwinders import LateUnwinders

PLAN = Plan(Wish(99, everything=False, max_frames=128), SimpleNamespace(), has_loop=True)


@pytest.fixture
def asked(monkeypatch):
    """Notes who was to get which unwinder; the kernel refuses those for "bad"."""
    calls = []

    def load(plan, unwinder, caller):
        assert plan is PLAN
        calls.append((unwinder, caller))
        if caller == "bad":
            raise LoadFailed("the kernel refused BPF program unwind_python: E2BIG")
        return SimpleNamespace(close=lambda: calls.append("closed"))

    monkeypatch.setattr(unwinders, "load_unwinder", load)
    return calls


def test_it_is_loaded_once_for_each_object_and_nothing_stays_open(asked):
    late = LateUnwinders(PLAN, ["profiler", "offcpu"])
    assert asked == []
    late.need(Unwinder.PYTHON)
    late.need(Unwinder.PYTHON)

    ours = [(Unwinder.PYTHON, "profiler"), "closed", (Unwinder.PYTHON, "offcpu"), "closed"]
    assert asked == ours


def test_a_refusal_is_told_each_time_and_the_kernel_asked_once(asked):
    late = LateUnwinders(PLAN, ["bad"])
    for _ in range(2):
        with pytest.raises(UnsupportedRuntime, match="refused BPF program unwind_python"):
            late.need(Unwinder.PYTHON)

    assert asked == [(Unwinder.PYTHON, "bad")]

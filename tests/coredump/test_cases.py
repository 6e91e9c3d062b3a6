# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every recorded process has, by the live code, the stacks that it had (`make coredump`).

`make coredump UPDATE=1` writes down what comes out now: review the difference.
"""

import os
from pathlib import Path

import pytest

from otelagent.coredump.case import find_cases, read_expected, run_case, write_expected
from tests.coredump.trials import read_trials, run_trials, write_trials

CASES = find_cases(Path(__file__).parent / "cases")
TRIED = [case for case in CASES if read_trials(case)]
UPDATE = bool(os.environ.get("UPDATE"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stacks_are_those_that_were_agreed_on(case):
    outcome = run_case(case)

    if UPDATE:
        write_expected(case, outcome.threads)
    assert outcome.strays == []
    assert read_expected(case) == outcome.threads


@pytest.mark.parametrize("case", TRIED, ids=lambda case: case.name)
def test_what_fails_on_the_way_ends_stacks_as_it_did(case):
    lines = run_trials(case)

    if UPDATE:
        write_trials(case, lines)
    assert read_trials(case) == lines


def test_trials_are_of_all_kinds():
    """Without this, a pattern that matches nothing would let all pass."""
    kinds = {
        line.split(":")[0].lstrip("0123456789 ") for case in TRIED for line in read_trials(case)
    }

    assert {"as it is", "lookups", "reads", "no thread is known"} <= kinds
    assert len(TRIED) >= 10

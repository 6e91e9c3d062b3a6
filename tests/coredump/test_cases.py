# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every recorded process has, by the live code, the stacks that it had (`make coredump`).

`make coredump UPDATE=1` writes down what comes out now: review the difference.
"""

import os
from pathlib import Path

import pytest

from otelagent.coredump.case import find_cases, read_expected, run_case, write_expected

CASES = find_cases(Path(__file__).parent / "cases")
UPDATE = bool(os.environ.get("UPDATE"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stacks_are_those_that_were_agreed_on(case):
    outcome = run_case(case)

    if UPDATE:
        write_expected(case, outcome.threads)
    assert outcome.strays == []
    assert read_expected(case) == outcome.threads

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every recorded process has, by the live code, the stacks that it had (`make coredump`).

`make coredump UPDATE=1` writes down what comes out now: review the difference.
"""

import os
import platform
from pathlib import Path

import pytest

from otelagent.coredump.case import SNAPSHOT, find_cases, read_expected, run_case, write_expected
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.host.snapshot import SnapshotImage

CASES = find_cases(Path(__file__).parent / "cases")
MACHINE = {"x86_64": EM_X86_64, "aarch64": EM_AARCH64}.get(platform.machine())
UPDATE = bool(os.environ.get("UPDATE"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_stacks_are_those_that_were_agreed_on(case):
    if SnapshotImage.open(case / SNAPSHOT).machine != MACHINE:
        pytest.skip("of another kind of machine")
    outcome = run_case(case)

    if UPDATE:
        write_expected(case, outcome.threads)
    assert outcome.strays == []
    assert read_expected(case) == outcome.threads

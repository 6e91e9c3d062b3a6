# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Five fixed mutants of the unwinders, each caught by a case (`make mutants`: fifty others)."""

from pathlib import Path

import mutants
import pytest

CASES = Path(__file__).parent / "cases"
FIXED = [
    ("native.h", "value += (s64)rule->cfa_offset;", "value -= (s64)rule->cfa_offset;", "c-gcc-O2"),
    ("native.h", "(s->regs.pc & 15) >= (u32)", "(s->regs.pc & 15) < (u32)", "at-plt"),
    (
        "native.h",
        "return read_stack(s, cfa + (s64)offset, value);",
        "return read_stack(s, cfa - (s64)offset, value);",
        "c-signal-nested",
    ),
    ("python.h", "if (!cursor) {", "if (cursor) {", "py-3.8-pyenv-calls"),
    ("python.h", "if (i >= p->candidate &&", "if (i > p->candidate &&", "py-3.12-pyenv-calls"),
]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return mutants.Workshop(tmp_path_factory.mktemp("mutants"))


@pytest.mark.parametrize(("file", "old", "new", "case"), FIXED, ids=lambda text: text[:40])
def test_a_wrong_unwinder_is_noticed(workshop, file, old, new, case):
    def change(text):
        assert text.count(old) == 1, "the unwinder has changed: choose another mutant"
        return text.replace(old, new)

    assert (CASES / case).is_dir()
    assert workshop.build(file, change) == ""
    assert workshop.run([CASES / case])


def test_the_unwinder_as_it_is_is_not_a_mutant(workshop):
    assert workshop.build("native.h", lambda text: text + "\n") == "is the same code"

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is missing, what it is for, and how to grant it."""

from pathlib import Path

import pytest

from otelagent.errors import NotPermitted
from otelagent.kernel import capabilities
from otelagent.kernel.capabilities import effective, missing, require

PTRACE, ADMIN, PERFMON, BPF = (1 << bit for bit in (19, 21, 38, 39))


def names(have):
    return [name for name, _ in missing(have)]


@pytest.mark.parametrize(
    ("have", "lacking"),
    [
        (0, ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]),
        (PTRACE | PERFMON | BPF, []),
        (PTRACE | ADMIN, []),  # as before Linux 5.8
        (ADMIN, ["CAP_SYS_PTRACE"]),
        (PTRACE | BPF, ["CAP_PERFMON"]),
        ((1 << 41) - 1, []),
    ],
)
def test_what_is_missing(have, lacking):
    assert names(have) == lacking


def test_effective_set_of_a_status_file():
    status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000080000\nCapBnd:\tff\n"

    assert effective(status) == PTRACE
    assert effective("") == 0
    assert effective(Path("/proc/self/status").read_text()) >= 0


def test_refusal_names_each_with_its_purpose_and_the_way(monkeypatch):
    monkeypatch.setattr(capabilities, "effective", lambda _status: BPF)

    with pytest.raises(NotPermitted) as caught:
        require()

    assert "CAP_PERFMON to sample" in str(caught.value)
    assert "CAP_SYS_PTRACE to open" in str(caught.value)
    assert "CAP_BPF" not in str(caught.value)
    assert 'AmbientCapabilities="CAP_PERFMON CAP_SYS_PTRACE"' in caught.value.hint
    assert caught.value.exit_status == 77


def test_all_granted_is_silent(monkeypatch):
    monkeypatch.setattr(capabilities, "effective", lambda _status: PTRACE | ADMIN)

    require()

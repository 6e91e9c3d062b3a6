# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is missing, what it is for, and how to grant it."""

import pytest

from otelagent.errors import NotPermitted
from otelagent.kernel import capabilities
from otelagent.kernel.capabilities import describe, missing, require

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


def test_refusal_names_each_with_its_purpose_and_the_way(monkeypatch):
    monkeypatch.setattr(capabilities, "held", lambda: BPF)

    with pytest.raises(NotPermitted) as caught:
        require()

    assert "CAP_PERFMON to sample" in str(caught.value)
    assert "CAP_SYS_PTRACE to open" in str(caught.value)
    assert "CAP_BPF" not in str(caught.value)
    assert 'AmbientCapabilities="CAP_PERFMON CAP_SYS_PTRACE"' in caught.value.hint
    assert caught.value.exit_status == 77


def test_all_granted_is_silent(monkeypatch):
    monkeypatch.setattr(capabilities, "held", lambda: PTRACE | ADMIN)

    require()


def test_without_ptrace_it_goes_on_and_says_what_is_lost(monkeypatch, caplog):
    monkeypatch.setattr(capabilities, "held", lambda: PERFMON | BPF)

    require()

    assert "without CAP_SYS_PTRACE the stacks" in caplog.text
    assert "hint=use sudo, or grant them: systemd-run" in caplog.text


def test_all_that_matter_are_described():
    rows = {name: (is_held, is_needed) for name, _, is_held, is_needed in describe(ADMIN)}

    assert rows["CAP_BPF"] == rows["CAP_PERFMON"] == (True, True)
    assert rows["CAP_SYS_PTRACE"] == rows["CAP_SYSLOG"] == (False, False)
    assert rows["CAP_SYS_ADMIN"] == (True, False)


ALL = (1 << 41) - 1
KEPT = 1 << 39 | 1 << 38 | 1 << 19 | 1 << 2 | 1 << 34 | 1 << 40


def test_what_was_for_the_start_alone_goes():
    assert capabilities.still_needed(ALL, writes_to_others=False, wants_admin=False) == KEPT
    assert capabilities.still_needed(ALL, writes_to_others=True, wants_admin=False) == KEPT | 1 << 1


@pytest.mark.parametrize(("text", "wants"), [("2\n", False), ("-1\n", False), ("3\n", True)])
def test_sys_admin_stays_where_perf_events_may_want_it(tmp_path, text, wants):
    (tmp_path / "paranoid").write_text(text)

    assert capabilities.may_want_admin(tmp_path / "paranoid") is wants
    kept = capabilities.still_needed(ALL, writes_to_others=False, wants_admin=wants)
    assert bool(kept >> 21 & 1) is wants


def test_a_kernel_without_the_setting_wants_nothing(tmp_path):
    assert not capabilities.may_want_admin(tmp_path / "none")


def test_sys_admin_stays_where_it_stands_in_for_another():
    before_5_9 = ALL & ~(1 << 40)

    assert (
        capabilities.still_needed(before_5_9, writes_to_others=False, wants_admin=False) >> 21 & 1
    )


def test_nothing_is_kept_that_is_not_held():
    assert capabilities.still_needed(1 << 39, writes_to_others=True, wants_admin=True) == 1 << 39

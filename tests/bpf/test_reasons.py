# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import errno

import pytest

from otelagent.bpf import reasons
from otelagent.bpf.reasons import describe, hint_for, refusal_hint


def test_numbers_that_errno_lacks_have_words():
    assert "ENOTSUPP" in describe(-524)
    assert describe(-errno.EPERM) == "Operation not permitted (EPERM)"


ALL = "CapEff:\t000001ffffffffff\n"


def test_missing_privilege_names_the_capabilities(monkeypatch, tmp_path):
    monkeypatch.setattr(reasons, "_STATUS", tmp_path / "status")
    (tmp_path / "status").write_text("CapEff:\t0000000000000000\nSeccomp:\t2\n")

    assert hint_for(-errno.EPERM, lockdown="").startswith("run as root, or grant CAP_BPF")


@pytest.mark.parametrize(
    ("status", "call", "words"),
    [
        ("CapEff:\t0\nSeccomp:\t2\n", "bpf", None),
        ("CapEff:\t0000008000000000\n", "bpf", None),  # CAP_BPF alone
        (ALL + "Seccomp:\t2\n", "bpf", "seccomp filter applies, which may deny bpf"),
        (ALL + "Seccomp:\t2\n", "perf_event_open", "deny perf_event_open"),
        (ALL + "Seccomp:\t0\n", "bpf", "security module"),
        ("CapEff:\t000000c000000000\n", "bpf", "ulimit -l unlimited"),
        ("CapEff:\t0000000000200000\n", "perf_event_open", "security module"),
    ],
)
def test_a_refusal_in_spite_of_the_capabilities_is_explained(status, call, words):
    hint = refusal_hint(call, status)

    assert words in hint if words else hint == ""


def test_lockdown_is_named_only_where_it_forbids_bpf():
    assert "lockdown" in hint_for(errno.EPERM, lockdown="none integrity [confidentiality]")
    assert "lockdown" not in hint_for(errno.EPERM, lockdown="none [integrity] confidentiality")

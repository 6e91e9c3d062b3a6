# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import errno

from otelagent.bpf.reasons import describe, hint_for


def test_numbers_that_errno_lacks_have_words():
    assert "ENOTSUPP" in describe(-524)
    assert describe(-errno.EPERM) == "Operation not permitted (EPERM)"


def test_missing_privilege_names_the_capabilities():
    assert "CAP_BPF" in hint_for(-errno.EPERM, lockdown="")


def test_lockdown_is_named_only_where_it_forbids_bpf():
    assert "lockdown" in hint_for(errno.EPERM, lockdown="none integrity [confidentiality]")
    assert "lockdown" not in hint_for(errno.EPERM, lockdown="none [integrity] confidentiality")

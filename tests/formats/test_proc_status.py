# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

from otelagent.formats.proc_status import effective_capabilities, has_seccomp_filter


def test_effective_set_of_a_status_file():
    status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000080000\nCapBnd:\tff\n"

    assert effective_capabilities(status) == 1 << 19
    assert effective_capabilities("") == 0
    assert effective_capabilities(Path("/proc/self/status").read_text()) >= 0


def test_a_filter_of_system_calls():
    assert has_seccomp_filter("Seccomp:\t2\nSeccomp_filters:\t1\n")
    assert not has_seccomp_filter("Seccomp:\t0\n")
    assert not has_seccomp_filter("")

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The check for kernels that can freeze, on real code."""

import dataclasses
import platform

import pytest

from otelagent.kernel.nofault import (
    FIXED,
    FUNCTION,
    LOCKING,
    has_fix,
    has_probe_read_bug,
    parse_version,
    running_kernel,
)

pytestmark = [pytest.mark.guest, pytest.mark.needs("bpf", "cpu_clock")]


@pytest.fixture(scope="module")
def kernel():
    """The running one, its symbols read once: that takes seconds in a guest."""
    running = running_kernel()
    found = running.functions((FUNCTION, LOCKING, FIXED))
    return dataclasses.replace(
        running, functions=lambda names: {name: found[name] for name in names if name in found}
    )


def test_no_kernel_that_we_boot_is_refused(kernel):
    assert not has_probe_read_bug(kernel)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the fix shows on x86-64 only")
def test_the_fix_is_seen_in_the_code_of_the_running_kernel(kernel):
    """5.10 has neither fix nor defect, so its code looks as that of affected kernels does."""
    assert has_fix(kernel) is (
        parse_version(kernel) >= (6, 1, 36) or LOCKING not in kernel.functions((LOCKING,))
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the fix shows on x86-64 only")
def test_a_version_in_the_table_is_judged_by_the_code(kernel):
    pretended = dataclasses.replace(kernel, release="6.2.0-99-generic", build="", signature="")

    assert has_probe_read_bug(pretended) is not has_fix(kernel)

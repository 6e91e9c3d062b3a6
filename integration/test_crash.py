# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads that called a null or a wild pointer, live."""

import pytest

from integration.recording import build_c, holds, record

CALLERS = ("main", "try_at", "call_at")


@pytest.mark.needs("tool:cc")
@pytest.mark.parametrize("addr", ["0", "0x700000001000"], ids=["null", "wild"])
def test_what_called_no_code_is_seen(tmp_path, addr):
    """Where the kernel looks for the code, and behind the signal that it sends."""
    program = build_c(tmp_path, "crash")

    found = record(tmp_path, "-F", "99", "--", str(program), addr, "500")

    chain = (*CALLERS, f"[no code]+{int(addr, 16):#x}")
    at_once = sum(n for s, n in found.stacks.items() if holds(s, chain) and "on_crash" not in s)
    assert found.share(*chain) >= 0.6, found
    assert at_once >= 3, found

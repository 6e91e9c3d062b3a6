# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import time

from otelagent.host.clock import read_offset


def test_the_tightest_bracket_wins():
    monotonic = iter([0, 1000, 2000, 2010, 3000, 3500, 4000, 4500, 5000, 5500])
    wall = iter([100_000, 102_005, 103_000, 104_000, 105_000])

    found = read_offset(lambda: next(monotonic), lambda: next(wall))

    assert (found.offset_ns, found.error_ns, found.read_at_ns) == (100_000, 5, 2005)


def test_the_real_clocks_agree_within_the_error():
    found = read_offset()

    before = time.time_ns()
    translated = time.monotonic_ns() + found.offset_ns
    after = time.time_ns()

    slack = found.error_ns + 1_000_000
    assert before - slack <= translated <= after + slack

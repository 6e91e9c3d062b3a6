# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import time

from otelagent.host.clock import ClockOffset, WallClock, read_offset


def test_the_tightest_bracket_wins():
    monotonic = iter([0, 1000, 2000, 2010, 3000, 3500, 4000, 4500, 5000, 5500])
    wall = iter([100_000, 102_005, 103_000, 104_000, 105_000])

    found = read_offset(lambda: next(monotonic), lambda: next(wall))

    assert (found.offset_ns, found.error_ns, found.read_at_ns) == (100_000, 5, 2005)


def test_the_real_clocks_agree_within_the_error():
    clock = WallClock()

    before = time.time_ns()
    translated = clock.unix_ns(time.monotonic_ns())
    after = time.time_ns()

    slack = clock.offset.error_ns + 1_000_000
    assert before - slack <= translated <= after + slack


def test_the_offset_is_read_again_each_minute():
    offsets = iter([ClockOffset(100, 1, 0), ClockOffset(200, 1, 60 * 10**9)])
    clock = WallClock(lambda: next(offsets))

    assert not clock.refresh(59 * 10**9)
    assert clock.unix_ns(1) == 101
    assert clock.refresh(60 * 10**9)
    assert clock.unix_ns(1) == 201

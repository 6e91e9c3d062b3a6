# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn the kernel's time (CLOCK_MONOTONIC) into UNIX time.

One offset, taken between two readings of the other clock, so that its error is
known; it is read again each minute, since wall time is slewed and set. Used by
one thread.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TRIES = 5
_MAX_AGE_NS = 60 * 10**9


@dataclass(frozen=True, slots=True)
class ClockOffset:
    """What to add to CLOCK_MONOTONIC; right to `error_ns` when it was read at `read_at_ns`."""

    offset_ns: int
    error_ns: int
    read_at_ns: int


def read_offset(
    monotonic: Callable[[], int] = time.monotonic_ns, wall: Callable[[], int] = time.time_ns
) -> ClockOffset:
    """Read both clocks a few times and keep the tightest bracket."""
    best: ClockOffset | None = None
    for _ in range(_TRIES):
        before = monotonic()
        now = wall()
        after = monotonic()
        middle = (before + after) // 2
        found = ClockOffset(now - middle, (after - before + 1) // 2, middle)
        if best is None or found.error_ns < best.error_ns:
            best = found
    assert best is not None  # noqa: S101 (the loop runs)
    return best


class WallClock:
    """Translates kernel times; re-reads the offset when it is older than a minute."""

    def __init__(self, read: Callable[[], ClockOffset] = read_offset) -> None:
        self._read = read
        self.offset = read()

    def refresh(self, now_ns: int) -> bool:
        """Read the offset again if it is old at `now_ns` (monotonic); tells whether it did."""
        if now_ns - self.offset.read_at_ns < _MAX_AGE_NS:
            return False
        self.offset = self._read()
        return True

    def unix_ns(self, monotonic_ns: int) -> int:
        """Translate one time."""
        return monotonic_ns + self.offset.offset_ns

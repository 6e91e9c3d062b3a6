# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Turn the kernel's time (CLOCK_MONOTONIC) into UNIX time.

One offset, taken between two readings of the other clock, so that its error is
known.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TRIES = 5


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

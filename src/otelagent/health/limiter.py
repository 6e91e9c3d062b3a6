# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the agent's cost below a share of the machine, by sampling less often.

What it costs is its CPU time, with that of its children and of its BPF programs where the
kernel measures them. Not all of that follows the frequency, so that each step is at most by
half, and the way back is slow.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from otelagent.log import fields

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)
WINDOW_SECONDS = 10.0
"""Long enough for two reports; the first one has what the start took, and does not count."""
LEAST_HZ = 1
MOST_OF_LIMIT = 0.8
"""Below this part of the limit it samples more often again."""
TELL_SECONDS = 60.0
"""What it changed to is told so often at most, unless it is half or twice as much."""


class CpuLimiter:
    """Looks each window. One thread calls it: `work` when it is due.

    Args:
        limit: Share of all CPUs, 0 to 1; 0: none.
        wanted_hz: What was asked for.
        change: Samples so often from now on.
        cpu_s: What the agent took until now, in seconds.

    Attributes:
        due: When `work` has something to do (`clock`).
        frequency_hz: What it samples at.
    """

    def __init__(
        self,
        limit: float,
        wanted_hz: int,
        change: Callable[[int], None],
        cpu_s: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limit = limit
        self._wanted_hz = self.frequency_hz = wanted_hz
        self._change = change
        self._cpu_s = cpu_s
        self._clock = clock
        self._before: tuple[float, float] | None = None
        self._told_hz, self._told_at = wanted_hz, float("-inf")
        self.due = clock() + WINDOW_SECONDS

    def aim(self, limit: float, wanted_hz: int) -> None:
        """Change what is wanted."""
        if (limit, wanted_hz) != (self._limit, self._wanted_hz):
            self._limit, self._wanted_hz = limit, wanted_hz
            self._told_hz = wanted_hz
            self._set(wanted_hz)

    def work(self) -> None:
        """Look at what the last window cost, and change the frequency if need be."""
        now = self._clock()
        if now < self.due:
            return
        self.due = now + WINDOW_SECONDS
        spent_s, before = self._cpu_s(), self._before
        self._before = (now, spent_s)
        if before is None or not self._limit:
            return
        share = (spent_s - before[1]) / (now - before[0]) / (os.cpu_count() or 1)
        chosen = self._choose(share)
        if chosen != self.frequency_hz:
            self._set(chosen)
        is_near = self._told_hz < 2 * chosen < 4 * self._told_hz
        if chosen != self._told_hz and (not is_near or now >= self._told_at + TELL_SECONDS):
            self._tell(share, now)

    def _tell(self, share: float, now: float) -> None:
        what = "the agent costs too much: it samples less often"
        if self.frequency_hz > self._told_hz:
            what = "the agent costs less again: it samples more often"
        self._told_hz, self._told_at = self.frequency_hz, now
        cost, limit = f"{100 * share:.2f}%", f"{100 * self._limit:g}%"
        told = {"hz": self.frequency_hz, "wanted": self._wanted_hz, "cpu": cost, "limit": limit}
        logger.warning("%s", fields(what, **told))

    def _choose(self, share: float) -> int:
        current = self.frequency_hz
        if share > self._limit:
            return max(int(current * max(self._limit / share, 0.5)), LEAST_HZ)
        if share < MOST_OF_LIMIT * self._limit:
            return min(current + max(current // 10, 1), self._wanted_hz)
        return current

    def _set(self, frequency_hz: int) -> None:
        self.frequency_hz = frequency_hz
        self._change(frequency_hz)

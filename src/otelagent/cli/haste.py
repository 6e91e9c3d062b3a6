# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""How long what takes long may still take once the agent was asked to end."""

from __future__ import annotations

import signal
import time

from otelagent.host.command import ENDING
from otelagent.symbolize.symcache import hurry_when


class Haste:
    """Once an agent was asked to end some time ago, conversions that take long are given up."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = float("inf")
        hurry_when(self.is_late)

    def begin(self) -> None:
        """The time counts from now, or from before."""
        self._until = min(self._until, time.monotonic() + self._seconds)

    def is_late(self) -> bool:
        """Tell whether it is over; from the main thread, whose signals wait until it asks."""
        if signal.sigpending() & ENDING:
            self.begin()
        return time.monotonic() >= self._until

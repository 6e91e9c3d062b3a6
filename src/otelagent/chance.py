# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is left to chance: when to report, and in which intervals to sample.

One machine in a fleet stands for many: where only a part of the time is sampled, and by
lot, the whole is seen for a part of the cost.
"""

from __future__ import annotations

import random
from typing import Protocol


class Random(Protocol):
    """Where numbers come from; `random.Random`, seeded in tests."""

    def random(self) -> float:
        """Give a number from 0 up to 1."""
        ...

    def randrange(self, stop: int, /) -> int:
        """Give an integer from 0 up to `stop`."""
        ...


def new_random() -> Random:
    """Make a source that is another in each process."""
    return random.Random()  # noqa: S311 (no secret depends on it)


def draw_lot(threshold: int, rng: Random) -> bool:
    """Say whether to sample in the next interval: in `threshold` of 100 cases."""
    return threshold > rng.randrange(100)


def jittered(seconds: float, jitter: float, rng: Random) -> float:
    """Make a time longer or shorter by up to `jitter` of it, so that a fleet spreads out."""
    return seconds * (1 + jitter * (2 * rng.random() - 1))

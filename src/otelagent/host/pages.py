# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Pages of files that this process has mapped: which of them have to be resident."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from otelagent._native import lib

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SECONDS, SECONDS = 15.0, 60.0
"""When and how often pages of code are given back that are not in use."""

_logger = logging.getLogger(__name__)


def release_libraries() -> int:
    """Unmap code and constants of our program and its libraries; gives how many bytes.

    Most of it was needed for the start alone: imports, the loader, verifying. It stays in the
    page cache, and what is needed again comes back by minor faults, some 1 us for each 64 KiB.
    May be called from any thread.
    """
    done = int(lib.oa_release_libraries())
    if done < 0:
        _logger.debug("no pages were given back errno=%d", -done)
    return max(done, 0)


class Residence:
    """Keeps resident what is in use, for a process that runs for months. Used by one thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock() + FIRST_SECONDS

    def work(self) -> None:
        """Give back what is not in use, if it is time to; to be called each second or so."""
        if (now := self._clock()) >= self._at:
            self._at = now + SECONDS
            release_libraries()

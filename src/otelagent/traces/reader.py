# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The reader thread: drains the ring, and takes what was unwound in user space."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelagent.bpf.ring import Ring
    from otelagent.queues import BoundedQueue
    from otelagent.traces.collector import Collector

DRAIN_SECONDS = 0.2
"""How long samples of traces that need not be read at once wait in the ring."""


class ReaderThread(threading.Thread):
    """Owns the ring and the collector. `end` is called by the front.

    Attributes:
        error: What it died of; what it had collected is still good.
    """

    def __init__(self, ring: Ring, collector: Collector, finished: BoundedQueue[bytes]) -> None:
        super().__init__(name="reader", daemon=True)
        self._ring = ring
        self._collector = collector
        self._finished = finished
        self._ending = threading.Event()
        self.error: BaseException | None = None
        self.cpu_ns = 0

    def end(self) -> None:
        """Take what is in the ring and stop."""
        self._ending.set()
        self.join()

    def run(self) -> None:
        """Drain each DRAIN_SECONDS, and at once when BPF asks for it."""
        try:
            is_last = False
            while not is_last:
                is_last = self._ending.is_set()
                if not is_last:
                    self._ring.wait(int(DRAIN_SECONDS * 1000))
                self._drain()
        except BaseException as err:  # noqa: BLE001 (shown by the front: it joins us)
            self.error = err
        finally:
            self.cpu_ns = time.thread_time_ns()

    def _drain(self) -> None:
        has_more = True
        while has_more:
            batch = self._ring.drain()
            has_more = batch.has_more
            self._collector.add_batch(batch)
            self.take_finished()

    def take_finished(self) -> None:
        """Count the deferred stacks that were finished; also by the front once this has ended."""
        for data in self._finished.take():
            self._collector.add_finished(data)

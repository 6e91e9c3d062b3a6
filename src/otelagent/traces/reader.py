# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The reader thread: drains the ring, and takes what was unwound in user space."""

from __future__ import annotations

import os
import select
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelagent.bpf.ring import Ring
    from otelagent.queues import BoundedQueue
    from otelagent.traces.collector import Collector

FIRST_MS, FIRST_OF_ALL_MS, LAST_MS = 50, 250, 1000
"""How long what need not be read at once waits in the ring: first little, then ever longer.

BPF asks for the reader where it must come soon: for new code of an interpreter, for code that
is not loaded yet, and when the ring fills. After code that was not loaded yet, the waits are
short again, since what follows may be as new: a JIT's first code has names as long as its
process lives. An interpreter's next new code asks for us by itself. Of a whole system
something is new all the time, so there they are not as short.
"""


def next_wait_ms(
    wait_ms: int, *, was_asked: bool, met_unknown: bool, first_ms: int = FIRST_MS
) -> int:
    """Say how long to wait after a wait of `wait_ms`.

    Args:
        wait_ms: The last one, as it was meant.
        was_asked: Somebody ended it.
        met_unknown: There was something of code that is not loaded yet.
        first_ms: How long to wait then.
    """
    if met_unknown:
        return first_ms
    return wait_ms if was_asked else min(wait_ms * 2, LAST_MS)


class ReaderThread(threading.Thread):
    """Drains the ring into the collector. `end`, `wake` and `flush` are called by others.

    Attributes:
        error: What it died of; what it had collected is still good.
        drained_ns: All that was sampled before was handed on (CLOCK_MONOTONIC).
    """

    def __init__(
        self,
        ring: Ring,
        collector: Collector,
        finished: BoundedQueue[bytes],
        first_ms: int = FIRST_MS,
    ) -> None:
        super().__init__(name="reader", daemon=True)
        self._first_ms = first_ms
        self._ring = ring
        self._collector = collector
        self._finished = finished
        self._ending = threading.Event()
        # Held while the ring is drained.
        self._lock = threading.Lock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake_fd, select.POLLIN)
        if ring.fileno() >= 0:
            self._poll.register(ring.fileno(), select.POLLIN)
        self._is_woken = False
        self.error: BaseException | None = None
        self.drained_ns = time.monotonic_ns()
        self.cpu_ns = 0

    def wake(self) -> None:
        """Take what is there now: a deferred stack was finished."""
        if not self._is_woken:
            self._is_woken = True
            os.eventfd_write(self._wake_fd, 1)

    def end(self) -> None:
        """Take what is in the ring and stop."""
        self._ending.set()
        self.wake()
        self.join()
        if self.error is None:
            self.flush()

    def run(self) -> None:
        """Drain each LAST_MS, and at once when BPF or somebody asks for it."""
        wait_ms, unknown = self._first_ms, 0
        try:
            while not self._ending.is_set():
                was_asked = self._sleep(wait_ms)
                with self._lock:
                    self._drain()
                met_unknown = unknown != self._collector.unknown
                unknown = self._collector.unknown
                wait_ms = next_wait_ms(
                    wait_ms,
                    was_asked=was_asked,
                    met_unknown=met_unknown,
                    first_ms=self._first_ms,
                )
        except BaseException as err:  # noqa: BLE001 (shown by the front: it joins us)
            self.error = err
        finally:
            self.cpu_ns = time.thread_time_ns()

    def _sleep(self, wait_ms: int) -> bool:
        """Wait; tell whether somebody asked for us before the time was over."""
        began = time.monotonic()
        for fd, _ in self._poll.poll(wait_ms):
            if fd == self._wake_fd:
                os.eventfd_read(fd)
        return time.monotonic() - began < wait_ms / 1000

    def _drain(self) -> None:
        self._is_woken = False  # before what it was woken for is taken
        began_ns, has_more = time.monotonic_ns(), True
        while has_more:
            batch = self._ring.drain()
            has_more = batch.has_more
            self._collector.add_batch(batch)
            if has_more:
                self._collector.add_samples(self._ring.take())
            for data in self._finished.take():
                self._collector.add_finished(data)
        self.drained_ns = began_ns

    def flush(self) -> None:
        """Let the collector have everything that was sampled until now."""
        with self._lock:
            self._drain()
            self._collector.add_samples(self._ring.take())

    def close(self) -> None:
        """Give its descriptor back, once it has ended."""
        os.close(self._wake_fd)

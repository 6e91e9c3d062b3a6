# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Sends the agent's readings by OTLP, now and then."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from otelagent.export.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.export.exporter import Exporter
    from otelagent.metrics import Reading


class MetricsSender:
    """Reads and sends each `interval_s`. One thread calls it: `work` when it is due.

    Attributes:
        due: When `work` has something to do (`clock`).
    """

    def __init__(
        self,
        gather: Callable[[], list[Reading]],
        exporter: Exporter,
        interval_s: float,
        resource: tuple[tuple[str, str], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gather = gather
        self._exporter = exporter
        self.interval_s = interval_s
        self._resource = resource
        self._clock = clock
        self._began_ns = time.time_ns()
        self.due = clock() + interval_s

    def work(self) -> None:
        """Send what is due."""
        if (now := self._clock()) >= self.due:
            self.due = now + self.interval_s
            self.send()

    def send(self) -> None:
        """Send all readings of now."""
        from otelagent.export.otlp_metrics import encode_metrics  # noqa: PLC0415 (if asked for)

        now_ns = time.time_ns()
        data = encode_metrics(self._gather(), self._resource, self._began_ns, now_ns)
        self._exporter.put(Record(data, 0, now_ns, now_ns))

    def close(self, seconds: float) -> str:
        """Send the last ones, within so many seconds; tells what became of all."""
        self.send()
        self._exporter.close(seconds)
        return self._exporter.summary()

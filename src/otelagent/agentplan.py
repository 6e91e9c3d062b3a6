# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What an agent is to do, and whom it hands requests to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from otelagent.traces.recent import Bounds

if TYPE_CHECKING:
    from otelagent.export.records import Record


class Sink(Protocol):
    """Takes requests, and never waits for anybody but a disk."""

    def put(self, record: Record) -> None:
        """Take a request."""
        ...

    def close(self, seconds: float) -> None:
        """End within so many seconds."""
        ...

    def summary(self) -> str:
        """Tell in one line what became of everything."""
        ...


@dataclass(frozen=True, slots=True)
class Plan:
    """How often the agent does what; times in seconds.

    Attributes:
        interval_s: Between two reports, more or less by `jitter` (a part of it).
        threshold: Sample in so many of 100 intervals of `lot_interval_s`.
        timestamps: Send the time of each sample.
        resource: Attributes of this machine and what else goes with every profile.
        variables: Environment variables of processes that are sent.
        bounds: How much is remembered of what was sampled.
    """

    interval_s: float = 5.0
    jitter: float = 0.2
    threshold: int = 100
    lot_interval_s: float = 60.0
    timestamps: bool = True
    resource: tuple[tuple[str, str], ...] = ()
    variables: tuple[str, ...] = ()
    bounds: Bounds = Bounds()  # noqa: RUF009 (frozen)

    @property
    def instance_id(self) -> str:
        """What this run is known by."""
        return dict(self.resource).get("service.instance.id", "")

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What became of each request: attempted = delivered + dropped + queued, at any time.

Counted in requests and in samples. What is queued the queue itself says, so that the
sum is a check and not a definition.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent import metrics

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(slots=True)
class Amount:
    """A number of requests, and of the samples in them."""

    requests: int = 0
    samples: int = 0

    def add(self, samples: int, requests: int = 1) -> None:
        """Count one more request."""
        self.requests += requests
        self.samples += samples

    def __str__(self) -> str:
        """Show both numbers."""
        return f"{self.requests} ({self.samples} samples)"


def total(amounts: Iterable[Amount]) -> Amount:
    """Add amounts up."""
    found = Amount()
    for amount in amounts:
        found.add(amount.samples, amount.requests)
    return found


@dataclass(slots=True)
class Account:
    """The book of one sink; whoever owns the sink's lock writes into it.

    Attributes:
        attempted: All that was handed over, and what an earlier run left in the spool.
        delivered: What a receiver took, or a store.
        dropped: What is lost, by reason.
        retries: How often a request was sent once more.
        rejected: Profiles (not samples) that a receiver refused of requests that it took.
    """

    attempted: Amount = field(default_factory=Amount)
    delivered: Amount = field(default_factory=Amount)
    dropped: defaultdict[str, Amount] = field(default_factory=lambda: defaultdict(Amount))
    retries: int = 0
    rejected: int = 0

    def attempt(self, samples: int) -> None:
        """Count a request that is to be delivered."""
        self.attempted.add(samples)
        metrics.export_attempted.add(samples)

    def deliver(self, samples: int, rejected: int = 0) -> None:
        """Count a request that was taken, and the profiles of it that were refused."""
        self.delivered.add(samples)
        metrics.export_delivered.add(samples)
        if rejected:
            self.rejected += rejected
            metrics.export_rejected.add(rejected)

    def drop(self, samples: int, reason: str) -> None:
        """Count a request that is lost."""
        self.dropped[reason].add(samples)
        metrics.export_dropped.add(samples, reason=reason)

    def retry(self) -> None:
        """Count that a request has to be sent once more."""
        self.retries += 1
        metrics.export_retries.add()

    @property
    def lost(self) -> Amount:
        """What is lost, for whatever reason."""
        return total(self.dropped.values())

    def unaccounted(self, queued: Amount) -> Amount:
        """What is missing in the sum: nothing, unless there is a bug."""
        known = total((self.delivered, self.lost, queued))
        return Amount(
            self.attempted.requests - known.requests, self.attempted.samples - known.samples
        )

    def summary(self, queued: Amount) -> str:
        """Tell in one line what became of everything."""
        parts = [
            f"{self.attempted} attempted = {self.delivered} delivered",
            f"{self.lost} dropped",
            f"{queued} queued",
        ]
        said = " + ".join(parts)
        missing = self.unaccounted(queued)
        if missing != Amount():
            said += f" + {missing} unaccounted for"
        for reason, amount in self.dropped.items():
            said += f"; {amount} dropped: {reason}"
        if self.retries:
            said += f"; {self.retries} retries"
        if self.rejected:
            said += f"; {self.rejected} profiles refused by the receiver"
        return said

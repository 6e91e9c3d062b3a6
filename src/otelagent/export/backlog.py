# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What waits to be sent, in memory: bounded in bytes, the oldest is overwritten."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from otelagent.export.account import Amount

if TYPE_CHECKING:
    from otelagent.export.records import Record


class Backlog(Protocol):
    """A queue whose oldest item can be claimed while it is being sent; no locks of its own.

    Attributes:
        queued: What is in it, with what is claimed.
    """

    queued: Amount

    def put(self, record: Record) -> list[tuple[int, str]]:
        """Append a record; gives samples and reason of each one that had to go for it."""
        ...

    def claim(self) -> Record | None:
        """Give the oldest record: it stays until `finish`, and is not overwritten."""
        ...

    def lost(self) -> list[tuple[int, str]]:
        """Give samples and reason of each record that `claim` could not read."""
        ...

    def finish(self) -> None:
        """Remove what was claimed."""
        ...

    def abandon(self) -> None:
        """Let what was claimed wait on: it is the oldest again."""
        ...

    def close(self) -> list[tuple[int, str]]:
        """End; gives samples and reason of each record that is lost by that."""
        ...


FULL = "the queue was full"
ENDED = "the agent ended first"


class MemoryBacklog:
    """A queue in memory of at most `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._records: deque[Record] = deque()
        self._bytes = 0
        self._claimed: Record | None = None
        self.queued = Amount()

    def put(self, record: Record) -> list[tuple[int, str]]:
        """Append a record; the oldest ones go where there is no room."""
        lost = []
        while self._records and self._bytes + len(record.data) > self._most_bytes:
            lost.append((self._remove(self._records.popleft()), FULL))
        if self._bytes + len(record.data) > self._most_bytes:
            return [*lost, (record.samples, FULL)]
        self._records.append(record)
        self._bytes += len(record.data)
        self.queued.add(record.samples)
        return lost

    def _remove(self, record: Record) -> int:
        self._bytes -= len(record.data)
        self.queued.add(-record.samples, -1)
        return record.samples

    def claim(self) -> Record | None:
        """Give the oldest record."""
        if self._claimed is None and self._records:
            self._claimed = self._records.popleft()
        return self._claimed

    def lost(self) -> list[tuple[int, str]]:
        """Give nothing: memory can be read."""
        return []

    def finish(self) -> None:
        """Remove what was claimed."""
        if self._claimed is not None:
            self._remove(self._claimed)
            self._claimed = None

    def abandon(self) -> None:
        """Let what was claimed wait on."""
        if self._claimed is not None:
            self._records.appendleft(self._claimed)
            self._claimed = None

    def close(self) -> list[tuple[int, str]]:
        """Give up what is left: memory does not outlive us."""
        self.abandon()
        lost = [(self._remove(record), ENDED) for record in self._records]
        self._records.clear()
        return lost

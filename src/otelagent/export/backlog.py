# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What waits to be sent: bounded in bytes, the oldest is overwritten; here, in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from otelagent.export.account import Amount

if TYPE_CHECKING:
    from otelagent.export.records import Record


class Sized(Protocol):
    """What waits, or what stands for it."""

    @property
    def samples(self) -> int:
        """Samples in it."""
        ...

    @property
    def size(self) -> int:
        """Bytes that it takes where it waits."""
        ...


Item = TypeVar("Item", bound=Sized)
Lost = list[tuple[int, str]]
"""Samples and reason of each record that is lost."""
FULL = "the queue was full"
ENDED = "the agent ended first"


class Backlog(ABC, Generic[Item]):
    """A queue whose oldest item can be claimed while it is being sent; no locks of its own.

    Attributes:
        queued: What is in it, with what is claimed.
        bytes: What that takes.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._waiting: deque[Item] = deque()
        self._claimed: Item | None = None
        self._lost: Lost = []
        self.queued = Amount()
        self.bytes = 0

    @abstractmethod
    def put(self, record: Record) -> Lost:
        """Append a record; gives what had to go for it."""

    @abstractmethod
    def claim(self) -> Record | None:
        """Give the oldest record: it stays until `finish`, and is not overwritten."""

    @abstractmethod
    def close(self) -> Lost:
        """End; gives what is lost by that."""

    def lost(self) -> Lost:
        """Give what was lost since the last call, and was not told by `put`."""
        lost, self._lost = self._lost, []
        return lost

    def finish(self) -> None:
        """Remove what was claimed."""
        if self._claimed is not None:
            self._leave(self._claimed)
            self._claimed = None

    def abandon(self) -> None:
        """Let what was claimed wait on: it is the oldest again."""
        if self._claimed is not None:
            self._waiting.appendleft(self._claimed)
            self._claimed = None

    def _enter(self, item: Item) -> None:
        self._waiting.append(item)
        self.bytes += item.size
        self.queued.add(item.samples)

    def _leave(self, item: Item) -> None:
        self.bytes -= item.size
        self.queued.add(-item.samples, -1)

    def _make_room(self, size: int) -> bool:
        """Let the oldest go until there is room; False where there is none even so."""
        while self._waiting and self.bytes + size > self._most_bytes:
            oldest = self._waiting.popleft()
            self._leave(oldest)
            self._lost.append((oldest.samples, FULL))
        return self.bytes + size <= self._most_bytes


class MemoryBacklog(Backlog["Record"]):
    """A queue in memory of at most `most_bytes`."""

    def put(self, record: Record) -> Lost:
        """Append a record; the oldest ones go where there is no room."""
        if self._make_room(record.size):
            self._enter(record)
        else:
            self._lost.append((record.samples, FULL))
        return self.lost()

    def claim(self) -> Record | None:
        """Give the oldest record."""
        if self._claimed is None and self._waiting:
            self._claimed = self._waiting.popleft()
        return self._claimed

    def close(self) -> Lost:
        """Give up what is left: memory does not outlive us."""
        self.abandon()
        for record in self._waiting:
            self._leave(record)
            self._lost.append((record.samples, ENDED))
        self._waiting.clear()
        return self.lost()

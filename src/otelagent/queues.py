# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Queues between threads: bounded in number and bytes; who puts counts what does not fit."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedQueue(Generic[T]):
    """First in, first out. For any number of threads.

    Args:
        most: Items that it holds at most.
        most_bytes: Bytes that they have together at most.
    """

    def __init__(self, most: int, most_bytes: int = 0) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, item: T, size: int = 0) -> bool:
        """Append an item of `size` bytes; False where there is no room."""
        with self._lock:
            if len(self._items) >= self._most or self._bytes + size > self._most_bytes:
                return False
            self._items.append((item, size))
            self._bytes += size
        return True

    def take(self) -> list[T]:
        """Take everything that is in it now, oldest first."""
        with self._lock:
            items, self._items = self._items, deque()
            self._bytes = 0
        return [item for item, _ in items]

    @property
    def bytes(self) -> int:
        """Count the bytes of its items."""
        return self._bytes

    def __len__(self) -> int:
        """Count the items."""
        return len(self._items)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What processes are part of, read while they live: when their first stack comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from otelagent.abi.codec import Generation

Attributes = tuple[tuple[str, str], ...]
MAX_PROCESSES = 16_384


class ProcessNotes:
    """Attributes of processes that were sampled; for any thread.

    Args:
        read: Describes a process that lives, by its pid.
    """

    def __init__(self, read: Callable[[int], Attributes]) -> None:
        self._read = read
        self._notes: dict[Generation, Attributes] = {}
        self._lock = threading.Lock()

    def read_by(self, read: Callable[[int], Attributes]) -> None:
        """Describe processes that come from now on in another way."""
        self._read = read

    def see(self, generation: Generation) -> None:
        """Read about a process unless that was done."""
        if generation in self._notes:
            return
        found = self._read(generation.pid)
        with self._lock:
            self._notes[generation] = found
            if len(self._notes) > MAX_PROCESSES:
                del self._notes[next(iter(self._notes))]

    def of(self, generation: Generation) -> Attributes:
        """Give what is known of a process."""
        return self._notes.get(generation, ())

    def keep(self, generations: Container[Generation]) -> None:
        """Forget all others."""
        with self._lock:
            for each in [each for each in self._notes if each not in generations]:
                del self._notes[each]

    def __len__(self) -> int:
        """Count the processes."""
        return len(self._notes)

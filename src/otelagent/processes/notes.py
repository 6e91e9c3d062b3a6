# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What processes are part of, read while they live: when their first stack comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from otelagent.processes.context import read_context

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable

    from otelagent.abi.codec import Generation

Attributes = tuple[tuple[str, str], ...]
MAX_PROCESSES = 16_384
FIRST_LOOKS, LATER_LOOKS = {1, 2, 4, 12}, 60
"""In which reports that a process is in it is looked if it publishes something: a library
does so when it is set up, mostly within the first seconds."""


class ProcessNotes:
    """Attributes of processes that were sampled; for any thread.

    Args:
        read: Describes a process that lives, by its pid.
        read_context: Reads what it publishes itself.
    """

    def __init__(
        self,
        read: Callable[[int], Attributes],
        read_context: Callable[[int], Attributes] = read_context,
    ) -> None:
        self._read = read
        self._notes: dict[Generation, Attributes] = {}
        self._lock = threading.Lock()
        self._read_context = read_context
        self._contexts: dict[Generation, Attributes] = {}
        self._looks: dict[Generation, int] = {}

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

    def look_again(self, generations: Iterable[Generation]) -> list[Generation]:
        """Read what processes publish, now and then, as they do it later; gives which have news.

        Of one thread.
        """
        changed = []
        for each in generations:
            looks = self._looks[each] = self._looks.get(each, 0) + 1
            if looks not in FIRST_LOOKS and looks % LATER_LOOKS:
                continue
            found = self._read_context(each.pid)
            if found and found != self._contexts.get(each):
                self._contexts[each] = found
                changed.append(each)
        return changed

    def of(self, generation: Generation) -> Attributes:
        """Give what is known of a process; what it publishes comes before what its files say."""
        found = self._notes.get(generation, ())
        if published := self._contexts.get(generation):
            found = tuple((dict(found) | dict(published)).items())
        return found

    def keep(self, generations: Container[Generation]) -> None:
        """Forget all others."""
        with self._lock:
            for each in [each for each in self._notes if each not in generations]:
                del self._notes[each]
        for known in (self._contexts, self._looks):
            for each in [each for each in known if each not in generations]:
                del known[each]

    def __len__(self) -> int:
        """Count the processes."""
        return len(self._notes)

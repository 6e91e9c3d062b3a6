# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The lives of a pid: fork, exec and, after an exit, somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Container

    from otelagent.abi.codec import Generation
    from otelagent.bpf.sideband import Event
    from otelagent.processes.spaces import Space


MAX_ELDERS = 32
"""So far events of parents' parents are looked at."""


@dataclass(slots=True)
class Life:
    """One image of a process; `is_complete` when all of its mappings are known.

    `published` is the number of the space that BPF was told of, 0 if of none. `elder` is
    the process that it was forked from, whose mappings were not known then, either. `execs` is
    how many times it had called exec, or its parent when it was forked; -1: not known.
    """

    since_ns: int
    space: Space
    is_complete: bool = False
    generation: Generation | None = None
    path: str = ""
    published: int = 0
    elder: int = 0
    execs: int = -1

    def is_other(self, generation: Generation) -> bool:
        """Tell that what was sampled cannot be this image: no event told of what came between."""
        known = self.generation
        if known and known.start_ns != generation.start_ns:
            return True
        return 0 <= self.execs < generation.exec_id


@dataclass(slots=True)
class Entry:
    """A pid and its lives, oldest first.

    `exited_ns` is when it may have ended, 0 if nothing says so: `clean` looks.
    """

    pid: int
    lives: list[Life]
    exited_ns: int = 0
    next_scan_ns: int = 0
    rest_until_ns: int = 0
    scans: int = 0

    def before(self, life: Life) -> Life | None:
        """The life before another."""
        at = self.lives.index(life)
        return self.lives[at - 1] if at else None

    def doubt(self, time_ns: int) -> None:
        """Take nothing for sure: events were lost."""
        self.now.is_complete = False
        self.now.path = ""  # an exec may be among what was lost
        self.next_scan_ns = 0
        self.exited_ns = self.exited_ns or time_ns  # its end may be among it, too

    @property
    def now(self) -> Life:
        """The newest life."""
        return self.lives[-1]

    def at(self, time_ns: int) -> Life:
        """The life that the process had at a time."""
        for life in reversed(self.lives):
            if life.since_ns <= time_ns:
                return life
        return self.lives[0]


class Kept(Protocol):
    """Events of processes that nobody needed yet.

    Attributes:
        is_on: Whether it has any; if not, all events are told as they come.
    """

    @property
    def is_on(self) -> bool: ...  # noqa: D102 (above)

    def recall(self, pid: int) -> list[Event]:
        """Let a process in: give what was kept."""
        ...

    def let_go(self, pid: int) -> None:
        """Keep the events of a process again."""
        ...

    def purge(self, before_ns: int) -> None:
        """Forget what ended before a time."""
        ...

    def distrust(self) -> None:
        """Forget all of it."""
        ...


class NothingKept:
    """`Kept` where events are told as they come."""

    is_on = False

    def recall(self, pid: int) -> list[Event]:  # noqa: ARG002 (as `Kept`)
        """Give nothing."""
        return []

    def let_go(self, pid: int) -> None:
        """Do nothing."""

    def purge(self, before_ns: int) -> None:
        """Do nothing."""

    def distrust(self) -> None:
        """Do nothing."""


NOTHING_KEPT = NothingKept()


def recall_all(kept: Kept, pid: int, known: Container[int]) -> list[Event]:
    """Let in a process, and those that it was forked from: what was kept of them, in order.

    Those that are known are in already.
    """
    events: list[Event] = []
    left, met = [pid], set[int]()
    while left and len(met) < MAX_ELDERS:
        each = left.pop()
        if each in met or each in known:
            continue
        met.add(each)
        told = kept.recall(each)
        events += told
        left += [event.ppid for event in told if event.is_new_process]
    return sorted(events, key=lambda event: event.time_ns)

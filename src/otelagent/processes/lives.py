# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The lives of a pid: fork, exec and, after an exit, somebody else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelagent.abi.codec import Generation
    from otelagent.processes.spaces import Space


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

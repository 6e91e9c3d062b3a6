# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Waits whose stack was deferred: what came first waits here for the other.

BPF knows no hash of a deferred stack. It tells the end of such a wait by the thread and when
the wait began, which the deferred stack has, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from otelagent import metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.traces.kept import GroupKey

MAX_WAITS = 1 << 13
"""Of each of both; the oldest goes first. Most stacks are never asked for, so there are so many
once there were as many processes; each takes some 400 bytes."""


class Begin(NamedTuple):
    """Which wait it is: of a thread, since when (CLOCK_MONOTONIC ns)."""

    tid: int
    time_ns: int


class Ended(NamedTuple):
    """How long a wait was, and when it was over."""

    weight: int
    time_ns: int


class Waits:
    """Joins stacks and waits. Used by the thread that has the collector's lock."""

    def __init__(self, most: int = MAX_WAITS) -> None:
        self._most = most
        self._stacks: dict[Begin, GroupKey] = {}
        self._ended: dict[Begin, Ended] = {}

    def add_stack(self, begin: Begin, key: GroupKey) -> Ended | None:
        """Take a stack that was unwound; gives the wait if it is over."""
        if ended := self._ended.pop(begin, None):
            return ended
        # Most of those that are never asked for were too short to be told.
        self._stacks[begin] = key
        if len(self._stacks) > self._most:
            del self._stacks[next(iter(self._stacks))]
        return None

    def add_end(self, begin: Begin, ended: Ended) -> GroupKey | None:
        """Take the end of a wait; gives its stack if that is there."""
        if key := self._stacks.pop(begin, None):
            return key
        self._ended[begin] = ended
        if len(self._ended) > self._most:
            del self._ended[next(iter(self._ended))]
            metrics.waits_unmatched.add()
        return None

    def hashes(self) -> Iterator[int]:
        """Tell which traces may yet be asked for."""
        return (key.hash for key in self._stacks.values())

    def close(self) -> None:
        """Count the waits whose stack never came."""
        metrics.waits_unmatched.add(len(self._ended))
        self._ended.clear()

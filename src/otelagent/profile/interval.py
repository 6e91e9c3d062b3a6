# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The samples of one interval, for who encodes them at once.

A `Profile` looks into each frame to find equal ones, which takes longer than all else that
an agent does with a stack that it knows. An encoder has to do so anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent.model import ProfileInfo, SampleGroup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from otelagent.model import Process, Thread, Trace

    Entry = tuple[Trace, Process, Thread, SampleGroup]


@dataclass(slots=True, eq=False)
class Interval(ProfileInfo):
    """Samples and what holds for all of them; owned by one thread.

    What is equal and not the same object stays apart.
    """

    _entries: dict[tuple[int, int, int], Entry] = field(
        default_factory=dict, init=False, repr=False
    )

    def add(
        self,
        trace: Trace,
        process: Process,
        thread: Thread,
        count: int,
        value: int,
        timestamps_ns: Sequence[int] = (),
    ) -> None:
        """Count samples of one trace in one thread, as `Profile.add` does."""
        key = (id(trace), id(process), id(thread))
        entry = self._entries.get(key)
        if entry is None:  # it holds all three, so that their identities are not used again
            entry = self._entries[key] = (trace, process, thread, SampleGroup())
        counts = self.sample_type[1] == "count"
        entry[3].add(count, count if counts else value, timestamps_ns)

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        """Give every group with its trace, process and thread."""
        return iter(self._entries.values())

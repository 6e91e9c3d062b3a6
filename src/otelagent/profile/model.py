# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The merged profile: samples grouped by trace, process and thread.

Traces and frames are known again by their identity and kept by their numbers: a
frame is hashed once, when it is first seen, however many traces share it. Two
traces are merged only when they are equal in everything, names, lines, addresses
and fault included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent.model import ProfileInfo, SampleGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from otelagent.model import Frame, Process, Thread, Trace

    Entry = tuple[Trace, Process, Thread, SampleGroup]

MAX_ALIASES = 65_536
"""How many equal but not identical traces, or frames, are remembered by identity."""


@dataclass(slots=True, eq=False)
class Profile(ProfileInfo):
    """Samples and what holds for all of them; owned by one thread."""

    _numbers: dict[tuple[tuple[int, ...], str], int] = field(
        default_factory=dict, init=False, repr=False
    )
    _traces: list[Trace] = field(default_factory=list, init=False, repr=False)
    _aliases: dict[int, tuple[Trace, int]] = field(default_factory=dict, init=False, repr=False)
    _frame_numbers: dict[Frame, int] = field(default_factory=dict, init=False, repr=False)
    _frame_aliases: dict[int, tuple[Frame, int]] = field(
        default_factory=dict, init=False, repr=False
    )
    _groups: dict[tuple[int, Process, Thread], SampleGroup] = field(
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
        """Count samples of one trace in one thread.

        Args:
            trace: The stack; passing the same object again is cheap.
            process: Where it was seen.
            thread: Where in the process.
            count: How many samples.
            value: Their sum in the unit of `sample_type`; not looked at where that is a count.
            timestamps_ns: UNIX times, `count` of them or none.
        """
        key = (self._number(trace), process, thread)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = SampleGroup()
        group.add(count, count if self.counts_samples else value, timestamps_ns)

    def _number(self, trace: Trace) -> int:
        found = self._aliases.get(id(trace))
        if found is not None:
            return found[1]
        aliases = self._frame_aliases
        frames = tuple(
            [
                known[1] if (known := aliases.get(id(frame))) else self._frame_number(frame)
                for frame in trace.frames
            ]
        )
        number = self._numbers.setdefault((frames, trace.fault), len(self._traces))
        if number == len(self._traces):
            self._traces.append(trace)
        if len(self._aliases) >= MAX_ALIASES:
            self._aliases.clear()
        # The trace is held too, so that its identity is not used again.
        self._aliases[id(trace)] = (trace, number)
        return number

    def _frame_number(self, frame: Frame) -> int:
        number = self._frame_numbers.setdefault(frame, len(self._frame_numbers))
        if len(self._frame_aliases) >= MAX_ALIASES:
            self._frame_aliases.clear()
        self._frame_aliases[id(frame)] = (frame, number)
        return number

    @property
    def counts_samples(self) -> bool:
        """Whether a sample weighs one; else it weighs its `value`."""
        return self.sample_type[1] == "count"

    @property
    def samples(self) -> int:
        """How many samples there are."""
        return sum(group.count for group in self._groups.values())

    @property
    def total(self) -> int:
        """The sum over all samples in the unit of `sample_type`."""
        return sum(group.value for group in self._groups.values())

    @property
    def traces(self) -> Sequence[Trace]:
        """The different traces, in the order in which they came."""
        return self._traces

    def __len__(self) -> int:
        """Count the groups."""
        return len(self._groups)

    def __iter__(self) -> Iterator[Entry]:
        """Give every group with its trace, process and thread."""
        for (number, process, thread), group in self._groups.items():
            yield self._traces[number], process, thread, group

    @classmethod
    def of(cls, info: ProfileInfo, entries: Iterable[Entry]) -> Profile:
        """Make a profile from what a file held; equal groups are merged."""
        profile = cls(
            sample_type=info.sample_type,
            period_type=info.period_type,
            period_ns=info.period_ns,
            start_unix_ns=info.start_unix_ns,
            duration_ns=info.duration_ns,
            host=info.host,
            notes=dict(info.notes),
        )
        for trace, process, thread, group in entries:
            profile.add(trace, process, thread, group.count, group.value, group.timestamps_ns)
        return profile

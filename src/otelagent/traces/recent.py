# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Traces that were sampled lately: the rest is forgotten, on both sides of the border.

What is forgotten must come again whole, so it goes in steps, one a report: BPF is told to
send the trace anew; what CPUs noted meanwhile is cleared; and then, unless it came again,
the trace is removed with the frames that no other one has. A sample that was on its way
meanwhile still finds its trace.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from otelagent.abi.codec import RawTrace
    from otelagent.traces.collector import Collector
    from otelagent.traces.handler import TraceHandler


_BYTES_BIT = 40
_REPORTS = (1 << _BYTES_BIT) - 1


class Known(Protocol):
    """What BPF takes for known."""

    def forget(self, hashes: Iterable[int]) -> None:
        """Let BPF send traces anew."""
        ...

    def forget_near(self, hashes: Iterable[int]) -> None:
        """Clear what CPUs noted meanwhile."""
        ...

    def keep(self, hashes: Container[int]) -> None:
        """Let BPF send all others anew."""
        ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is remembered.

    Attributes:
        traces: At most so many.
        words_bytes: With at most so many bytes of frames together.
        age: And each for so many reports after it was sampled last.
        frames: Frames are looked through when there are so many more than last time,
        rest: Or so many reports later: short processes have frames that are known, and notes
            of their own.
    """

    traces: int = 8192
    words_bytes: int = 8 << 20
    age: int = 120
    frames: int = 4096
    rest: int = 60


class RecentTraces:
    """Decides what is forgotten. Used by the thread that reports.

    Args:
        on_cleaned: Told of the traces that are left, each time that frames were forgotten.
    """

    def __init__(
        self,
        collector: Collector,
        handler: TraceHandler,
        known: Known,
        on_cleaned: Callable[[Mapping[int, RawTrace]], None],
        bounds: Bounds,
    ) -> None:
        self._collector = collector
        self._handler = handler
        self._known = known
        self._on_cleaned = on_cleaned
        self._bounds = bounds
        self._report = 0
        # By when they were sampled last, the oldest first: the report, and above `_BYTES_BIT` how
        # many bytes of frames, as a trace may be packed by the time that is wanted again.
        self._seen: dict[int, int] = {}
        self._bytes = 0
        self._told: set[int] = set()
        self._cleared: set[int] = set()
        self._frames = 0
        self._cleaned = 0

    def note(self, hashes: Iterable[int]) -> None:
        """Note which traces a report has; then forget what is too much."""
        self._report += 1
        traces = self._collector.traces
        for each in hashes:
            seen = self._seen.pop(each, None)
            if seen is None:
                size = len(traces[each].user)
                self._bytes += size
            else:
                size = seen >> _BYTES_BIT
            self._seen[each] = size << _BYTES_BIT | self._report
        self._step()

    def _step(self) -> None:
        cleared, self._cleared = self._cleared, self._told
        self._known.forget_near(self._cleared)
        self._told = set(self._pick())
        if self._told:
            self._collector.doom(self._told)
            self._known.forget(self._told)
        is_due = self._handler.frame_count - self._frames > self._bounds.frames
        is_due = is_due or self._report - self._cleaned >= self._bounds.rest
        if cleared or is_due:
            # One that was sampled meanwhile may be on its way out for the second time.
            wanted = self._seen.keys() | self._told | self._cleared
            buried = self._collector.bury(
                [each for each in cleared if each not in wanted],
                lambda left: self._clean(left, is_due=is_due),
            )
            self._handler.forget(buried)

    def _pick(self) -> list[int]:
        """Choose the traces to forget, those first that were sampled longest ago."""
        bounds = self._bounds
        picked: list[int] = []
        for each, seen in self._seen.items():
            is_full = len(self._seen) - len(picked) > bounds.traces
            is_full = is_full or self._bytes > bounds.words_bytes
            if not is_full and self._report - (seen & _REPORTS) <= bounds.age:
                break
            self._bytes -= seen >> _BYTES_BIT
            picked.append(each)
        for each in picked:
            del self._seen[each]
        return picked

    def _clean(self, left: Mapping[int, RawTrace], *, is_due: bool) -> None:
        if is_due:
            self._handler.keep(left)
            self._known.keep(left)
            self._frames, self._cleaned = self._handler.frame_count, self._report
            self._on_cleaned(left)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hottest functions: self and total, each function counted once per stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.profile.label import ANONYMOUS, Label, label_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otelagent.model import Frame, Trace
    from otelagent.profile.model import Entry

MOST_FRAMES = 16_384
"""Frames whose labels are kept for later sums."""


@dataclass(slots=True)
class TopFunction:
    """A function; `self_value` and `total_value` are in the profile's unit."""

    label: Label
    self_value: int = 0
    total_value: int = 0


class FrameKeys:
    """By which labels frames are summed up; each is looked at once, also by later sums."""

    def __init__(self, *, join_unnamed: bool, by_line: bool = False) -> None:
        self._join_unnamed = join_unnamed
        self._by_line = by_line
        # The frame is held, too, so that its identity is not used again.
        self._known: dict[int, tuple[Frame, list[Label]]] = {}

    def of_frame(self, frame: Frame) -> list[Label]:
        """List the labels of a frame, the innermost inlined one first."""
        known = self._known.get(id(frame))
        if known is None:
            keys = [
                at_line(as_function(label, self._join_unnamed), line if self._by_line else 0)
                for label, line in label_frame(frame)
            ]
            if len(self._known) >= MOST_FRAMES:
                self._known.clear()
            known = self._known[id(frame)] = (frame, keys)
        return known[1]


class FunctionSums:
    """Sums of functions, to which samples are added and of which they are taken away.

    What is known of a frame or a function is not looked up by its text again: a label's
    hash covers all of it.
    """

    def __init__(self, keys: FrameKeys) -> None:
        self._keys = keys
        self._found: dict[Label, TopFunction] = {}
        self._of_frame: dict[int, tuple[Frame, list[TopFunction]]] = {}

    def __len__(self) -> int:
        """Count the functions."""
        return len(self._found)

    def add(self, entries: Iterable[Entry], sign: int = 1) -> None:
        """Add samples, or with -1 take away what was added before."""
        values: dict[int, tuple[Trace, list[int]]] = {}
        for trace, _process, _thread, group in entries:
            known = values.get(id(trace))
            if known is None:
                known = values[id(trace)] = (trace, [0])
            known[1][0] += group.value
        for trace, (value,) in values.values():
            rows = [row for frame in trace.frames for row in self._functions_of(frame)]
            if rows:
                rows[0].self_value += sign * value
            for row in {id(row): row for row in rows}.values():
                row.total_value += sign * value

    def _functions_of(self, frame: Frame) -> list[TopFunction]:
        known = self._of_frame.get(id(frame))
        if known is None:
            rows = [self.function(label) for label in self._keys.of_frame(frame)]
            if len(self._of_frame) >= MOST_FRAMES:
                self._of_frame.clear()
            known = self._of_frame[id(frame)] = (frame, rows)
        return known[1]

    def function(self, label: Label) -> TopFunction:
        """Find a function, or begin one."""
        row = self._found.get(label)
        if row is None:
            row = self._found[label] = TopFunction(label)
        return row

    def keep(self, rows: Iterable[TopFunction]) -> None:
        """Forget all functions but these."""
        self._found = {row.label: row for row in rows}
        self._of_frame.clear()

    def __iter__(self) -> Iterator[TopFunction]:
        """Give the functions in any order."""
        return iter(self._found.values())


def top_functions(
    entries: Iterable[Entry], *, join_unnamed: bool = False, by_line: bool = False
) -> list[TopFunction]:
    """Sum up each function, the one with the highest self value first.

    A recursive function counts once per stack. A function that was found by
    guessing in some stacks and for certain in others is one function.

    Args:
        entries: A profile, or some of its groups.
        join_unnamed: Take all addresses without a name in one file for one function,
            `[libfoo.so]`: for tables that people read, where each alone is too small to see.
        by_line: Keep a function's lines apart; the `file` of a label becomes `file:line`.
    """
    sums = FunctionSums(FrameKeys(join_unnamed=join_unnamed, by_line=by_line))
    sums.add(entries)
    return sorted(sums, key=heaviest)


def heaviest(row: TopFunction) -> tuple[int, int, str]:
    """Give the key by which the row with the highest self value is the first."""
    return -row.self_value, -row.total_value, row.label.name


def as_function(label: Label, join_unnamed: bool) -> Label:
    """Choose what is one row: how a frame was found does not matter."""
    if label.resolved or not join_unnamed:
        return replace(label, guessed=False) if label.guessed else label
    where = label.module or ANONYMOUS
    name = where if where.startswith("[") else f"[{where}]"
    return Label(name, label.type, label.module, resolved=False)


def at_line(label: Label, line: int) -> Label:
    """Make a line of a function a row of its own; 0 leaves it as it is."""
    return replace(label, file=f"{label.file}:{line}") if line and label.file else label

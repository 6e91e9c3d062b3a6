# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hottest functions: self and total, each function counted once per stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.profile.label import ANONYMOUS, Label, label_frame

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.model import Frame
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


def top_functions(
    entries: Iterable[Entry],
    *,
    join_unnamed: bool = False,
    by_line: bool = False,
    keys: FrameKeys | None = None,
) -> list[TopFunction]:
    """Sum up each function, the one with the highest self value first.

    A recursive function counts once per stack. A function that was found by
    guessing in some stacks and for certain in others is one function.

    Args:
        entries: A profile, or some of its groups.
        join_unnamed: Take all addresses without a name in one file for one function,
            `[libfoo.so]`: for tables that people read, where each alone is too small to see.
        by_line: Keep a function's lines apart; the `file` of a label becomes `file:line`.
        keys: What says both, if it is to be used again.
    """
    frame_keys = keys or FrameKeys(join_unnamed=join_unnamed, by_line=by_line)
    found: dict[Label, TopFunction] = {}
    per_frame: dict[int, list[TopFunction]] = {}
    per_trace: dict[int, tuple[TopFunction | None, list[TopFunction]]] = {}

    def functions_of(frame: Frame) -> list[TopFunction]:
        rows = per_frame.get(id(frame))
        if rows is None:
            rows = [found.setdefault(key, TopFunction(key)) for key in frame_keys.of_frame(frame)]
            per_frame[id(frame)] = rows
        return rows

    for trace, _process, _thread, group in entries:
        known = per_trace.get(id(trace))
        if known is None:
            rows = [row for frame in trace.frames for row in functions_of(frame)]
            once = list({id(row): row for row in rows}.values())
            known = per_trace[id(trace)] = (rows[0] if rows else None, once)
        leaf, once = known
        if leaf is not None:
            leaf.self_value += group.value
        for row in once:
            row.total_value += group.value
    return sorted(found.values(), key=heaviest)


def heaviest(row: TopFunction) -> tuple[int, int, str]:
    """Give the key by which the row with the highest self value is the first."""
    return -row.self_value, -row.total_value, row.label.name


def as_function(label: Label, join_unnamed: bool) -> Label:
    """Choose what is one row: how a frame was found does not matter."""
    if label.resolved or not join_unnamed:
        return replace(label, guessed=False)
    where = label.module or ANONYMOUS
    name = where if where.startswith("[") else f"[{where}]"
    return Label(name, label.type, label.module, resolved=False)


def at_line(label: Label, line: int) -> Label:
    """Make a line of a function a row of its own; 0 leaves it as it is."""
    return replace(label, file=f"{label.file}:{line}") if line and label.file else label

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hottest functions: self and total, each function counted once per stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.profile.label import ANONYMOUS, Label, Labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.model import Frame
    from otelagent.profile.model import Entry


@dataclass(slots=True)
class TopFunction:
    """A function; `self_value` and `total_value` are in the profile's unit."""

    label: Label
    self_value: int = 0
    total_value: int = 0


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
    labels = Labels()
    found: dict[Label, TopFunction] = {}
    per_frame: dict[int, list[TopFunction]] = {}
    per_trace: dict[int, tuple[TopFunction | None, list[TopFunction]]] = {}

    def functions_of(frame: Frame) -> list[TopFunction]:
        rows = per_frame.get(id(frame))
        if rows is None:
            keys = [
                at_line(as_function(label, join_unnamed), line if by_line else 0)
                for label, line in labels.of_frame(frame)
            ]
            rows = [found.setdefault(key, TopFunction(key)) for key in keys]
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
    return sorted(
        found.values(), key=lambda row: (-row.self_value, -row.total_value, row.label.name)
    )


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

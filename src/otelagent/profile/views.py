# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The ways in which a live table sums up samples: by function, line, process or thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from otelagent.profile.label import Labels, base_name, label_process, label_thread, place_of
from otelagent.profile.printable import printable
from otelagent.profile.top import as_function, top_functions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.model import FrameType, Process, Thread
    from otelagent.profile.model import Entry


class View(StrEnum):
    """What one row is."""

    FUNCTIONS = "functions"
    LINES = "lines"
    PROCESSES = "processes"
    THREADS = "threads"


@dataclass(frozen=True, slots=True)
class Row:
    """A row; of a process or thread `where` is the function that it spends most time in.

    Texts hold no control characters.
    """

    self_value: int
    total_value: int
    name: str
    where: str
    type: FrameType | None = None


@dataclass(slots=True)
class _Owner:
    value: int = 0
    leaves: Counter[str] = field(default_factory=Counter)


def make_rows(entries: Iterable[Entry], view: View) -> list[Row]:
    """Sum up, the row with the highest self value first."""
    if view in {View.PROCESSES, View.THREADS}:
        return _owner_rows(entries, by_thread=view is View.THREADS)
    by_line = view is View.LINES
    rows = []
    for found in top_functions(entries, join_unnamed=True, by_line=by_line):
        label = found.label
        where = base_name(label.file) if by_line and label.file else place_of(label)
        name = printable(label.name)
        rows.append(
            Row(found.self_value, found.total_value, name, printable(where), label.type),
        )
    return rows


def _owner_rows(entries: Iterable[Entry], *, by_thread: bool) -> list[Row]:
    labels = Labels()
    owners: dict[tuple[Process, Thread | None], _Owner] = {}
    for trace, process, thread, group in entries:
        owner = owners.setdefault((process, thread if by_thread else None), _Owner())
        owner.value += group.value
        if trace.frames:
            label = labels.of_frame(trace.frames[0])[0][0]
            owner.leaves[as_function(label, join_unnamed=True).name] += group.value
    rows = []
    for (process, owned), owner in owners.items():
        name = f"{label_process(process)} ({process.pid})"
        if owned is not None:
            name = f"{label_thread(owned)} of {name}"
        leaf = owner.leaves.most_common(1)[0][0] if owner.leaves else ""
        rows.append(Row(owner.value, owner.value, printable(name), printable(leaf)))
    return sorted(rows, key=lambda row: (-row.self_value, row.name))

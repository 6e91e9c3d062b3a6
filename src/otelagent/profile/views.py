# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The ways in which a live table sums up samples: by function, line, process or thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from otelagent.model import FrameType
from otelagent.profile.label import (
    Label,
    base_name,
    label_process,
    label_thread,
    place_of,
)
from otelagent.profile.printable import printable
from otelagent.profile.top import FrameKeys, TopFunction, heaviest, top_functions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.model import Process, Thread
    from otelagent.profile.model import Entry

MOST_ROWS, MOST_LEAVES = 8192, 64
"""What is summed up one by one; of more, the lighter half becomes one row, or is forgotten."""
OTHERS = Label("[other functions]", FrameType.NATIVE, resolved=False)


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

    def add(self, other: _Owner) -> None:
        self.value += other.value
        self.leaves.update(other.leaves)
        if len(self.leaves) > MOST_LEAVES:
            self.leaves = Counter(dict(self.leaves.most_common(MOST_LEAVES // 2)))


class Functions:
    """Sums by function, or by line, that stay small however long samples are added."""

    def __init__(self, *, by_line: bool = False) -> None:
        self._by_line = by_line
        self._keys = FrameKeys(join_unnamed=True, by_line=by_line)
        self._found: dict[Label, TopFunction] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        """Add samples."""
        for row in top_functions(entries, keys=self._keys):
            self._add(row.label, row.self_value, row.total_value)
        if len(self._found) > MOST_ROWS:
            by_weight = sorted(self._found.values(), key=lambda row: -row.total_value)
            self._found = {row.label: row for row in by_weight[: MOST_ROWS // 2]}
            for row in by_weight[MOST_ROWS // 2 :]:
                # Stacks may have several of them: the sum of their totals means nothing.
                self._add(OTHERS, row.self_value, row.self_value)

    def _add(self, label: Label, self_value: int, total_value: int) -> None:
        row = self._found.get(label) or self._found.setdefault(label, TopFunction(label))
        row.self_value += self_value
        row.total_value += total_value

    def sorted(self) -> list[TopFunction]:
        """Give the functions as `top_functions` does."""
        return sorted(self._found.values(), key=heaviest)

    def rows(self) -> list[Row]:
        """Give the rows, the one with the highest self value first."""
        rows = []
        for found in self.sorted():
            label = found.label
            where = base_name(label.file) if self._by_line and label.file else place_of(label)
            name = printable(label.name)
            rows.append(
                Row(found.self_value, found.total_value, name, printable(where), label.type)
            )
        return rows


class Owners:
    """Sums by process, or by thread, that stay small however long samples are added."""

    def __init__(self, *, by_thread: bool = False) -> None:
        self._by_thread = by_thread
        self._keys = FrameKeys(join_unnamed=True)
        self._found: dict[tuple[Process, Thread | None], _Owner] = {}
        self._others = _Owner()

    def add(self, entries: Iterable[Entry]) -> None:
        """Add samples."""
        found: dict[tuple[Process, Thread | None], _Owner] = {}
        for trace, process, thread, group in entries:
            owner = found.setdefault((process, thread if self._by_thread else None), _Owner())
            owner.value += group.value
            if trace.frames:
                owner.leaves[self._keys.of_frame(trace.frames[0])[0].name] += group.value
        for key, owner in found.items():
            self._found.setdefault(key, _Owner()).add(owner)
        if len(self._found) > MOST_ROWS:
            by_weight = sorted(self._found.items(), key=lambda each: -each[1].value)
            self._found = dict(by_weight[: MOST_ROWS // 2])
            for _, owner in by_weight[MOST_ROWS // 2 :]:
                self._others.add(owner)

    def rows(self) -> list[Row]:
        """Give the rows, the one with the highest value first."""
        rows = [_row_of(process, owned, owner) for (process, owned), owner in self._found.items()]
        if self._others.value:
            name = "[other threads]" if self._by_thread else "[other processes]"
            rows.append(_owner_row(name, self._others))
        return sorted(rows, key=lambda row: (-row.self_value, row.name))


def _row_of(process: Process, thread: Thread | None, owner: _Owner) -> Row:
    name = f"{label_process(process)} ({process.pid})"
    if thread is not None:
        name = f"{label_thread(thread)} of {name}"
    return _owner_row(printable(name), owner)


def _owner_row(name: str, owner: _Owner) -> Row:
    leaf = owner.leaves.most_common(1)[0][0] if owner.leaves else ""
    return Row(owner.value, owner.value, name, printable(leaf))


def make_rows(entries: Iterable[Entry], view: View) -> list[Row]:
    """Sum up, the row with the highest self value first."""
    sums: Functions | Owners = Functions(by_line=view is View.LINES)
    if view in {View.PROCESSES, View.THREADS}:
        sums = Owners(by_thread=view is View.THREADS)
    sums.add(entries)
    return sums.rows()

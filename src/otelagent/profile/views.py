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
from otelagent.profile.top import FrameKeys, FunctionSums, heaviest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.model import Process, Thread
    from otelagent.profile.model import Entry
    from otelagent.profile.top import TopFunction

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

    def add(self, leaf: str, value: int) -> None:
        self.leaves[leaf] += value
        if not self.leaves[leaf]:
            del self.leaves[leaf]

    def trim(self) -> None:
        if len(self.leaves) > MOST_LEAVES:
            self.leaves = Counter(dict(self.leaves.most_common(MOST_LEAVES // 2)))


class Functions:
    """Sums by function, or by line.

    Args:
        keys: What says by which labels frames are summed up; others may use it, too.
        bounded: Whether they stay small however long samples are added. Of those that do
            nothing can be taken away.
    """

    def __init__(
        self, *, by_line: bool = False, bounded: bool = True, keys: FrameKeys | None = None
    ) -> None:
        self._by_line = by_line
        self._bounded = bounded
        self._sums = FunctionSums(keys or FrameKeys(join_unnamed=True, by_line=by_line))
        # By the identity of rows, which are held.
        self._texts: dict[int, tuple[str, str]] = {}

    def add(self, entries: Iterable[Entry], sign: int = 1) -> None:
        """Add samples, or with -1 take away what was added before."""
        self._sums.add(entries, sign)
        if len(self._sums) > MOST_ROWS and self._bounded:
            by_weight = sorted(self._sums, key=lambda row: -row.total_value)
            self._keep(by_weight[: MOST_ROWS // 2])
            others = self._sums.function(OTHERS)
            for row in by_weight[MOST_ROWS // 2 :]:
                # Stacks may have several of them: the sum of their totals means nothing.
                others.self_value += row.self_value
                others.total_value += row.self_value
        elif len(self._sums) > MOST_ROWS and sign < 0:
            self._keep([row for row in self._sums if row.total_value])

    def _keep(self, rows: list[TopFunction]) -> None:
        self._sums.keep(rows)
        self._texts.clear()

    def sorted(self) -> list[TopFunction]:
        """Give the functions as `top_functions` does."""
        return sorted((row for row in self._sums if row.total_value), key=heaviest)

    def rows(self) -> list[Row]:
        """Give the rows, the one with the highest self value first."""
        return [
            Row(row.self_value, row.total_value, *self._text(row), row.label.type)
            for row in self.sorted()
        ]

    def _text(self, row: TopFunction) -> tuple[str, str]:
        text = self._texts.get(id(row))
        if text is None:
            label = row.label
            where = base_name(label.file) if self._by_line and label.file else place_of(label)
            text = self._texts[id(row)] = (printable(label.name), printable(where))
        return text


class Owners:
    """Sums by process, or by thread; `keys` and `bounded` are as those of `Functions`."""

    def __init__(
        self, *, by_thread: bool = False, bounded: bool = True, keys: FrameKeys | None = None
    ) -> None:
        self._by_thread = by_thread
        self._bounded = bounded
        self._keys = keys or FrameKeys(join_unnamed=True)
        self._found: dict[tuple[Process, Thread | None], _Owner] = {}
        self._others = _Owner()

    def add(self, entries: Iterable[Entry], sign: int = 1) -> None:
        """Add samples, or with -1 take away what was added before."""
        for trace, process, thread, group in entries:
            key = (process, thread if self._by_thread else None)
            owner = self._found.get(key)
            if owner is None:
                owner = self._found[key] = _Owner()
            value = sign * group.value
            owner.value += value
            if trace.frames:
                owner.add(self._keys.of_frame(trace.frames[0])[0].name, value)
            if self._bounded:
                owner.trim()
            elif not owner.value:
                del self._found[key]
        if self._bounded and len(self._found) > MOST_ROWS:
            by_weight = sorted(self._found.items(), key=lambda each: -each[1].value)
            self._found = dict(by_weight[: MOST_ROWS // 2])
            for _, owner in by_weight[MOST_ROWS // 2 :]:
                self._others.value += owner.value
                self._others.leaves.update(owner.leaves)
                self._others.trim()

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


class Views:
    """Makes sums of each view, which together look at each frame once."""

    def __init__(self) -> None:
        functions = FrameKeys(join_unnamed=True)
        self._keys = dict.fromkeys(View, functions)
        self._keys[View.LINES] = FrameKeys(join_unnamed=True, by_line=True)

    def functions(self, *, by_line: bool = False, bounded: bool = True) -> Functions:
        """Begin sums by function, or by line."""
        keys = self._keys[View.LINES if by_line else View.FUNCTIONS]
        return Functions(by_line=by_line, bounded=bounded, keys=keys)

    def make(self, view: View, *, bounded: bool = True) -> Functions | Owners:
        """Begin sums."""
        if view in {View.FUNCTIONS, View.LINES}:
            return self.functions(by_line=view is View.LINES, bounded=bounded)
        keys = self._keys[view]
        return Owners(by_thread=view is View.THREADS, bounded=bounded, keys=keys)


def make_rows(entries: Iterable[Entry], view: View) -> list[Row]:
    """Sum up, the row with the highest self value first."""
    sums = Views().make(view, bounded=False)
    sums.add(entries)
    return sums.rows()

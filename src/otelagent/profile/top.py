# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hottest functions: self and total, each function counted once per stack."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from otelagent.profile.label import Label, Labels

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.profile.model import Entry


@dataclass(slots=True)
class TopFunction:
    """A function; `self_value` and `total_value` are in the profile's unit."""

    label: Label
    self_value: int = 0
    total_value: int = 0


def top_functions(entries: Iterable[Entry]) -> list[TopFunction]:
    """Sum up each function, the one with the highest self value first.

    A recursive function counts once per stack. A function that was found by
    guessing in some stacks and for certain in others is one function.
    """
    labels = Labels()
    merged: dict[Label, Label] = {}
    found: dict[Label, TopFunction] = {}
    per_trace: dict[int, list[TopFunction]] = {}
    for trace, _process, _thread, group in entries:
        rows = per_trace.get(id(trace))
        if rows is None:
            rows = []
            for label, _line in labels.of_trace(trace):
                key = merged.get(label)
                if key is None:
                    key = merged[label] = replace(label, guessed=False)
                rows.append(found.setdefault(key, TopFunction(key)))
            per_trace[id(trace)] = rows
        if rows:
            rows[0].self_value += group.value
        for row in {id(row): row for row in rows}.values():
            row.total_value += group.value
    return sorted(
        found.values(), key=lambda row: (-row.self_value, -row.total_value, row.label.name)
    )

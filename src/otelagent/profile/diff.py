# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The difference of two profiles, each value taken as a share of its profile's total.

Functions are the same when name and module agree; source paths and addresses
change between builds and are not looked at. Where one of the profiles knows no
modules (collapsed stacks), the name alone decides.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, TextIO

from otelagent.model import Pid, Process, Thread
from otelagent.profile.formats.payload import Packer, Payload
from otelagent.profile.label import Label, base_name, label_process, place_of
from otelagent.profile.printable import printable
from otelagent.profile.table import STYLES, name_and_module, write_lines
from otelagent.profile.top import top_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from rich.table import Table

    from otelagent.profile.model import Entry, Profile

    Key = Callable[[Label], Hashable]


@dataclass(slots=True)
class FunctionChange:
    """A function's shares, 0 to 1, in both profiles."""

    label: Label
    self_before: float = 0.0
    self_after: float = 0.0
    total_before: float = 0.0
    total_after: float = 0.0

    @property
    def self_change(self) -> float:
        """How much more of the time is spent in the function itself."""
        return self.self_after - self.self_before

    @property
    def total_change(self) -> float:
        """How much more of the time is spent in the function and what it calls."""
        return self.total_after - self.total_before


def label_key(before: Profile, after: Profile) -> Key:
    """Choose what makes two functions the same."""

    def has_modules(profile: Profile) -> bool:
        return any(
            (frame.executable is not None and frame.lines)
            or any(line.function.file for line in frame.lines)
            for trace in profile.traces
            for frame in trace.frames
        )

    if has_modules(before) and has_modules(after):
        return lambda label: (label.name, base_name(label.module))
    return lambda label: label.name


def diff_functions(before: Profile, after: Profile) -> list[FunctionChange]:
    """Compare function by function, the greatest change of self share first.

    All code of a file that has no names is one row: an address says nothing of another build.
    """
    key_of = label_key(before, after)
    changes: dict[Hashable, FunctionChange] = {}
    before_total, after_total = before.total or 1, after.total or 1
    for row in top_functions(after, join_unnamed=True):
        change = changes.setdefault(key_of(row.label), FunctionChange(row.label))
        change.self_after += row.self_value / after_total
        change.total_after += row.total_value / after_total
    for row in top_functions(before, join_unnamed=True):
        change = changes.setdefault(key_of(row.label), FunctionChange(row.label))
        change.self_before += row.self_value / before_total
        change.total_before += row.total_value / before_total
    return sorted(
        changes.values(),
        key=lambda one: (-abs(one.self_change), -abs(one.total_change), one.label.name),
    )


def pack_diff(before: Profile, after: Profile, before_name: str) -> Payload:
    """Put both profiles into the tables of one page: `value` is after, `base` before.

    Processes and threads are told apart by name only: their numbers are others each time.
    """
    packer = Packer(label_key(before, after))
    packer.add(_nameless(after))
    after_rows = len(packer.samples.value)
    packer.add(_nameless(before))
    samples = packer.samples
    samples.base = [0] * after_rows + samples.value[after_rows:]
    samples.value[after_rows:] = [0] * (len(samples.value) - after_rows)
    samples.count[after_rows:] = [0] * (len(samples.count) - after_rows)
    payload = packer.payload(after)
    payload.base_total, payload.base_name = before.total, before_name
    return payload


def _nameless(profile: Profile) -> Iterator[Entry]:
    """Take the numbers away from processes and threads."""
    for trace, process, thread, group in profile:
        yield trace, Process(Pid(0), label_process(process)), Thread(0, thread.name), group


def write_html(before: Profile, after: Profile, names: tuple[str, str], stream: BinaryIO) -> None:
    """Write the differential flame graph; `names` are those of the two files."""
    from otelagent.profile.formats.html import render, safe  # noqa: PLC0415 (reads static files)

    rows = "\n".join(
        f"<tr><td>{change.self_change:+.1%}</td><td>{change.total_change:+.1%}</td>"
        f"<td>{safe(change.label.name)}</td><td>{safe(change.label.module)}</td></tr>"
        for change in diff_functions(before, after)[:50]
    )
    plain = (
        "<p>The flame graph needs JavaScript; these functions changed most.</p>\n"
        "<table><thead><tr><th>Δ self</th><th>Δ total</th><th>function</th><th>where</th></tr>"
        f"</thead><tbody>\n{rows}\n</tbody></table>"
    )
    title = f"{base_name(names[1])} against {base_name(names[0])}"
    stream.write(render(pack_diff(before, after, base_name(names[0])), title, plain))


def write_json(before: Profile, after: Profile, names: tuple[str, str], stream: BinaryIO) -> None:
    """Write all changes as one JSON object; shares are between 0 and 1."""
    tree = {
        "format": "otelagent-diff",
        "version": 1,
        "before": {"name": names[0], "total": before.total},
        "after": {"name": names[1], "total": after.total},
        "functions": [
            {
                "name": change.label.name,
                "type": change.label.type.value,
                "module": change.label.module,
                "self_before": round(change.self_before, 6),
                "self_after": round(change.self_after, 6),
                "total_before": round(change.total_before, 6),
                "total_after": round(change.total_after, 6),
            }
            for change in diff_functions(before, after)
        ],
    }
    text = json.dumps(tree, indent=2, ensure_ascii=False)
    stream.write(text.encode(errors="backslashreplace") + b"\n")


def diff_table(changes: list[FunctionChange]) -> Table:
    """Lay out changes for rich: red is more, blue is less."""
    from rich.table import Table  # noqa: PLC0415 (not needed where output is no terminal)
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("self before", "after", "Δ self", "Δ total"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("function", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("module", no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    for change in changes:
        style = "red" if change.self_change > 0 else "blue"
        table.add_row(
            f"{change.self_before:.1%}",
            f"{change.self_after:.1%}",
            Text(f"{change.self_change:+.1%}", style=style if change.self_change else ""),
            f"{change.total_change:+.1%}",
            Text(printable(change.label.name), style=STYLES[change.label.type]),
            Text(printable(place_of(change.label))),
        )
    return table


def plain_lines(changes: list[FunctionChange]) -> list[str]:
    """Lay out changes as lines in which nothing is cut."""
    lines = [f"{'before':>7} {'after':>7} {'Δ self':>7} {'Δ total':>8}  function"]
    lines.extend(
        f"{change.self_before:>7.1%} {change.self_after:>7.1%} {change.self_change:>+7.1%}"
        f" {change.total_change:>+8.1%}  {name_and_module(change.label)}"
        for change in changes
    )
    return lines


def print_diff(before: Profile, after: Profile, stream: TextIO, limit: int) -> None:
    """Print the functions that changed most."""
    changes = diff_functions(before, after)[:limit]
    if not stream.isatty():
        write_lines(plain_lines(changes), stream)
        return
    from rich.console import Console  # noqa: PLC0415

    Console(file=stream).print(diff_table(changes))

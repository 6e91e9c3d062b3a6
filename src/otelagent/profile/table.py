# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The hottest functions as a table on a terminal, or as plain lines elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO

from otelagent.model import FrameType
from otelagent.profile.label import NAMELESS_CODE, place_of
from otelagent.profile.printable import printable
from otelagent.profile.top import top_functions

if TYPE_CHECKING:
    from rich.table import Table

    from otelagent.profile.label import Label
    from otelagent.profile.model import Profile
    from otelagent.profile.top import TopFunction

DEFAULT_ROWS = 20
STYLES = {
    FrameType.KERNEL: "dark_orange",
    FrameType.PYTHON: "dodger_blue1",
    FrameType.GO: "cyan",
    FrameType.JIT: "magenta",
    FrameType.NATIVE: "green",
    FrameType.ERROR: "red",
    FrameType.OFF_CPU: "bright_blue",
}


def name_and_module(label: Label) -> str:
    """Show a function with its module: `read  [libc.so.6]`; `[vdso]` has its brackets already."""
    name, where = printable(label.name), printable(place_of(label))
    if where and not where.startswith("[") and where != NAMELESS_CODE:
        where = f"[{where}]"
    return f"{name}  {where}" if where else name


def percent(part: int, whole: int) -> str:
    """Format a share: `12.3%`."""
    return f"{100 * part / whole if whole else 0:.1f}%"


def top_table(rows: list[TopFunction], total: int, limit: int = DEFAULT_ROWS) -> Table:
    """Lay out the first rows for rich; names are cut where the terminal ends."""
    from rich.table import Table  # noqa: PLC0415 (not needed where output is no terminal)
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("self", justify="right", no_wrap=True)
    table.add_column("total", justify="right", no_wrap=True)
    table.add_column("function", no_wrap=True, overflow="ellipsis", ratio=3)
    table.add_column("module", no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    for row in rows[:limit]:
        table.add_row(
            percent(row.self_value, total),
            percent(row.total_value, total),
            Text(printable(row.label.name), style=STYLES[row.label.type]),
            Text(printable(place_of(row.label))),
        )
    return table


def plain_lines(rows: list[TopFunction], total: int, limit: int = DEFAULT_ROWS) -> list[str]:
    """Lay out the first rows as lines in which nothing is cut."""
    lines = [f"{'self':>6}  {'total':>6}  function"]
    for row in rows[:limit]:
        shares = f"{percent(row.self_value, total):>6}  {percent(row.total_value, total):>6}"
        lines.append(f"{shares}  {name_and_module(row.label)}")
    return lines


def write_lines(lines: list[str], stream: TextIO) -> None:
    """Write lines to a stream whose encoding may lack a character of a name."""
    encoding = stream.encoding or "utf-8"
    stream.write("\n".join([*lines, ""]).encode(encoding, "replace").decode(encoding))


def print_top(profile: Profile, stream: TextIO, limit: int = DEFAULT_ROWS) -> None:
    """Print the hottest functions; a file's addresses without a name are one row."""
    print_functions(top_functions(profile, join_unnamed=True), profile.total, stream, limit)


def print_functions(
    rows: list[TopFunction], total: int, stream: TextIO, limit: int = DEFAULT_ROWS
) -> None:
    """Print the first of these functions, with their shares of a total."""
    if not stream.isatty():
        write_lines(plain_lines(rows, total, limit), stream)
        return
    from rich.console import Console  # noqa: PLC0415

    Console(file=stream).print(top_table(rows, total, limit))

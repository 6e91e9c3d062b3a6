# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The screen of `top`: every line fits the terminal; long names are cut in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.text import Text

from otelagent.cli.topstate import HELP
from otelagent.profile.table import STYLES, percent
from otelagent.profile.views import View

if TYPE_CHECKING:
    from collections.abc import Iterable

    from otelagent.cli.topcounts import Head
    from otelagent.cli.topstate import State
    from otelagent.profile.views import Row

_TITLES = {
    View.FUNCTIONS: ("function", "module"),
    View.LINES: ("function", "file:line"),
    View.PROCESSES: ("process", "mostly in"),
    View.THREADS: ("thread", "mostly in"),
}
_NUMBERS = 18
"""Cells of both shares with the blanks after them."""
_FRAME_LINES = 4
"""Lines that are not rows: header, state, titles, keys."""


def fit(text: str, width: int) -> str:
    """Make a text exactly `width` cells wide: filled up, or cut in the middle."""
    missing = width - cell_len(text)
    if missing >= 0:
        return text + " " * missing
    if width <= 0:
        return ""
    front = _take(text, width // 2)
    back = _take(reversed(text), width - 1 - cell_len(front))[::-1]
    cut = f"{front}…{back}"
    return cut + " " * (width - cell_len(cut))


def _take(characters: Iterable[str], width: int) -> str:
    taken: list[str] = []
    for character in characters:
        width -= cell_len(character)
        if width < 0:
            break
        taken.append(character)
    return "".join(taken)


def render(rows: list[Row], whole: int, state: State, head: Head, size: tuple[int, int]) -> Text:
    """Draw a screen of `size` (columns, lines)."""
    width, height = size
    lines = [_head_line(head, width), _state_line(state, head, width)]
    if state.helping:
        lines += [Text(fit(f"  {key:<20}{text}", width)) for key, text in HELP]
        return Text("\n").join(lines[:height])
    name, where = _TITLES[state.view]
    titles = f"{'self':>7}  {'total':>7}  {_two(name, where, width)}"
    lines.append(Text(fit(titles, width), style="reverse"))
    room = max(height - _FRAME_LINES, 0)
    chosen = state.choose(rows)
    lines += [_row_line(row, whole, width) for row in chosen[:room]]
    if not chosen and room:
        lines.append(Text(fit("  no samples yet" if not rows else "  nothing matches", width)))
    lines += [Text("")] * (height - 1 - len(lines))
    keys = "q quit  s/t sort  / filter  p processes  l lines  w window  space pause  h help"
    lines.append(Text(fit(f"filter: {state.filter}▏" if state.typing else keys, width)))
    return Text("\n").join(lines[:height])


def _head_line(head: Head, width: int) -> Text:
    figures = (
        f"  {head.elapsed:.0f} s  {head.per_second:.0f} samples/s  "
        f"{head.lost} lost  {head.short} short stacks"
    )
    room = max(width - cell_len(figures), 0)
    what = f"otelagent top  {head.what}"
    return Text(fit(fit(what, room) + figures, width), "bold")


def _state_line(state: State, head: Head, width: int) -> Text:
    window = "since the start" if state.since_start else f"last {head.window_seconds:g} s"
    parts = [state.view.value, f"by {'total' if state.by_total else 'self'}", window]
    if state.filter:
        parts.append(f"with {state.filter!r}")
    if state.paused:
        parts.append("PAUSED")
    return Text(fit(", ".join(parts), width), style="dim" if not state.paused else "yellow")


def _two(name: str, where: str, width: int) -> str:
    """Lay out the two texts of a row."""
    room = width - _NUMBERS
    right = min(room // 3, 28)
    return f"{fit(name, room - right - 2)}  {fit(where, right)}"


def _row_line(row: Row, whole: int, width: int) -> Text:
    shares = f"{percent(row.self_value, whole):>7}  {percent(row.total_value, whole):>7}  "
    texts = _two(row.name, row.where, width)
    style = STYLES[row.type] if row.type else ""
    return Text.assemble(shares, (texts, style))

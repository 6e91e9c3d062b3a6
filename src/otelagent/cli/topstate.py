# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What the user of `top` wants to see, and which key changes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.cli.keys import BACKSPACE, ENTER, ESCAPE
from otelagent.profile.views import View

if TYPE_CHECKING:
    from otelagent.profile.views import Row

HELP = (
    ("q", "quit"),
    ("s", "sort by self: time in the function's own code"),
    ("t", "sort by total: also in what it calls"),
    ("/", "filter by a part of the name; Enter keeps it, Esc drops it"),
    ("p", "functions, processes, threads"),
    ("l", "functions, or their lines"),
    ("w", "the last seconds, or all since the start"),
    ("space", "pause the display; sampling goes on"),
    ("↑ ↓ PgUp PgDn Home", "scroll"),
    ("h", "show or leave this help"),
)
_NEXT = {
    View.FUNCTIONS: View.PROCESSES,
    View.LINES: View.PROCESSES,
    View.PROCESSES: View.THREADS,
    View.THREADS: View.FUNCTIONS,
}
_TOGGLED = (View.LINES, View.FUNCTIONS)
_PAGE = 10


@dataclass(slots=True)
class State:
    """The display's state; `typing` while a filter is typed in."""

    view: View = View.FUNCTIONS
    by_total: bool = False
    since_start: bool = False
    paused: bool = False
    helping: bool = False
    typing: bool = False
    filter: str = ""
    offset: int = 0
    quitting: bool = False

    def press(self, key: str) -> None:
        """Take a key; one that means nothing changes nothing."""
        if self.typing:
            self._type(key)
        elif self.helping:
            self.helping = False
        else:
            self._command(key)

    def _type(self, key: str) -> None:
        if key == ENTER:
            self.typing = False
        elif key == ESCAPE:
            self.typing, self.filter = False, ""
        elif key == BACKSPACE:
            self.filter = self.filter[:-1]
        elif len(key) == 1 and key.isprintable():
            self.filter += key
        self.offset = 0

    def _command(self, key: str) -> None:
        if key in {"q", "Q"}:
            self.quitting = True
        elif key in {"s", "t"}:
            self.by_total, self.offset = key == "t", 0
        elif key in {"/", ESCAPE}:
            self.typing, self.filter = key == "/", ""
        elif key in {"p", "l"}:
            is_lines = self.view is View.LINES
            self.view = _NEXT[self.view] if key == "p" else _TOGGLED[is_lines]
            self.offset = 0
        elif key == "w":
            self.since_start = not self.since_start
        elif key == " ":
            self.paused = not self.paused
        elif key in {"h", "?"}:
            self.helping = True
        else:
            self._scroll(key)

    def _scroll(self, key: str) -> None:
        steps = {"up": -1, "down": 1, "page up": -_PAGE, "page down": _PAGE, "home": -self.offset}
        self.offset = max(self.offset + steps.get(key, 0), 0)

    def choose(self, rows: list[Row]) -> list[Row]:
        """Filter and sort rows, and leave out those above the window."""
        part = self.filter.casefold()
        found = [row for row in rows if part in f"{row.name}\0{row.where}".casefold()]
        if self.by_total:
            found.sort(key=lambda row: (-row.total_value, -row.self_value, row.name))
        self.offset = min(self.offset, max(len(found) - 1, 0))
        return found[self.offset :]

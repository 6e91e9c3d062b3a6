# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Each key of `top` changes what its help says."""

import pytest

from otelagent.cli.topstate import State
from otelagent.profile.views import Row, View

ROWS = [Row(5, 5, "leaf", "libm.so"), Row(3, 9, "main", "app"), Row(0, 9, "_start", "app")]


def pressed(*keys: str) -> State:
    state = State()
    for key in keys:
        state.press(key)
    return state


@pytest.mark.parametrize(
    ("keys", "view"),
    [
        ("", View.FUNCTIONS),
        ("p", View.PROCESSES),
        ("pp", View.THREADS),
        ("ppp", View.FUNCTIONS),
        ("l", View.LINES),
        ("ll", View.FUNCTIONS),
        ("pl", View.LINES),
        ("lp", View.PROCESSES),
    ],
)
def test_p_and_l_switch_the_view(keys, view):
    assert pressed(*keys).view is view


def test_rows_are_sorted_by_self_or_total():
    assert [row.name for row in pressed("s").choose(ROWS)] == ["leaf", "main", "_start"]
    assert [row.name for row in pressed("t").choose(ROWS)] == ["main", "_start", "leaf"]


def test_a_filter_is_kept_by_enter_and_dropped_by_escape():
    assert [row.name for row in pressed("/", "L", "E", "\n").choose(ROWS)] == ["leaf"]
    assert pressed("/", "q", "\x7f", "m").filter == "m"
    assert pressed("/", "x", "\x1b").filter == ""
    assert pressed("/", "x", "\n", "\x1b").filter == ""


def test_keys_are_text_while_a_filter_is_typed():
    state = pressed("/", "q", "s", "up", " ")

    assert (state.filter, state.quitting, state.typing) == ("qs ", False, True)


def test_a_filter_also_looks_at_the_module():
    assert [row.name for row in pressed("/", "l", "i", "b").choose(ROWS)] == ["leaf"]


def test_scrolling_stops_at_both_ends():
    state = pressed("up", *["down"] * 9)

    assert [row.name for row in state.choose(ROWS)] == ["_start"]
    assert state.offset == 2
    state.press("home")
    assert len(state.choose(ROWS)) == 3


def test_any_key_leaves_the_help_and_only_that():
    state = pressed("h", "q")

    assert (state.helping, state.quitting) == (False, False)
    assert pressed("q").quitting


def test_pause_and_window_are_switches():
    assert pressed(" ").paused
    assert not pressed(" ", " ").paused
    assert pressed("w").since_start

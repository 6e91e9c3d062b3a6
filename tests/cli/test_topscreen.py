# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every line of the live screen fits the terminal, and names keep both their ends."""

import pytest
from rich.cells import cell_len

from otelagent.cli.topcounts import Head
from otelagent.cli.topscreen import fit, render
from otelagent.cli.topstate import State
from otelagent.model import FrameType
from otelagent.profile.views import Row

HEAD = Head("process 1 (" + "long " * 30 + ")", 12.3, 98.7, 5, 6, 10)
LONG = "std::vector<" + "std::map<int, " * 30 + "int>>::push_back"


def test_a_short_text_is_filled_up():
    assert fit("abc", 6) == "abc   "


def test_a_long_text_is_cut_in_the_middle():
    assert fit("abcdefghij", 7) == "abc…hij"
    assert fit(LONG, 40).endswith("push_back")


@pytest.mark.parametrize("text", ["日本語の関数名" * 3, "e\u0301" * 20, "x" * 30, ""])
@pytest.mark.parametrize("width", [0, 1, 2, 3, 8, 19])
def test_a_text_has_exactly_the_width_in_cells(text, width):
    assert cell_len(fit(text, width)) == width


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("helping", [False, True])
def test_a_screen_fits_the_terminal(width, helping):
    rows = [Row(50, 100, LONG, "libfoo.so" * 9, FrameType.NATIVE)] * 50

    lines = render(rows, 100, State(helping=helping), HEAD, (width, 24)).plain.split("\n")

    assert len(lines) <= 24
    assert max(map(cell_len, lines)) <= width


def test_the_first_line_tells_time_rate_losses_and_short_stacks():
    first = render([], 0, State(), HEAD, (80, 24)).plain.split("\n")[0]

    assert first.endswith("12 s  99 samples/s  5 lost  6 short stacks")
    assert first.startswith("otelagent top  pro")


def test_rows_show_shares_of_the_whole():
    shown = render([Row(25, 50, "f", "m")], 100, State(), HEAD, (80, 24)).plain

    assert "  25.0%    50.0%  f " in shown


def test_a_filter_without_a_match_says_so():
    state = State(filter="zzz", typing=True)

    shown = render([Row(1, 1, "f", "m")], 1, state, HEAD, (80, 24)).plain

    assert "nothing matches" in shown
    assert "filter: zzz" in shown

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Samples summed up by function, line, process and thread."""

import copy

import pytest

from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile import views
from otelagent.profile.model import Profile
from otelagent.profile.views import Functions, Owners, View, Views, make_rows
from tests.builders.profiles import START, python

ONE = Process(Pid(1), "app", "/bin/app")
TWO = Process(Pid(2), "app\x1b[2J", "/bin/app")


def profile() -> Profile:
    """Two processes; `fib` runs two lines."""
    made = Profile()
    first = Trace((python("fib", "/srv/a.py", 10), python("main", "/srv/a.py", 3), START))
    second = Trace((python("fib", "/srv/a.py", 11), python("main", "/srv/a.py", 3), START))
    made.add(first, ONE, Thread(1, "app"), 6, 6)
    made.add(second, ONE, Thread(5, "worker"), 3, 3)
    made.add(second, TWO, Thread(2, "app"), 1, 1)
    return made


def shown(view):
    rows = make_rows(profile(), view)
    return [(row.self_value, row.total_value, row.name, row.where) for row in rows]


def test_functions_join_their_lines():
    assert shown(View.FUNCTIONS)[:2] == [
        (10, 10, "fib", "/srv/a.py"),
        (0, 10, "_start", "python3.11"),
    ]


def test_lines_are_kept_apart():
    assert shown(View.LINES)[:2] == [(6, 6, "fib", "a.py:10"), (4, 4, "fib", "a.py:11")]


def test_processes_tell_where_they_mostly_are_and_cannot_steer_the_terminal():
    assert shown(View.PROCESSES) == [
        (9, 9, "app (1)", "fib"),
        (1, 1, "app\N{REPLACEMENT CHARACTER}[2J (2)", "fib"),
    ]


def test_threads_are_told_apart():
    names = [name for _self, _total, name, _where in shown(View.THREADS)]

    assert names[:2] == ["app (1) of app (1)", "worker (5) of app (1)"]


def test_nothing_sampled_gives_no_rows():
    assert all(make_rows(Profile(), view) == [] for view in View)


@pytest.mark.parametrize(
    "made", [Functions(), Functions(by_line=True), Owners(), Owners(by_thread=True)]
)
def test_sums_of_parts_are_those_of_the_whole(made):
    whole = copy.deepcopy(made)
    whole.add([*profile(), *profile()])

    made.add(profile())
    made.add(profile())

    assert made.rows() == whole.rows()
    assert made.rows()


@pytest.mark.parametrize("view", View)
@pytest.mark.parametrize("most", [2, views.MOST_ROWS])
def test_what_is_taken_away_leaves_the_rest(monkeypatch, view, most):
    """A window that moves on over samples of ever other functions and processes."""
    monkeypatch.setattr(views, "MOST_ROWS", most)
    sums, window = Views().make(view, bounded=False), []
    for pid in range(50, 80):
        new = Profile()
        trace = Trace((python(f"f{pid // 3}", "/a.py", pid), python("main", "/a.py", 1)))
        new.add(trace, Process(Pid(pid % 7), "sh"), Thread(pid, "sh"), pid, pid)
        new.add(trace, ONE, Thread(1, "app"), 1, 1)
        if len(window) == 4:
            sums.add(window.pop(0), -1)
        window.append(new)
        sums.add(new)

        assert sums.rows() == make_rows([entry for made in window for entry in made], view)


def test_the_lighter_functions_become_one_row(monkeypatch):
    monkeypatch.setattr(views, "MOST_ROWS", 6)
    sums, values = Functions(), range(1, 40)
    for value in values:
        entry = (Trace((python(f"f{value}", "/a.py", 1),)), ONE, Thread(1), value, value)
        made = Profile()
        made.add(*entry)
        sums.add(made)

    rows = {row.name: row.self_value for row in sums.rows()}
    assert len(rows) <= 6
    assert sum(rows.values()) == sum(values)
    assert rows["f39"] == 39
    assert rows["[other functions]"] > 0


@pytest.mark.parametrize("by_thread", [False, True])
def test_the_lighter_processes_become_one_row(monkeypatch, by_thread):
    """A storm of short processes, and one that stays."""
    monkeypatch.setattr(views, "MOST_ROWS", 6)
    sums = Owners(by_thread=by_thread)
    for pid in range(100, 200):
        made = Profile()
        made.add(Trace((python("fork", "/a.py", 1),)), Process(Pid(pid), "sh"), Thread(pid), 1, 1)
        made.add(Trace((python("fib", "/a.py", 1),)), ONE, Thread(1, "app"), 5, 5)
        sums.add(made)

    rows = sums.rows()
    others = next(row for row in rows if row.name.startswith("[other "))
    assert len(rows) <= 7
    assert (rows[0].self_value, rows[0].where) == (500, "fib")
    assert others.where == "fork"
    assert sum(row.self_value for row in rows) == 600


def test_the_functions_that_an_owner_is_in_are_bounded():
    sums = Owners()
    for number in range(300):
        made = Profile()
        weight = 3 if number % 2 else 1
        name = "often" if number % 2 else f"f{number}"
        made.add(Trace((python(name, "/a.py", 1),)), ONE, Thread(1), weight, weight)
        sums.add(made)

    [owner] = sums._found.values()
    assert len(owner.leaves) <= views.MOST_LEAVES
    assert sums.rows()[0].where == "often"

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Samples summed up by function, line, process and thread."""

from otelagent.model import Pid, Process, Thread, Trace
from otelagent.profile.model import Profile
from otelagent.profile.views import View, make_rows
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

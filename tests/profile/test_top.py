# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
from otelagent.model import Frame, FrameType, Pid, Process, Thread, Trace
from otelagent.profile.model import Profile
from otelagent.profile.top import top_functions
from tests.builders.profiles import LIBC, native, python

PROCESS = Process(Pid(1), "p")


def numbers(*stacks: tuple[Trace, int]) -> dict:
    profile = Profile()
    for trace, count in stacks:
        profile.add(trace, PROCESS, Thread(1), count, count)
    return {row.label.name: (row.self_value, row.total_value) for row in top_functions(profile)}


def test_a_recursive_function_counts_once_per_stack():
    fib = python("fib", "a.py", 5)

    found = numbers((Trace((fib, fib, fib, python("main", "a.py", 9))), 4))

    assert found == {"fib": (4, 4), "main": (0, 4)}


def test_self_goes_to_the_innermost_inlined_function():
    found = numbers((Trace((native(LIBC, 1, "inner", "outer"),)), 2))

    assert found == {"inner": (2, 2), "outer": (0, 2)}


def test_guessed_and_certain_frames_of_a_function_are_one_row():
    found = numbers(
        (Trace((native(LIBC, 1, "f"),)), 1), (Trace((native(LIBC, 1, "f", guessed=True),)), 2)
    )

    assert found == {"f": (3, 3)}


def test_functions_of_one_name_in_two_files_are_two_rows():
    profile = Profile()
    for file in ("a.py", "b.py"):
        profile.add(Trace((python("run", file, 3),)), PROCESS, Thread(1), 1, 1)

    rows = top_functions(profile)

    assert {row.label.module for row in rows} == {"a.py", "b.py"}
    assert {row.label.type for row in rows} == {FrameType.PYTHON}


def test_a_stack_without_frames_is_nobodys():
    assert numbers((Trace(()), 3)) == {}


def test_addresses_without_a_name_can_be_one_row_per_file():
    profile = Profile()
    for address in (0x10, 0x20, 0x30):
        trace = Trace((native(LIBC, address), Frame(FrameType.JIT, address)))
        profile.add(trace, PROCESS, Thread(1), 1, 1)

    apart = {row.label.name: row.self_value for row in top_functions(profile)}
    joined = {
        row.label.name: (row.self_value, row.total_value)
        for row in top_functions(profile, join_unnamed=True)
    }

    assert apart["libc.so.6+0x20"] == 1
    assert joined == {"[libc.so.6]": (3, 3), "[anon]": (0, 3)}

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Why the Python frames of others differ: what counts as explained, and what does not."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from python_stacks import (
    LINE,
    NOT_BEGUN,
    SKIPPED,
    STOPPED,
    UNEXPLAINED,
    Fact,
    PythonFacts,
    explain,
    parse_faulthandler,
    short,
    skip_line,
)

from otelagent.coredump.case import SNAPSHOT
from otelagent.coredump.replay import replay
from otelagent.dump.stacks import unwind
from otelagent.formats.code_object import LineTable, find_line
from otelagent.host.live import LiveImage
from otelagent.host.snapshot import SnapshotImage
from tests.coredump import oracle

CASES = Path(__file__).parents[1] / "coredump" / "cases"
BEGINNING = """
import gc, os, sys, time

def standing(phase, info):
    gc.callbacks.clear()
    frame, names = sys._getframe(), []
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    os.write(1, " ".join(names).encode() + b"\\n")
    time.sleep(1000)

def calling():
    return beginning(1)

def beginning(cell):
    return lambda: cell

gc.callbacks.append(standing)
gc.set_threshold(1)
calling()
"""


def fact(name, line, *, begun=True, skipping=0):
    return Fact(0x1000, name, line, 8 if begun else -2, 0, 0, begun, skipping or line)


CHAIN = [fact("inner", 9, begun=False, skipping=10), fact("outer", 5, skipping=6)]


def classes(verdict):
    return +verdict.classes


def test_a_frame_that_has_not_begun_explains_one_more_of_theirs():
    verdict = explain([("outer", 5)], CHAIN, [("inner", 9), ("outer", 5)], hides=True)

    assert classes(verdict) == {NOT_BEGUN: 1}
    assert (verdict.equal, verdict.count, verdict.differing) == (1, 2, 1)


def test_what_has_begun_may_not_be_missing_from_ours():
    chain = [fact("inner", 9), fact("outer", 5)]

    verdict = explain([("outer", 5)], chain, [("inner", 9), ("outer", 5)], hides=True)

    assert classes(verdict) == {UNEXPLAINED: 1}


def test_another_function_in_the_place_of_a_hidden_frame_is_not_explained():
    verdict = explain([("outer", 5)], CHAIN, [("other", 9), ("outer", 5)], hides=True)

    assert classes(verdict) == {UNEXPLAINED: 1}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([("inner", 10), ("outer", 5)], {LINE: 1}),
        ([("inner", 10), ("outer", 6)], {LINE: 1, SKIPPED: 1}),
        ([("inner", 11), ("outer", 5)], {UNEXPLAINED: 1}),
        ([("inner", 9), ("outer", 7)], {UNEXPLAINED: 1}),
        ([("other", 9), ("outer", 5)], {UNEXPLAINED: 1}),
        ([("outer", 5)], {UNEXPLAINED: 1}),
        ([], {UNEXPLAINED: 2}),
    ],
)
def test_up_to_3_10_only_lines_may_differ_and_only_as_py_spy_reads_them(said, expected):
    own = [("inner", 9), ("outer", 5)]

    verdict = explain(own, CHAIN, said, hides=False, skips=True)

    assert classes(verdict) == expected
    assert verdict.count - verdict.equal == sum(expected.values())


def test_lines_are_never_explained_where_cpython_itself_says_them():
    own = [("inner", 9), ("outer", 5)]

    verdict = explain(own, CHAIN, [("inner", 10), ("outer", 5)], hides=False)

    assert classes(verdict) == {UNEXPLAINED: 1}


def test_faulthandler_may_end_with_a_frame_that_has_not_begun():
    chain = [fact("inner", 0, begun=False), fact("outer", 5), fact("main", 3)]
    own = [("outer", 5), ("main", 3)]

    ended = explain(own, chain, [("inner", 0)], hides=True)
    later = explain(own, chain, [("inner", 0), ("outer", 0)], hides=True)

    assert classes(ended) == {NOT_BEGUN: 1, STOPPED: 2}
    assert (ended.equal, ended.count) == (0, 3)
    assert later.classes[UNEXPLAINED]


def test_a_table_of_3_10_is_read_as_py_spy_does():
    """A generator's (3.10.13), halted behind its first `yield`: CPython says 76, py-spy 77."""
    table = bytes.fromhex("02 80 06 01 04 01 0c 01 14 01 04 fe 04 01")

    assert find_line(LineTable.RANGES, table, 75, 6) == 76
    assert skip_line(LineTable.RANGES, table, 75, 6) == 77
    assert skip_line(LineTable.RANGES, table, 75, -2) == 76
    assert find_line(LineTable.RANGES, table, 75, -2) == 75


def test_a_stack_of_faulthandler_is_read():
    text = (
        "Current thread 0x00007fcb767d7b80 (most recent call first):\n"
        "  Garbage-collecting\n"
        '  File "/a b, line 3.py", line 10 in standing\n'
        '  File "x.py", line ??? in beginning\n'
        '  File "<string>", line 3 in <module>\n'
    )

    assert parse_faulthandler(text) == [("standing", 10), ("beginning", 0), ("<module>", 3)]


@pytest.mark.parametrize(
    "case",
    [f"py-3.{minor}-pyenv-calls" for minor in (6, 8, 10, 11, 12)],
)
def test_the_frames_of_recorded_processes_are_those_in_memory(case):
    with contextlib.closing(SnapshotImage.open(CASES / case / SNAPSHOT)) as image:
        facts = PythonFacts(image, {})
        stacks = replay(image, image.snapshot.notes)
        found = [facts.chain(stack.thread.registers.thread_pointer) for stack in stacks]
        ours = [oracle.python_frames(stack) for stack in stacks]

    assert [[(each.name, each.line) for each in chain] for chain in found] == [
        [(short(name), line) for name, line in frames] for frames in ours
    ]
    assert all(each.begun for chain in found for each in chain)
    assert sum(map(len, found)) > 8


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="it collects garbage in begun frames only")
def test_cpython_and_we_hide_a_frame_that_allocates_its_cells():
    """Its first allocation collects garbage, and a callback of that stands."""
    command = [sys.executable, "-c", BEGINNING]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        try:
            said = child.stdout.readline().decode().split()
            with contextlib.closing(LiveImage(child.pid)) as image:
                (stack,) = unwind(image)
                chain = PythonFacts(image, {}).chain(stack.thread.registers.thread_pointer)
        finally:
            child.kill()

    assert said == ["standing", "calling", "<module>"]
    assert [name for name, _ in oracle.python_frames(stack)] == said
    assert [(each.name, each.begun) for each in chain][:2] == [
        ("standing", True),
        ("beginning", False),
    ]

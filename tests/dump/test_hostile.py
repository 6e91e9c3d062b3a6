# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Core files that were made to do harm: an error or a short stack, in time, in little memory."""

import os
import random
import struct
import time

import pytest

from otelagent.dump.stacks import unwind
from otelagent.errors import FormatError
from otelagent.host.core import MAX_CODE_MAPPINGS, CoreImage
from otelagent.host.files import FileSource
from otelagent.namers import Namers
from tests.builders.cores import (
    CODE,
    NT_FILE,
    NT_PRSTATUS,
    PAGE,
    STACK,
    Core,
    R,
    X,
    crashed,
    files,
    note,
    status,
)
from tests.fuzz.parsers import change, unwind_core

SECONDS = 2.0
"""Of CPU; 1 is what is promised, on a machine without sanitizers and company."""


def stacks_of(data):
    fd = os.memfd_create("core")
    os.write(fd, data)
    with CoreImage(FileSource(fd)) as image:
        found = unwind(image, Namers(symbols=True, debuginfod="", sysroot=""))
        return found, image.problems


@pytest.fixture(autouse=True)
def in_time():
    began = time.process_time()
    yield
    assert time.process_time() - began < SECONDS


def test_frames_that_are_linked_are_walked_and_marked_as_guessed():
    (first, _), _ = stacks_of(crashed(frames=4).write())

    assert [frame.address for frame in first.trace.frames] == [
        CODE + 1,
        *(CODE + 32 * at + 4 for at in range(4)),
    ]
    assert [frame.guessed for frame in first.trace.frames] == [False] + [True] * 4


def test_a_chain_of_frames_that_comes_back_ends():
    made = crashed()
    link = struct.pack("<QQ", STACK, CODE + 5)
    made.loads = [load for load in made.loads if load[0] != STACK]
    made.load(STACK, link, PAGE)

    (first, _), _ = stacks_of(made.write())

    assert first.trace.fault
    assert len(first.trace.frames) <= 2


def test_a_stack_of_a_million_frames_is_cut_and_said_so():
    (first, _), _ = stacks_of(crashed(frames=5000).write())

    assert first.trace.fault == "MAX_FRAMES"
    assert len(first.trace.frames) == 1024


@pytest.mark.parametrize("pc", [0, 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, STACK])
def test_a_thread_in_nowhere_has_a_fault(pc):
    made = Core(notes=[note(NT_PRSTATUS, status(1, rip=pc, rsp=pc, rbp=pc))])
    made.load(STACK, bytes(64), PAGE)

    (only,), _ = stacks_of(made.write())

    assert only.trace.fault


def test_too_many_mappings_of_code_are_left_out_and_said_so():
    made = Core(notes=[note(NT_PRSTATUS, status(1, rip=CODE, rsp=STACK))])
    for at in range(MAX_CODE_MAPPINGS + 500):
        made.load(CODE + 2 * PAGE * at, b"", PAGE, R | X)

    (only,), problems = stacks_of(made.write())

    assert len(only.trace.frames) == 1
    assert f"code beyond {MAX_CODE_MAPPINGS} mappings was left out" in problems


def test_a_list_of_files_that_are_none_is_looked_at_with_patience():
    paths = ["/proc/self/mem", "/dev/zero", "/", "", "../../etc/passwd", "/nope" * 800]
    entries = [
        (CODE + 2 * PAGE * at, CODE + 2 * PAGE * at + PAGE, 0, f"{paths[at % 6]}{at // 6 or ''}")
        for at in range(12_000)
    ]
    made = Core(notes=[note(NT_FILE, files(*entries))])

    found, problems = stacks_of(made.write())

    assert found == []
    assert "it says of no thread which registers that had" in problems


def test_mutated_cores_are_unwound_or_refused():
    """Never another exception than the one that is promised."""
    seeds = [crashed().write(), crashed(frames=40).write()]
    dice = random.Random(5)
    for _ in range(200):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 9)):
            change(data, dice, seeds)
        unwind_core(bytes(data))


def test_what_is_cut_anywhere_is_unwound_or_refused():
    whole = crashed().write()
    for size in range(0, len(whole), 97):
        try:
            stacks_of(whole[:size])
        except FormatError:
            assert size < 64

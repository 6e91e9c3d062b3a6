# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Stacks of live processes of our own, by the real unwinders: no root, no BPF."""

import errno
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from otelagent.dump.stacks import unwind
from otelagent.host import memory
from otelagent.host.live import LiveImage
from otelagent.unwind.cache import RowCache
from otelagent.unwind.host import Tables

PROGRAM = """
import os, threading

gate = threading.Event()

def inner(n):
    if n:
        return inner(n - 1)
    os.write(1, b"ready\\n")
    gate.wait()

for depth in (1, 2):
    threading.Thread(target=inner, args=(depth,), daemon=True).start()
inner(3)
"""


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return RowCache(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE) as process:
        try:
            for _ in range(3):
                assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()


def functions(trace):
    return [line.function.name for frame in trace.frames for line in frame.lines]


def test_every_thread_of_a_live_process_has_its_whole_stack(child, cache):
    stacks = unwind(LiveImage(child), cache=cache)

    assert len(stacks) == 3
    assert [stack.trace.fault for stack in stacks] == ["", "", ""]
    assert sorted(functions(stack.trace).count("inner") for stack in stacks) == [2, 3, 4]
    for stack in stacks:
        first = {line.function.name for line in stack.trace.frames[-1].lines}
        # A C library without a symbol table has no name for where threads begin.
        assert first <= {"_start", "clone", "__clone3", "clone3"}


def test_where_only_the_file_of_its_memory_can_be_read_stacks_are_whole(child, cache, monkeypatch):
    monkeypatch.setattr(memory, "lib", SimpleNamespace(oa_memory_read=lambda *_: -errno.ENOSYS))
    monkeypatch.setattr(Tables, "use_process", None)

    stacks = unwind(LiveImage(child), cache=cache)

    assert [stack.trace.fault for stack in stacks] == ["", "", ""]
    assert sorted(functions(stack.trace).count("inner") for stack in stacks) == [2, 3, 4]


def test_a_live_process_goes_on_after_it_was_held(child):
    image = LiveImage(child)

    with image.hold() as threads:
        state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]

    assert [bool(thread.registers) for thread in threads] == [True] * 3
    assert state == "t"
    assert image.held_ns > 0
    with LiveImage(child).hold() as again:
        assert {thread.tid for thread in again} == {thread.tid for thread in threads}
        assert "traced" not in {thread.state for thread in again}

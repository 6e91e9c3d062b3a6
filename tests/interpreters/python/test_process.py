# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A live process of this CPython is recognised, and its stacks are what it says they are."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from otelagent._native import ffi
from otelagent.abi._generated import PythonKind, PythonMatch
from otelagent.errors import UnsupportedRuntime
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.interpreters.python import PythonBuild, attach
from otelagent.interpreters.python.layout import TABLE
from otelagent.interpreters.python.process import PythonProcess, PythonThread
from tests.interpreters.python.fakes import FakeMemory
from tests.interpreters.python.walker import find_process, read_stacks, wait_for_stack

CHAINS = Path(__file__).parents[3] / "integration" / "workloads" / "python" / "chains.py"
BUILD = PythonBuild(12, 0x5000, ((0x100, 0x200),), EM_X86_64)


def start(kind):
    command = [sys.executable, str(CHAINS), kind]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("kind", ["recursion", "generators", "switches", "methods", "names"])
def test_stack_is_what_the_program_sees(kind):
    """Read from outside while the program waits: names, files and lines, newest first."""
    with start(kind) as child:
        told = [tuple(frame[:3]) for frame in json.loads(child.stdout.readline())[0]]

        is_found = wait_for_stack(child.pid, told)
        child.stdin.close()

    assert is_found


def test_every_thread_is_found():
    with start("threads") as child:
        child.stdout.readline()

        stacks = read_stacks(child.pid)
        child.stdin.close()

    depths = sorted(
        sum(frame[0] == "waiting" for frame in stack)
        for states in stacks.values()
        for stack in states
    )
    assert depths == list(range(11))


def test_process_value_is_the_struct_of_the_abi():
    process = PythonProcess(BUILD, TABLE[12], 0x7000_5000)

    proc = ffi.from_buffer("struct oa_python_proc *", bytearray(process.value()))

    assert len(process.value()) == ffi.sizeof("struct oa_python_proc")
    assert proc.interpreters == 0x7000_5000 + TABLE[12].runtime_interpreters
    assert (proc.minor, proc.kind, proc.entry_value) == (12, PythonKind.PY_CFRAME, 3)
    assert (proc.thread_id, proc.match) == (TABLE[12].thread_id, PythonMatch.PY_MATCH_TLS)
    for field in ("frame_owner", "code_block", "code_first_traceable", "code_instructions"):
        assert getattr(proc, field) == getattr(TABLE[12], field)


@pytest.mark.parametrize(
    ("minor", "current", "place"), [(6, 0x5100, 0x100), (9, 0, 568 - 32), (12, 0, 0)]
)
def test_current_state_is_told_from_the_list_of_interpreters_on(minor, current, place):
    build = PythonBuild(minor, 0x5000, (), EM_X86_64, current)
    process = PythonProcess(build, TABLE[minor], 0x7000_5000)

    proc = ffi.from_buffer("struct oa_python_proc *", bytearray(process.value()))

    assert proc.current == place


def test_thread_value_is_the_struct_of_the_abi():
    thread = PythonThread(0x7F00, (1, 2, 3, 4, 5, 6))

    value = ffi.from_buffer("struct oa_python_thread *", bytearray(thread.value()))
    key = ffi.from_buffer("struct oa_python_thread_key *", bytearray(thread.key_for(42)))

    assert list(value.states) == [1, 2, 3, 4]
    assert (key.thread, key.pid, key.pad) == (0x7F00, 42, 0)


def test_lists_that_loop_end():
    """Two thread states that follow one another for ever, in an interpreter that follows itself."""
    layout = TABLE[12]
    memory = FakeMemory({})
    process = attach(BUILD, 0x7000_0000, memory)

    def word(addr, value):
        memory.put(addr, value.to_bytes(8, "little"))

    word(process.runtime + layout.runtime_interpreters, 0x1_0000)
    word(0x1_0000 + layout.interp_next, 0x1_0000)
    word(0x1_0000 + layout.interp_threads, 0x2_0000)
    word(0x2_0000 + layout.thread_next, 0x3_0000)
    word(0x3_0000 + layout.thread_next, 0x2_0000)
    word(0x2_0000 + layout.thread_id, 77)
    word(0x3_0000 + layout.thread_id, 77)

    assert process.read_threads(memory) == [PythonThread(77, (0x2_0000, 0x3_0000))]


def test_process_that_has_not_begun_has_no_threads():
    assert PythonProcess(BUILD, TABLE[12], 0x9000).read_threads(FakeMemory({})) == []


def test_old_version_without_thread_ids_is_refused_on_arm():
    build = PythonBuild(9, 0x5000, ((0x100, 0x200),), EM_AARCH64)

    with pytest.raises(UnsupportedRuntime):
        attach(build, 0, FakeMemory({}))


def test_own_process_is_recognised():
    with start("recursion") as child:
        child.stdout.readline()
        process = find_process(child.pid)
        child.stdin.close()

    assert process.layout.minor == sys.version_info.minor
    assert all(start < end for start, end in process.eval_loop)

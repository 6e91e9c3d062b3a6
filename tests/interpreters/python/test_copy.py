# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Deferred stacks of CPython processes: what BPF copies is all that is needed later."""

import pytest

from otelagent._native import ffi, lib
from otelagent.abi._generated import Fault
from otelagent.abi.codec import decode_python
from otelagent.interpreters.python.frames import code_check
from otelagent.unwind.host import HostUnwinder
from tests.interpreters.python.test_unwind import CHAINS, EVERY, runs
from tests.interpreters.python.worlds import TID, C, Eval, PythonWorld

HEAD = ffi.offsetof("struct oa_deferred", "stack")


@EVERY
def test_python_frames_are_found_when_the_process_has_gone_on(minor):
    world = PythonWorld(minor, [C, *runs(minor, "leaf", "middle"), C, *runs(minor, "root"), C])

    walked = world.finish(world.copy())

    assert walked == ([C, "leaf", "middle", C, "root", C, C], Fault.NONE)
    assert walked == world.walk()


@EVERY
def test_thread_states_are_searched_where_the_map_has_none(minor):
    world = PythonWorld(minor, runs(minor, "leaf", "root"))
    world.known = []

    assert world.finish(world.copy()) == (["leaf", "root", C], Fault.NONE)


@CHAINS
def test_frames_of_every_thread_state_are_copied(minor):
    stack = [Eval(("m2",)), C, Eval(("s2", "s1"), state=1), C, Eval(("m1", "m0")), C]
    world = PythonWorld(minor, stack, states=2)

    frames, fault = world.finish(world.copy())

    assert (frames, fault) == (["m2", C, "s2", "s1", C, "m1", "m0", C, C], Fault.NONE)


@CHAINS
def test_frame_before_its_first_traceable_instruction_is_hidden(minor):
    world = PythonWorld(minor, [Eval(("begun", "root"))])
    world.set_lasti("begun", 4)

    assert world.finish(world.copy())[0] == ["root", C]


@EVERY
def test_loop_without_frames_of_its_own_has_none(minor):
    """It is in its prologue; the search for other thread states has nothing to look into."""
    stack = [Eval((), entered=False), C, *runs(minor, "caller"), C]
    world = PythonWorld(minor, stack)

    assert world.finish(world.copy()) == world.walk()


@EVERY
def test_more_frames_than_a_record_holds_are_said_to_be_cut(minor):
    names = [f"f{depth}" for depth in range(400)]
    world = PythonWorld(minor, runs(minor, *names))

    frames, fault = world.finish(world.copy())

    assert frames[:250] == names[:250]
    assert fault == Fault.DEFERRED_CUT


@EVERY
@pytest.mark.parametrize("spoil", ["no interpreter", "no thread"])
def test_what_was_not_known_is_not_copied(minor, spoil):
    world = PythonWorld(minor, runs(minor, "leaf"))
    if spoil == "no interpreter":
        world.is_attached = False
    else:
        world.known = []
        world.heap.word(world.states[0] + world.layout.thread_id, TID + 1)

    record = world.copy()

    assert len(record) == HEAD + len(world.c_stack)
    assert world.finish(record) == (["eval", C], Fault.PY_NOT_ATTACHED)


def test_interpreter_that_is_not_the_one_of_the_space_is_not_believed():
    """BPF may take a file for another that it resembles; the mappings tell."""
    world = PythonWorld(11, runs(11, "leaf"))
    record = world.copy()
    world.runtime += 8

    assert world.finish(record) == (["eval", C], Fault.PY_NOT_ATTACHED)


@pytest.mark.parametrize("more", [1, 1 << 31])
def test_record_that_promises_more_frames_than_it_has_is_refused(more):
    world = PythonWorld(11, runs(11, "leaf"))
    record = ffi.new("char[]", world.copy())
    ffi.cast("struct oa_deferred *", record).python_bytes += more

    with pytest.raises(ValueError, match="not a deferred stack"):
        HostUnwinder(world.tables()).unwind(ffi.buffer(record)[: len(record) - 1])


def test_copies_of_any_kind_are_read_within_their_bounds():
    world = PythonWorld(11, runs(11, "leaf", "root"))
    whole = world.copy()
    for kind in range(4):
        record = ffi.new("char[]", whole)
        ffi.cast("struct oa_deferred *", record).python.kind = kind
        unwinder = HostUnwinder(world.tables(has_heap=False))

        assert unwinder.unwind(ffi.buffer(record)[: len(whole)])
    assert lib.oa_host_trace_bytes()


@EVERY
def test_code_objects_are_decoded_for_those_who_name_them(minor):
    world = PythonWorld(minor, runs(minor, "leaf", "root"))

    copies = decode_python(world.copy())

    at = world.layout
    assert (copies.minor, copies.interpreters) == (minor, world.runtime + at.runtime_interpreters)
    checks = {code: code_check(at, block) for code, block in copies.codes}
    lines = {name: checks[addr] & 1023 for name, addr in world.codes.items()}
    assert sorted(lines.values()) == [100, 101]


def test_record_without_an_interpreter_has_no_code_objects():
    world = PythonWorld(11, runs(11, "leaf"))
    world.is_attached = False

    assert decode_python(world.copy()) is None


def test_cut_record_is_refused():
    record = PythonWorld(11, runs(11, "leaf")).copy()

    for size in (HEAD - 1, len(record) - 1):
        with pytest.raises(ValueError, match="deferred stack"):
            decode_python(record[:size])

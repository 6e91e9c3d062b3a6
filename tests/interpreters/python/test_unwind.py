# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The BPF code itself walks made-up CPython processes: which frames, in which order, why not."""

import pytest

from otelagent.abi._generated import Fault
from tests.interpreters.python.worlds import HEAP, LAYOUTS, TID, C, Eval, PythonWorld

EVERY = pytest.mark.parametrize("minor", LAYOUTS)
CHAINS = pytest.mark.parametrize("minor", [minor for minor in LAYOUTS if minor >= 11])


def runs(minor, *names, state=0):
    """Split names into runs of the eval loop: one each up to 3.10, all in one since 3.11."""
    if minor > 10:
        return [Eval(names, state=state)]
    return [Eval((name,), state=state) for name in names]


@EVERY
def test_python_frames_take_the_place_of_the_loop(minor):
    world = PythonWorld(minor, [C, *runs(minor, "leaf", "middle", "root"), C, C])

    frames, fault = world.walk()

    assert (frames, fault) == ([C, "leaf", "middle", "root", C, C, C], Fault.NONE)


@EVERY
def test_64_switches_come_out_in_order(minor):
    stack = []
    for depth in range(64):
        stack += [*runs(minor, f"f{depth}", f"g{depth}"), C]

    frames, fault = PythonWorld(minor, stack).walk()

    expected = [name for depth in range(64) for name in (f"f{depth}", f"g{depth}", C)]
    assert (frames, fault) == ([*expected, C], Fault.NONE)


@CHAINS
def test_loop_that_has_not_entered_takes_no_frames_of_its_caller(minor):
    """In its prologue or epilogue a run of the loop has no frames; the next one keeps its own."""
    stack = [Eval((), entered=False), C, Eval(("callee", "caller")), C]

    frames, fault = PythonWorld(minor, stack).walk()

    assert (frames, fault) == ([C, "callee", "caller", C, C], Fault.NONE)


@EVERY
def test_states_of_two_interpreters_share_a_thread(minor):
    """A subinterpreter called from the main one, and back, on one C stack."""
    newest = runs(minor, "m2")
    stack = [*newest, C, *runs(minor, "s2", "s1", state=1), C, *runs(minor, "m1", "m0"), C]

    frames, fault = PythonWorld(minor, stack, states=2).walk()

    assert frames == ["m2", C, "s2", "s1", C, "m1", "m0", C, C]
    assert fault == Fault.NONE


@pytest.mark.parametrize("minor", [minor for minor in LAYOUTS if 7 <= minor <= 11])
def test_state_made_since_the_map_was_written_is_found(minor):
    """The map knows one state of this thread; the newest frames are those of another one."""
    stack = [C, *runs(minor, "s1", state=1), C, *runs(minor, "m0"), C]
    world = PythonWorld(minor, stack, states=2)
    world.known = world.states[:1]
    world.set_current(1)

    assert world.walk() == ([C, "s1", C, "m0", C, C], Fault.NONE)


@pytest.mark.parametrize("minor", [minor for minor in LAYOUTS if minor <= 10])
def test_loop_that_is_left_already_takes_no_frame_of_another_interpreter(minor):
    """It has gone back to its caller's frame, and is about to return."""
    stack = [Eval(("s1",), entered=False, state=1), C, Eval(("s0",), state=1), C, Eval(("m0",)), C]
    world = PythonWorld(minor, stack, states=2)
    world.is_newest = True

    assert world.walk() == ([C, "s0", C, "m0", C, C], Fault.NONE)


@pytest.mark.parametrize("minor", [minor for minor in LAYOUTS if minor <= 10])
def test_frame_that_no_register_keeps_is_that_of_the_newest_state(minor):
    """A <module> of 3.9 as pyenv builds it: its caller has the frame on the stack."""
    stack = [Eval(("s1",), state=0), C, Eval(("<module>",), state=0, saved=False), C]
    stack += [Eval(("m0",), state=1), C]

    walk = PythonWorld(minor, stack, states=2).walk()

    assert walk == (["s1", C, "<module>", C, "m0", C, C], Fault.NONE)


@CHAINS
def test_frame_before_its_first_traceable_instruction_is_hidden(minor):
    world = PythonWorld(minor, [Eval(("begun", "root"))])
    world.set_lasti("begun", 4)  # the first traceable instruction is the third: offset 6

    assert world.walk()[0] == ["root", C]
    world.set_lasti("begun", 6)
    assert world.walk()[0] == ["begun", "root", C]
    world.set_lasti("begun", -2)
    assert world.walk()[0] == ["root", C]


@EVERY
@pytest.mark.parametrize("known", ["nothing", "freed"])
def test_states_are_found_when_the_map_is_wrong(minor, known):
    """The map has nothing, or memory that is no state of this thread any more."""
    world = PythonWorld(minor, runs(minor, "leaf", "root"))
    world.known = [] if known == "nothing" else [HEAP]

    assert world.walk() == (["leaf", "root", C], Fault.NONE)


@EVERY
def test_state_of_a_thread_that_ended_is_not_believed(minor):
    """Its memory still has the same thread id, but no frames; the lists have the right one."""
    world = PythonWorld(minor, runs(minor, "leaf", "root"))
    dead = world.heap.new()
    world.heap.word(dead + world.layout.thread_id, TID)
    if 11 <= minor <= 12:
        world.heap.word(dead + world.layout.thread_frame, world.heap.new())
    world.known = [dead]

    assert world.walk() == (["leaf", "root", C], Fault.NONE)


@EVERY
def test_thread_without_a_state_stays_native_and_says_so(minor):
    world = PythonWorld(minor, [C, *runs(minor, "leaf")])
    world.known = []
    world.heap.word(world.states[0] + world.layout.thread_id, TID + 1)

    assert world.walk() == ([C, "eval", C], Fault.PY_NO_THREAD)


@EVERY
def test_process_that_is_not_attached_stays_native_and_says_so(minor):
    world = PythonWorld(minor, [C, *runs(minor, "leaf"), C])
    world.is_attached = False

    assert world.walk() == ([C, "eval", C, C], Fault.PY_NOT_ATTACHED)


@pytest.mark.parametrize("frames", [[C, *runs(11, "leaf"), C], [C]])
def test_stack_whose_interpreter_is_another_by_now_says_what_it_lacks(frames):
    """A deferred one: only where it passed the eval loop."""
    walked, fault = PythonWorld(11, frames).walk(interpreters=False)

    assert walked == [*("eval" if each != C else C for each in frames), C]
    assert fault == (Fault.PY_NOT_ATTACHED if "eval" in walked else Fault.NONE)


@EVERY
def test_frame_that_cannot_be_read_is_a_fault(minor):
    world = PythonWorld(minor, runs(minor, "leaf", "root"))
    world.heap.word(world.frames["leaf"] + world.layout.frame_previous, 0xDEAD_0000)

    frames, fault = world.walk()

    assert frames[0] == "leaf"
    assert fault == Fault.PY_READ


@EVERY
def test_chain_that_loops_ends(minor):
    """A hostile process whose frame is its own caller."""
    world = PythonWorld(minor, runs(minor, "leaf", "root"))
    frame = world.frames["leaf"]
    world.heap.word(frame + world.layout.frame_previous, frame)

    frames, fault = world.walk()

    assert fault in (Fault.MAX_FRAMES, Fault.MAX_STEPS, Fault.NONE)
    assert set(frames) <= {"leaf", "root", C}


@CHAINS
def test_chain_that_ends_early_is_told(minor):
    """No entry frame at the end: the frames are shown, and the fault."""
    world = PythonWorld(minor, [Eval(("leaf", "root")), C])
    world.heap.word(world.frames["leaf"] + world.layout.frame_previous, 0)

    assert world.walk() == (["leaf", C, C], Fault.PY_CHAIN)

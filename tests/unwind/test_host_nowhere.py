# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Threads interrupted where no code is: a null or wild pointer was called. x86-64 text."""

import pytest

from otelagent.abi._generated import CfaKind, Fault, FrameFlag, FrameKind, Row, SampleFlag
from otelagent.unwind.host import HostUnwinder
from tests.unwind.walks import BIAS, IS_X86, SP, STACK, TEXT, World, parse, rule

pytestmark = pytest.mark.skipif(not IS_X86, reason="encodings of x86-64")
CALLER, OLDER = TEXT + 0x4000, TEXT + 0x5000
R12 = 12
ROWS = {0x1000: Row.NONE, 0x4000: rule((CfaKind.REG, SP, 16)), 0x5000: Row.STOP}
CALL_RAX = b"\xff\xd0"
GUESSED = 1 << FrameFlag.GUESSED_BIT | 1 << FrameFlag.RETURN_BIT
RETURN = 1 << FrameFlag.RETURN_BIT
WILD = 0x7000_0000_0000


def crash(pc=0, before=CALL_RAX, **changes):
    """A thread that called `pc`, by a function with a frame of 8 bytes."""
    given = {"rows": dict(ROWS), "stack": [CALLER, 0, OLDER, 0]} | changes
    text = {CALLER - 8: before.rjust(8, b"\x90")} if before else {}
    return World(pc=pc, text=text, **given)


def walk(world, *, all_code=False):
    return parse(HostUnwinder(world.tables()).unwind(world.deferred(), all_code=all_code))


def test_a_call_of_null_leads_to_its_caller_which_is_a_guess():
    found = walk(crash())

    assert found.frames == [
        (0, 0, FrameKind.NOWHERE),
        (CALLER - BIAS, GUESSED, FrameKind.NATIVE),
        (OLDER - BIAS, RETURN, FrameKind.NATIVE),
    ]
    assert found.fault == Fault.NONE
    assert found.flags & 1 << SampleFlag.GUESSED_BIT


def test_a_wild_pointer_is_one_only_where_all_code_is_known():
    assert walk(crash(WILD)).frames == []
    assert walk(crash(WILD)).fault == Fault.NO_MAPPING

    found = walk(crash(WILD), all_code=True)

    assert found.frames[:2] == [
        (WILD, 0, FrameKind.NOWHERE),
        (CALLER - BIAS, GUESSED, FrameKind.NATIVE),
    ]
    assert found.fault == Fault.NONE


def test_the_caller_has_all_of_its_registers():
    """Nothing ran since the call, so even a register that no callee saves is as it was."""
    world = crash(regs={R12: STACK + 8})
    world.rows[0x4000 - 1] = rule((CfaKind.REG, R12, 16))

    assert walk(world).addrs == [0, CALLER - BIAS, OLDER - BIAS]


@pytest.mark.parametrize(
    "world",
    [
        crash(before=b"\x90\x90"),
        crash(stack=[0x10, 0, OLDER]),
        crash(stack=[WILD, 0, OLDER]),
        crash(stack=[]),
        crash(return_address=True),
        crash(valid_all=False),
    ],
    ids=["no call before", "null again", "in no mapping", "no stack", "in a call", "returned"],
)
def test_what_is_no_call_ends_as_it_did(world):
    found = walk(world, all_code=True)

    assert (found.frames, found.fault) == ([], Fault.ZERO_PC)


def test_code_that_cannot_be_read_is_believed():
    assert walk(crash(before=b"")).addrs == [0, CALLER - BIAS, OLDER - BIAS]


def test_behind_a_signal_frame_it_is_the_same():
    """What a handler of SIGSEGV interrupts is the crash itself."""
    gregs = [0] * 18
    gregs[15], gregs[16] = STACK + 8 * 27, 0
    stack = [0] * 5 + gregs + [0] * 4 + [CALLER, 0, OLDER]

    found = walk(crash(TEXT, rows=ROWS | {0x1000: Row.SIGNAL}, stack=stack))

    assert found.addrs == [0x1000, 0, CALLER - BIAS, OLDER - BIAS]
    assert found.fault == Fault.NONE

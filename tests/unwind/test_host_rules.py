# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Each kind of rule and command, walked by the BPF code itself."""

import pytest

from otelagent.abi._generated import CfaKind, Fault, FrameFlag, FrameKind, MappingFlag, RegKind, Row
from tests.unwind.walks import BIAS, FP, IS_X86, SP, STACK, TEXT, World, rule

RETURN, BEGIN = 1 << FrameFlag.RETURN_BIT, 1 << FrameFlag.BEGIN_BIT
CALLER = TEXT + 0x5000
LEAF = {0x1000: rule(), 0x2000: Row.STOP}
"""The function at the pc has pushed nothing; every caller is a thread's first function."""
x86_only = pytest.mark.skipif(not IS_X86, reason="registers and signal frame of x86-64")


def test_a_leaf_and_its_caller_are_found_and_the_walk_ends_at_stop():
    walk = World(rows=LEAF, stack=[CALLER]).walk()

    assert walk.frames == [
        (0x1000, 0, FrameKind.NATIVE),
        (CALLER - BIAS, RETURN, FrameKind.NATIVE),
    ]
    assert (walk.fault, walk.fault_pc) == (Fault.NONE, CALLER)


def test_cfa_may_be_an_offset_from_any_register_of_the_newest_frame():
    rows = LEAF | {0x1000: rule((CfaKind.REG, 10, 16))}

    walk = World(rows=rows, stack=[0, 0, CALLER], regs={10: STACK + 8}).walk()

    assert walk.addrs == [0x1000, CALLER - BIAS]


def test_negative_offsets_are_negative():
    rows = LEAF | {0x1000: rule((CfaKind.REG, 10, -16))}

    walk = World(rows=rows, stack=[0, CALLER], regs={10: STACK + 32}).walk()

    assert walk.addrs == [0x1000, CALLER - BIAS]


def test_cfa_may_be_kept_in_memory():
    rows = LEAF | {0x1000: rule((CfaKind.DEREF, FP, -8), cfa_add=8)}

    walk = World(rows=rows, stack=[STACK + 16, 0, CALLER], regs={FP: STACK + 8}).walk()

    assert walk.addrs == [0x1000, CALLER - BIAS]


def test_cfa_may_be_kept_in_memory_at_an_index():
    rows = LEAF | {0x1000: rule((CfaKind.DEREF_INDEX, SP, 8), cfa_reg2=9, cfa_add=8)}

    walk = World(rows=rows, stack=[0, 0, 0, STACK + 40, 0, CALLER], regs={9: 2}).walk()

    assert walk.addrs == [0x1000, CALLER - BIAS]


@pytest.mark.parametrize(("inside", "pushed"), [(0, 0), (10, 0), (11, 1), (15, 1)])
def test_a_plt_entry_has_pushed_its_index_from_a_byte_on(inside, pushed):
    rows = LEAF | {0x1000: rule((CfaKind.PLT, SP, 8), cfa_add=11)}

    walk = World(rows=rows, stack=[7] * pushed + [CALLER], pc=TEXT + 32 + inside).walk()

    assert walk.addrs == [0x1020 + inside, CALLER - BIAS]


SECOND = TEXT + 0x800
"""In a function whose CFA tells what became of the frame pointer."""


@pytest.mark.parametrize(
    ("fp", "stack", "regs"),
    [
        ((RegKind.SAME, 0, 0), [], {FP: STACK + 16}),
        ((RegKind.CFA, 0, -16), [STACK + 16], {}),
        ((RegKind.CFA_VALUE, 0, 0), [0], {}),
        ((RegKind.IN, 11, 0), [], {11: STACK + 16}),
        ((RegKind.AT, 11, -8), [STACK + 16], {11: STACK + 8}),
        ((RegKind.AT_AT, 11, -8), [STACK + 16], {11: STACK + 32}),
    ],
)
def test_the_frame_pointer_is_found_where_the_rule_says(fp, stack, regs):
    cfa = 8 + 8 * len(stack)
    rows = LEAF | {0x1000: rule((CfaKind.REG, SP, cfa), fp=fp), 0x1700: rule((CfaKind.REG, FP, 8))}
    words = [*stack, SECOND, 0][:2]

    walk = World(rows=rows, stack=[*words, CALLER, STACK], regs=regs).walk()

    assert walk.addrs == [0x1000, SECOND - BIAS, CALLER - BIAS]


@pytest.mark.parametrize(
    ("second", "fault"),
    [(rule((CfaKind.REG, FP, 8)), Fault.READ_STACK), (Row.NONE, Fault.NO_ROW)],
)
def test_a_lost_frame_pointer_is_neither_used_nor_taken_for_the_first_frame_s(second, fault):
    rows = LEAF | {0x1000: rule(fp=(RegKind.UNDEFINED, 0, 0)), 0x1700: second}

    walk = World(rows=rows, stack=[SECOND], regs={FP: STACK}).walk()

    assert (walk.fault, walk.addrs) == (fault, [0x1000, SECOND - BIAS])


@pytest.mark.parametrize(
    ("ra", "regs"),
    [
        ((RegKind.IN, 10, 0), {10: CALLER}),
        ((RegKind.AT, 10, 8), {10: STACK}),
        ((RegKind.AT_AT, 10, 8), {10: STACK + 8}),
    ],
)
def test_the_return_address_is_found_where_the_rule_says(ra, regs):
    stack = [0, CALLER, STACK + 8]

    walk = World(rows=LEAF | {0x1000: rule(ra=ra)}, stack=stack, regs=regs).walk()

    assert walk.addrs == [0x1000, CALLER - BIAS]


def test_a_return_address_that_is_not_recoverable_is_the_first_frame():
    rows = {0x1000: rule(ra=(RegKind.UNDEFINED, 0, 0))}

    walk = World(rows=rows).walk()

    assert (walk.fault, walk.addrs) == (Fault.NONE, [0x1000])


def test_a_known_frame_pointer_is_followed_without_looking_at_code():
    rows = LEAF | {0x1000: Row.FRAME_POINTER}

    walk = World(rows=rows, stack=[0, STACK + 64, CALLER], regs={FP: STACK + 8}).walk()

    assert walk.frames[1] == (CALLER - BIAS, RETURN, FrameKind.NATIVE)


def test_a_known_frame_pointer_may_lead_to_a_stack_below():
    """Go runs parts of its runtime on another stack, which may lie above the goroutine's."""
    rows = LEAF | {0x1000: rule((CfaKind.REG, SP, 80)), 0x1700: Row.FRAME_POINTER}
    stack = [0, STACK + 64, CALLER, 0, 0, 0, 0, 0, 0, TEXT + 0x780]

    walk = World(rows=rows, stack=stack, regs={FP: STACK + 8}).walk()

    assert walk.addrs == [0x1000, 0x1780, CALLER - BIAS]


@x86_only
def test_a_signal_frame_gives_back_every_register():
    """The interrupted frame is as good as the newest: its pc is no return address."""
    interrupted = TEXT + 0x700
    gregs = [0x100 + at for at in range(18)]
    gregs[3] = STACK + 8 * 30  # r11, which the interrupted function's CFA hangs on
    gregs[15] = STACK + 8 * 27
    gregs[16] = interrupted
    stack = [0] * 5 + gregs + [0] * 20
    stack[32] = CALLER
    rows = LEAF | {0x1000: Row.SIGNAL, 0x1700: rule((CfaKind.REG, 11, 24))}

    walk = World(rows=rows, stack=stack).walk()

    assert walk.frames == [
        (0x1000, 0, FrameKind.NATIVE),
        (0x1700, 0, FrameKind.NATIVE),
        (CALLER - BIAS, RETURN, FrameKind.NATIVE),
    ]


@x86_only
def test_a_signal_trampoline_is_returned_to_at_its_first_byte():
    """Its row begins a byte before, as return addresses are looked up; its name does not."""
    gregs = [0] * 18
    gregs[15], gregs[16] = STACK + 8 * 27, TEXT + 0x700
    stack = [TEXT + 0x900, *([0] * 5), *gregs, *([0] * 3), CALLER]
    rows = LEAF | {0x18FF: Row.SIGNAL, 0x1909: Row.NONE, 0x1700: rule()}

    walk = World(rows=rows, stack=stack).walk()

    assert walk.frames[:3] == [
        (0x1000, 0, FrameKind.NATIVE),
        (0x1900, BEGIN, FrameKind.NATIVE),
        (0x1700, 0, FrameKind.NATIVE),
    ]


def test_what_nothing_called_ends_a_stack_at_its_first_byte():
    rows = {0x1000: rule(), 0x5FFF: Row.BEGIN, 0x6000: Row.STOP}

    walk = World(rows=rows, stack=[CALLER]).walk()

    assert walk.frames[1:] == [(0x6000, BEGIN, FrameKind.NATIVE)]
    assert walk.fault == Fault.NONE


def test_anonymous_code_keeps_the_process_own_address():
    world = World(rows=LEAF, stack=[CALLER], mapping={"flags": 1 << MappingFlag.ANON_BIT})

    walk = world.walk()

    assert walk.frames[0] == (TEXT, 0, FrameKind.ANON)


def test_pc_relative_addresses_beyond_48_bits_are_cut():
    """The frame's word has 48 bits for the address: a bias may be anything."""
    walk = World(rows={}, mapping={"bias": 1}).walk()

    assert walk.addrs == [TEXT - 1]


@x86_only
def test_a_newest_frame_that_saved_nothing_leaves_every_register_to_its_caller():
    """OpenSSL's aesni_gcm_encrypt has its CFA in rax while a helper of its own runs."""
    rows = LEAF | {0x1000: rule(), 0x5000: rule((CfaKind.REG, 0, 8)), 0x8000: Row.STOP}
    outer = TEXT + 0x9000
    stack = [CALLER + 0x100, 1, 2, outer]

    walk = World(rows=rows, stack=stack, regs={0: STACK + 24}).walk()

    assert walk.addrs == [0x1000, CALLER + 0x100 - BIAS, outer - BIAS]
    assert walk.fault == Fault.NONE

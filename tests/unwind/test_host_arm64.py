# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The unwinder for arm64, compiled here for whatever machine this is: it is C."""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from cffi import FFI

import build
from otelagent.abi._generated import CfaKind, Fault, FrameFlag, Reg, RegKind, Row, SampleFlag
from otelagent.unwind import host
from otelagent.unwind.host import HostTables
from tests.unwind import walks
from tests.unwind.walks import BIAS, STACK, TEXT, World, rule

FP, LR, SP = Reg.ARM_FP, Reg.ARM_LR, Reg.ARM_SP
CALLER = TEXT + 0x5000
PAC_MASK = 0x007F_0000_0000_0000
LEAF = {0x1000: rule((CfaKind.REG, SP, 0), ra=(RegKind.SAME, 0, 0)), 0x2000: Row.STOP}
SAVED = rule((CfaKind.REG, SP, 32), ra=(RegKind.CFA, 0, -24), fp=(RegKind.CFA, 0, -32))
"""After `stp x29, x30, [sp, #-32]!`."""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    target = tmp_path_factory.mktemp("arm64") / "host.so"
    includes = [f"-I{place}" for place in (build.NATIVE, build.EBPF)]
    sources = sorted((build.EBPF / "host").glob("*.c"))
    flags = ["-std=gnu11", "-O1", "-fPIC", "-shared", "-D__TARGET_ARCH_arm64", *includes]
    subprocess.run(["cc", *flags, *sources, "-o", target, "-lbpf"], check=True)
    ffi = FFI()
    headers = (build.EBPF / "oa_abi.h", build.NATIVE / "host_unwind.h")
    ffi.cdef(build.WIDTHS + "".join(build.cdef(Path(header)) for header in headers))
    return ffi, ffi.dlopen(os.fspath(target))


@pytest.fixture(autouse=True)
def arm64(library, monkeypatch):
    """Let the tables and the unwinder of the tests be the ones for arm64."""
    for module in (host, walks):
        monkeypatch.setattr(module, "ffi", library[0])
    monkeypatch.setattr(host, "lib", library[1])
    monkeypatch.setattr(walks, "SP", SP)
    monkeypatch.setattr(walks, "FP", FP)


def walk(**fields):
    world = World(**fields)
    unwinder = host.HostUnwinder(world.tables(), pac_mask=PAC_MASK)
    return walks.parse(unwinder.unwind(world.deferred()))


def test_a_leaf_returns_through_the_link_register_and_keeps_the_stack_pointer():
    result = walk(rows=LEAF, regs={LR: CALLER})

    assert (result.addrs, result.fault) == ([0x1000, CALLER - BIAS], Fault.NONE)


def test_the_link_register_of_an_older_frame_is_not_known():
    result = walk(rows=LEAF, regs={LR: TEXT + 0x10})

    assert (result.addrs, result.fault) == ([0x1000, 0x1010], Fault.LEAF_REGISTER)


def test_a_call_of_null_is_left_by_the_link_register():
    rows = {0x1000: Row.NONE, 0x5FFF: SAVED, 0x7000: Row.STOP}
    stack = [0, TEXT + 0x6800, 0, 0]
    blr = bytes.fromhex("00003fd6")

    found = walk(rows=rows, stack=stack, pc=0, regs={LR: CALLER}, text={CALLER - 4: blr})

    assert (found.addrs, found.fault) == ([0, CALLER - BIAS, 0x7800], Fault.NONE)


def test_a_saved_link_register_is_read_and_its_signature_is_taken_off():
    signed = CALLER | 0x0055 << 48
    result = walk(rows=LEAF | {0x1000: SAVED}, stack=[1, signed, 0, 0])

    assert (result.addrs, result.fault) == ([0x1000, CALLER - BIAS], Fault.NONE)


def test_a_chain_of_saved_frames_is_walked():
    rows = {0x1000: LEAF[0x1000], 0x1800: SAVED, 0x2000: Row.STOP}
    stack = [0, TEXT + 0x900, 0, 0, 0, CALLER, 0, 0]

    result = walk(rows=rows, stack=stack, regs={LR: TEXT + 0x804})

    assert (result.addrs, result.fault) == ([0x1000, 0x1804, 0x1900, CALLER - BIAS], Fault.NONE)


def test_a_signal_frame_gives_back_every_register():
    """siginfo (128), ucontext up to uc_mcontext (176), the fault's address (8), x0…x30, sp, pc."""
    x = [0x100 + at for at in range(31)]
    x[30] = CALLER
    stack = [0] * (312 // 8) + [*x, STACK + 800, TEXT + 0x700]
    rows = LEAF | {0x1000: Row.SIGNAL, 0x1700: LEAF[0x1000]}

    result = walk(rows=rows, stack=stack)

    assert (result.addrs, result.fault) == ([0x1000, 0x1700, CALLER - BIAS], Fault.NONE)
    assert result.frames[1][1] == 0


def test_a_cut_signal_frame_cannot_be_read():
    stack = [0] * (312 // 8 + 32)

    assert walk(rows={0x1000: Row.SIGNAL}, stack=stack).fault == Fault.READ_STACK


OTHER = rule((CfaKind.OTHER_STACK, FP, 24), ra=(RegKind.CFA, 0, -16), fp=(RegKind.CFA, 0, -24))
"""Go's systemstack: the frame pointer is 8 bytes below its frame."""


def test_a_stack_below_is_gone_to_where_the_rule_says_so():
    below = STACK - (1 << 20)
    pair = {below: struct.pack("=QQ", 0, CALLER)}

    result = walk(rows=LEAF | {0x1000: OTHER}, text=pair, regs={FP: below})

    assert (result.addrs, result.fault) == ([0x1000, CALLER - BIAS], Fault.NONE)


@pytest.mark.parametrize("has_switched", [True, False])
def test_a_call_of_c_from_go_returns_to_the_goroutine(has_switched):
    """What asmcgocall kept: the goroutine, or none, and its stack's depth, or the place itself."""
    goroutine, high, place = STACK + 64, STACK + 4096, STACK + 128
    kept = [goroutine, high - place] if has_switched else [0, place]
    stack = [*kept, 0, 0, 0, 0, 0, 0, 0, high, 0, 0, 0, 0, 0, 0, CALLER, 0]
    call = rule(
        (CfaKind.GO_CALL, SP, 0), ra=(RegKind.CFA, 0, -16), fp=(RegKind.CFA, 0, -24), cfa_add=16
    )

    result = walk(rows=LEAF | {0x1000: call}, stack=stack)

    assert (result.addrs, result.fault) == ([0x1000, CALLER - BIAS], Fault.NONE)


GO_CALL = rule(
    (CfaKind.GO_CALL, SP, 0), ra=(RegKind.CFA, 0, -16), fp=(RegKind.CFA, 0, -24), cfa_add=16
)
GOROUTINE, HIGH = 0x40_0000_0A00, 0x40_0000_8000
DEPTH = 0x120


def test_a_copied_stack_of_a_goroutine_is_found_without_the_goroutine():
    """Its end was noted when the stacks were copied."""
    other = (HIGH - DEPTH - 16, [0, 0, CALLER, 0, 0])
    fields = {"stack": [GOROUTINE, DEPTH], "other": other, "rows": LEAF | {0x1000: GO_CALL}}

    result = walk(**fields, go_high=HIGH)

    assert (result.addrs, result.fault) == ([0x1000, CALLER - BIAS], Fault.NONE)
    assert walk(**fields).fault == Fault.READ_STACK


@pytest.mark.parametrize("is_framed", [True, False])
def test_a_call_that_a_signal_handler_made_gives_back_the_link_register(is_framed):
    """What was interrupted had saved nothing: a leaf, or a function at its entry."""
    at = {"ra": (RegKind.CFA, 0, -16 - 32), "fp": (RegKind.CFA, 0, -24 - 32)}
    how = at if is_framed else {"ra": (RegKind.IN, LR, 0)}
    depth = 32 if is_framed else 0
    injected = rule((CfaKind.GO_INJECTED, SP, depth), **how, cfa_add=16)
    leaf = rule((CfaKind.REG, SP, 0), ra=(RegKind.IN, LR, 0))
    rows = {0x1000: injected, 0x1700: leaf, 0x1708: Row.STOP, 0x2000: Row.STOP}
    stack = [TEXT + 0x704, 0, 0, 0] * is_framed + [CALLER, 0, 0, 0]

    result = walk(rows=rows, stack=stack, regs={LR: TEXT + 0x704}, other=(STACK - 8, [0]))

    assert (result.addrs, result.fault) == ([0x1000, 0x1704, CALLER - BIAS], Fault.NONE)
    assert result.frames[1][1] == 0, "it is where it was interrupted, no return address"


def test_a_call_at_a_functions_entry_keeps_its_link_register_in_another():
    entry = rule((CfaKind.GO_ENTRY, SP, 0), ra=(RegKind.IN, LR, 0), cfa_reg2=3)
    leaf = rule((CfaKind.REG, SP, 0), ra=(RegKind.IN, LR, 0))
    rows = {0x1000: entry, 0x1700: leaf, 0x1708: Row.STOP, 0x2000: Row.STOP}

    result = walk(rows=rows, regs={LR: TEXT + 0x704, 3: CALLER})

    assert (result.addrs, result.fault) == ([0x1000, 0x1704, CALLER - BIAS], Fault.NONE)
    assert result.frames[1][1] == 1 << FrameFlag.RETURN_BIT


def copy(library, regs, memory):
    """Let the BPF code copy a thread's stacks; gives the record."""
    ffi, lib = library
    tables = HostTables()
    for addr, data in memory.items():
        tables.add_memory(addr, data)
    record = ffi.new("struct oa_deferred *")
    for reg, value in regs.items():
        record.regs.gp[reg] = value
    lib.oa_host_copy_stacks(tables.handle, record)
    return record


BL, BLR_X1 = 0x94000000, 0xD63F0020
CODE = {CALLER - 8: struct.pack("<4I", 0, BL, BLR_X1, BL)}
RECORD = HIGH - DEPTH
GO_STACK = {
    HIGH - 0x4000: bytes(0x4000 - DEPTH) + struct.pack("<2Q", CALLER, 0) + bytes(DEPTH - 16)
}


def test_go_functions_have_their_record_below_the_stack_pointer(library):
    """The chain goes on from there to the stack of the goroutine."""
    there = RECORD - 8
    stack = bytes(2040) + struct.pack("<2Q", there, CALLER) + bytes(4096 - 8)

    record = copy(library, {SP: STACK, FP: STACK - 8}, {STACK - 2048: stack} | GO_STACK | CODE)

    assert record.other_addr == there - 1024


@pytest.mark.parametrize(
    ("kept", "is_found"),
    [
        ((GOROUTINE, DEPTH), True),
        ((GOROUTINE, DEPTH + 16), False),  # no return address is there
        ((GOROUTINE, 0x8000), False),  # deeper than the stack is large
        ((GOROUTINE + 16, DEPTH), False),  # no bounds of a stack
        ((0, STACK), False),  # it was on this stack already
    ],
)
def test_a_call_of_c_by_go_is_seen_by_the_call_and_by_what_was_kept(library, kept, is_found):
    """C's frame is 48 bytes; what it returns to follows `blr x1`."""
    words = struct.pack("<8Q", 0, CALLER + 4, 0, 0, 0, 0, *kept)
    stack = bytes(2048 + 64) + words + bytes(4096 - 128)
    bounds = {GOROUTINE: struct.pack("<4Q", HIGH - 0x4000, HIGH, 0, 0)}

    record = copy(
        library,
        {SP: STACK, FP: STACK + 64},
        {STACK - 2048: stack} | bounds | GO_STACK | CODE,
    )

    assert record.go_high == (HIGH if is_found else 0)
    assert record.other_addr == (RECORD - 1024 if is_found else 0)


@pytest.mark.parametrize(
    ("before", "ok"),
    [
        (0x94000000, True),  # bl
        (0x97FFFFFF, True),
        (0xD63F0000, True),  # blr x0
        (0xD63F03C0, True),  # blr x30
        (0xD63F081F, True),  # blraaz x0
        (0xD63F0C1F, True),  # blrabz x0
        (0xD73F0801, True),  # blraa x0, x1
        (0xD73F0C22, True),  # blrab x1, x2
        (0x14000000, False),  # b
        (0xD61F0000, False),  # br x0
        (0xD65F03C0, False),  # ret
        (0xD63F0001, False),
        (0xD503201F, False),  # nop
        (0, False),
    ],
)
def test_a_guess_wants_a_branch_with_link_before_the_return_address(before, ok):
    result = walk(
        rows={0x1000: Row.NONE, 0x2000: Row.STOP},
        stack=[STACK + 64, CALLER | 3 << 48],
        regs={FP: STACK},
        text={CALLER - 4: struct.pack("=I", before)},
    )

    assert (result.fault, len(result.frames)) == ((Fault.NONE, 2) if ok else (Fault.NO_ROW, 1))
    if ok:
        assert result.frames[1][1] >> FrameFlag.GUESSED_BIT & 1
        assert result.flags >> SampleFlag.GUESSED_BIT & 1

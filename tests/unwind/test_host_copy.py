# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""What is copied of a thread's stacks, and how two copies are walked."""

import struct

import pytest

from otelagent._native import ffi, lib
from otelagent.abi._generated import CfaKind, Fault, Limit, RegKind, Row
from otelagent.unwind.host import HostTables, HostUnwinder
from tests.unwind.walks import BIAS, FP, IS_X86, SP, STACK, TEXT, World, rule

CALLER = TEXT + 0x5000
SECOND = TEXT + 0x800
OTHER = 0xC000_0040_0000
HALF = Limit.MAX_STACK_BYTES // 2
CALL = b"\xe8\0\0\0\0" if IS_X86 else struct.pack("<I", 0x94000000)
SWITCH = {0x1000: Row.FRAME_POINTER, 0x1700: rule(), 0x2000: Row.STOP}
"""The function at the pc runs on a stack of its own; its caller, on another one, pushed nothing."""


def copy(regs, memory):
    """Let the BPF code copy; gives the record."""
    tables = HostTables()
    for addr, data in memory.items():
        tables.add_memory(addr, data)
    record = ffi.new("struct oa_deferred *")
    ffi.memmove(record.stack, b"\xa5" * Limit.MAX_STACK_BYTES, Limit.MAX_STACK_BYTES)
    for reg, value in regs.items():
        record.regs.gp[reg] = value
    total = lib.oa_host_copy_stacks(tables.handle, record)
    assert total == record.stack_bytes + record.other_bytes
    return record


def words(*values):
    return struct.pack(f"={len(values)}Q", *values)


def goroutine(pair=(0, CALLER)):
    """A frame record at OTHER, and what is below and above it."""
    return {OTHER - 2048: bytes(2048) + words(*pair) + bytes(8192 - 16)}


def stack(size, at=0, *values):
    data = bytearray(size + 2048)
    data[2048 + at : 2048 + at + 8 * len(values)] = words(*values)
    return {STACK - 2048: bytes(data)}


CODE = {CALLER - 8: CALL.rjust(8, b"\x90")}


def test_a_stack_alone_may_fill_the_copy():
    record = copy({SP: STACK, FP: STACK + 64}, stack(65536))

    assert record.stack_addr == STACK - Limit.RED_ZONE_BYTES
    assert record.stack_bytes > Limit.MAX_STACK_BYTES - Limit.STACK_PAGE_BYTES
    assert (record.other_addr, record.other_bytes) == (0, 0)


@pytest.mark.parametrize(("pages", "is_bridged"), [(1, True), (12, True), (13, False)])
def test_pages_that_were_never_written_to_are_zeros_in_the_copy(pages, is_bridged):
    """A large array on the stack whose middle nobody touched."""
    page = Limit.STACK_PAGE_BYTES
    above = STACK + page + pages * page
    memory = {STACK - 2048: bytes(2048) + b"\1" * page, above: b"\2" * 2 * page}

    record = copy({SP: STACK}, memory)

    copied = ffi.buffer(record.stack)[Limit.RED_ZONE_BYTES : record.stack_bytes]
    rest = bytes(pages * page) + b"\2" * 2 * page if is_bridged else b""
    assert bytes(copied) == b"\1" * page + rest


def test_the_stack_behind_the_frame_pointer_is_copied_too():
    record = copy({SP: STACK, FP: OTHER}, stack(4096) | goroutine() | CODE)

    assert record.stack_bytes == 4096 + Limit.RED_ZONE_BYTES
    assert record.other_addr == OTHER - 1024
    assert record.other_bytes == 1024 + 8192
    at = record.stack_bytes + 1024
    assert ffi.buffer(record.stack)[at : at + 16] == words(0, CALLER)


def test_frame_pointers_on_the_stack_lead_to_the_other():
    chain = stack(4096, 64, STACK + 512, 1) | goroutine() | CODE
    data = bytearray(chain[STACK - 2048])
    data[2048 + 512 : 2048 + 528] = words(OTHER, 1)
    chain[STACK - 2048] = bytes(data)

    assert copy({SP: STACK, FP: STACK + 64}, chain).other_addr == OTHER - 1024


def test_where_nothing_is_below_the_record_the_copy_begins_with_it():
    memory = stack(4096) | {OTHER: words(0, CALLER) + bytes(8176)} | CODE

    record = copy({SP: STACK, FP: OTHER}, memory)

    assert (record.other_addr, record.other_bytes) == (OTHER, 8192)


def test_two_large_stacks_share_the_room():
    memory = stack(65536) | {OTHER: words(0, CALLER) + bytes(65520)} | CODE

    record = copy({SP: STACK, FP: OTHER}, memory)

    assert HALF - Limit.STACK_PAGE_BYTES < record.stack_bytes <= HALF
    assert record.other_bytes > HALF - Limit.STACK_PAGE_BYTES


@pytest.mark.parametrize(
    ("fp", "pair"),
    [
        (OTHER, (0, CALLER + 8)),  # no call before it
        (OTHER, (0, 0)),
        (OTHER + 1, (0, CALLER)),  # not aligned
        (OTHER + 0x100000, (0, CALLER)),  # nothing there
        (0, (0, CALLER)),
        (STACK - 4096, (0, CALLER)),
    ],
)
def test_a_register_that_is_no_frame_pointer_leads_nowhere(fp, pair):
    memory = stack(65536) | goroutine(pair) | CODE | {CALLER: bytes(16)}

    record = copy({SP: STACK, FP: fp}, memory)

    assert (record.other_addr, record.other_bytes) == (0, 0)
    assert record.stack_bytes > HALF


def test_frame_pointers_in_a_circle_come_to_an_end():
    record = copy({SP: STACK, FP: STACK + 64}, stack(4096, 64, STACK + 64, CALLER) | CODE)

    assert record.other_bytes == 0


def test_a_walk_goes_on_on_the_other_stack():
    world = World(rows=SWITCH, stack=[0], regs={FP: OTHER})
    world.other = (OTHER, [0, SECOND, CALLER])

    walk = world.walk()

    assert (walk.fault, walk.addrs) == (Fault.NONE, [0x1000, SECOND - BIAS, CALLER - BIAS])
    world.other = (0, [])
    assert world.walk().fault == Fault.READ_STACK


@pytest.mark.parametrize(("count", "fault"), [(8, Fault.READ_STACK), (4096, Fault.DEFERRED_CUT)])
def test_another_stack_deeper_than_its_copy_is_cut(count, fault):
    far = rule((CfaKind.REG, SP, 8 * count), ra=(RegKind.CFA, 0, 0))
    world = World(rows=SWITCH | {0x1700: far}, stack=[0], regs={FP: OTHER})
    world.other = (OTHER, [0, SECOND, *[0] * (count - 2)])

    assert world.walk().fault == fault


@pytest.mark.parametrize("other_bytes", [1, Limit.MAX_STACK_BYTES, (1 << 32) - 8])
def test_a_record_that_promises_more_of_two_stacks_than_it_has_is_refused(other_bytes):
    world = World(rows=SWITCH, stack=[0])
    record = bytearray(world.deferred())
    at = ffi.offsetof("struct oa_deferred", "other_bytes")
    record[at : at + 4] = struct.pack("=I", other_bytes)

    with pytest.raises(ValueError, match="not a deferred stack"):
        HostUnwinder(world.tables()).unwind(record)

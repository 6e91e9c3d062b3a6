# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Every way in which a walk ends early, what is said of it, and the trace's hash."""

import struct

import pytest

from otelagent._native import ffi, lib
from otelagent.abi._generated import CfaKind, Fault, Limit, RegKind, Row, SampleFlag
from otelagent.unwind.host import HostTables, HostUnwinder
from tests.unwind.walks import (
    FILE,
    FP,
    PAGE,
    PID,
    SP,
    SPACE,
    STACK,
    TEXT,
    World,
    parse,
    rule,
    table,
)

CALLER = TEXT + 0x5000
LEAF = {0x1000: rule(), 0x2000: Row.STOP}
MASK = (1 << 64) - 1
IN_RBX = (RegKind.IN, 3, 0)


@pytest.mark.parametrize(
    ("world", "fault", "frames"),
    [
        (World(rows=LEAF), Fault.READ_STACK, 1),
        (World(rows=LEAF, stack=[0]), Fault.ZERO_PC, 1),
        (World(rows=LEAF, stack=[0xFFF]), Fault.ZERO_PC, 1),
        (World(rows=LEAF, stack=[MASK]), Fault.KERNEL_PC, 1),
        (World(rows=LEAF, stack=[1 << 63]), Fault.KERNEL_PC, 1),
        (World(rows=LEAF, stack=[0x1000]), Fault.NO_MAPPING, 1),
        (World(rows=LEAF, stack=[CALLER], mappings=[]), Fault.NO_MAPPING, 0),
        (World(rows={0x1000: rule((9, SP, 8))}, stack=[CALLER]), Fault.BAD_RULE, 1),
        (World(rows={0x1000: rule(fp=(9, 0, 0))}, stack=[CALLER]), Fault.BAD_RULE, 1),
        (World(rows={0x1000: rule(ra=(9, 0, 0))}, stack=[CALLER]), Fault.BAD_RULE, 1),
        (
            World(rows={0x1000: rule((CfaKind.REG, SP, -8), ra=IN_RBX)}, regs={3: CALLER}),
            Fault.STACK_DIRECTION,
            1,
        ),
        (World(rows={0x1000: rule((CfaKind.REG, 10, 8))}, valid_all=False), Fault.LEAF_REGISTER, 1),
        (World(rows={0x1000: Row.NONE}), Fault.NO_ROW, 1),
        (World(rows={}), Fault.NO_ROW, 1),
        (World(rows={0x1000: Row.UNSUPPORTED}), Fault.UNSUPPORTED, 1),
        (World(rows={0x1000: Row.SIGNAL}), Fault.READ_STACK, 1),
        (World(rows={0x1000: Row.FRAME_POINTER}), Fault.READ_STACK, 1),
    ],
    ids=lambda value: value.name if isinstance(value, Fault) else "",
)
def test_a_walk_that_cannot_go_on_says_why_and_keeps_its_frames(world, fault, frames):
    walk = world.walk()

    assert (walk.fault, len(walk.frames)) == (fault, frames)
    assert walk.flags == 1 << SampleFlag.USER_BIT | 1 << SampleFlag.FAULT_BIT


def test_a_row_whose_rule_is_not_there_is_a_bad_rule():
    world = World(rows=LEAF, stack=[CALLER])
    tables = world.tables()
    tables.use_rules(ffi.NULL, 0)

    walk = parse(HostUnwinder(tables).unwind(world.deferred()))

    assert (walk.fault, walk.addrs) == (Fault.BAD_RULE, [0x1000])


def test_a_register_of_an_older_frame_is_not_taken_for_its_value_in_the_newest():
    """A newest frame that saved a register may have changed the others, too."""
    saved = rule((CfaKind.REG, SP, 16), fp=(RegKind.CFA, 0, -16))
    rows = LEAF | {0x1000: saved, 0x1700: rule((CfaKind.REG, 10, 8))}

    walk = World(rows=rows, stack=[0, TEXT + 0x800, CALLER], regs={10: STACK + 16}).walk()

    assert (walk.fault, len(walk.frames)) == (Fault.LEAF_REGISTER, 2)


def test_only_the_newest_frame_may_keep_the_stack_pointer():
    """A frame that pops nothing twice would walk for ever."""
    same = rule((CfaKind.REG, SP, 0), ra=(RegKind.CFA, 0, 0))

    walk = World(rows={0x1000: same}, stack=[CALLER]).walk()

    assert (walk.fault, len(walk.frames)) == (Fault.STACK_DIRECTION, 2)


@pytest.mark.parametrize("most", [1, 2, 128, 1024])
def test_a_deep_recursion_ends_at_as_many_frames_as_asked_for(most):
    walk = World(rows={0x1000: rule()}, stack=[CALLER] * 1200, max_frames=most).walk()

    assert (walk.fault, len(walk.frames)) == (Fault.MAX_FRAMES, most)


def test_a_stack_of_exactly_as_many_frames_as_asked_for_is_whole():
    walk = World(rows=LEAF, stack=[CALLER], max_frames=2).walk()

    assert (walk.fault, len(walk.frames)) == (Fault.NONE, 2)


def test_a_kernel_stack_of_full_depth_leaves_room_for_all_user_frames():
    world = World(rows={0x1000: rule()}, stack=[CALLER] * 1200, max_frames=1024)
    world.kernel = [MASK - at for at in range(127)]

    walk = world.walk()

    assert len(walk.frames) == 1024
    assert len(walk.record) == ffi.sizeof("struct oa_trace") + 127 * 8 + 1024 * 16


@pytest.mark.parametrize(
    ("words", "fault"),
    [(7680, Fault.READ_STACK), (7681, Fault.DEFERRED_CUT), (8192, Fault.DEFERRED_CUT)],
)
def test_a_stack_deeper_than_its_copy_is_told_from_one_that_cannot_be_read(words, fault):
    """BPF stops copying at a page that is not there; a copy above 60 KiB is a full one."""
    far = rule((CfaKind.REG, SP, Limit.MAX_STACK_BYTES + 8), ra=(RegKind.CFA, 0, 0))

    walk = World(rows={0x1000: far}, stack=[0] * words).walk()

    assert walk.fault == fault


def test_a_bad_pointer_is_no_cut_stack():
    wild = rule((CfaKind.DEREF, 10, 0))

    walk = World(rows={0x1000: wild}, stack=[0] * 2048, regs={10: 1 << 40}).walk()

    assert walk.fault == Fault.READ_STACK


def mix(words):
    """Hash words as `hash_word` says, in other words."""
    value = 0x6F74656C6167656E
    for word in words:
        value = (value ^ word) * 0x9E3779B97F4A7C15 & MASK
        value ^= value >> 29
    return value


def test_the_hash_is_that_of_generation_kernel_frames_user_frames_and_end():
    world = World(rows=LEAF, stack=[CALLER], kernel=[MASK - 5, MASK - 9])

    walk = world.walk()

    words = [11, 12 << 32 | PID, MASK - 5, MASK - 9]
    words += struct.unpack("=4Q", walk.record[-32:])
    assert walk.hash == mix([*words, 1 << SampleFlag.USER_BIT])


def test_the_hash_tells_a_whole_stack_from_a_cut_one():
    whole = World(rows=LEAF, stack=[CALLER], regs={FP: 1}).walk()
    cut = World(rows=LEAF | {0x2000: Row.NONE}, stack=[CALLER], regs={FP: 1}).walk()

    assert whole.frames == cut.frames
    assert whole.hash != cut.hash


def test_one_host_unwinds_many_stacks_without_remembering_the_one_before():
    world = World(rows=LEAF, stack=[CALLER])
    unwinder = HostUnwinder(world.tables())
    first = unwinder.unwind(world.deferred())
    broken = World(rows=LEAF, stack=[0])

    assert parse(unwinder.unwind(broken.deferred())).fault == Fault.ZERO_PC
    assert unwinder.unwind(world.deferred()) == first


def test_a_process_in_another_life_is_not_unwound():
    world = World(rows=LEAF, stack=[CALLER])
    tables = world.tables()
    for start_ns, exec_id in [(11, 13), (10, 12)]:
        tables.set_process(PID, start_ns, exec_id, SPACE)
        assert HostUnwinder(tables).unwind(world.deferred()) is None
    assert HostUnwinder(HostTables()).unwind(world.deferred()) is None


@pytest.mark.parametrize("spoil", [0, 100, ffi.offsetof("struct oa_deferred", "stack") - 1])
def test_a_record_that_is_too_short_is_refused(spoil):
    world = World(rows=LEAF, stack=[CALLER])

    with pytest.raises(ValueError, match="not a deferred stack"):
        HostUnwinder(world.tables()).unwind(world.deferred()[:spoil])


@pytest.mark.parametrize(
    ("field", "value"), [("stack_bytes", 9), ("stack_bytes", 1 << 31), ("kernel_frames", 128)]
)
def test_a_record_that_promises_more_than_it_has_is_refused(field, value):
    world = World(rows=LEAF, stack=[CALLER])
    record = bytearray(world.deferred())
    view = ffi.from_buffer("struct oa_deferred *", record + b"\0" * Limit.MAX_STACK_BYTES)
    setattr(view if field == "stack_bytes" else view.trace, field, value)

    with pytest.raises(ValueError, match="not a deferred stack"):
        HostUnwinder(world.tables()).unwind(ffi.buffer(view)[: len(record)])


def test_an_unaligned_record_is_unwound():
    world = World(rows=LEAF, stack=[CALLER])
    record = memoryview(b"x" + world.deferred())[1:]

    assert len(parse(HostUnwinder(world.tables()).unwind(record)).frames) == 2


def test_memory_pieces_are_read_across_their_borders():
    """A core's segments touch one another; a slot may lie in two of them."""
    rows = LEAF | {0x1000: rule((CfaKind.REG, 10, 8))}
    world = World(rows=rows, regs={10: STACK + 4096})
    tables = world.tables()
    slot = struct.pack("=Q", CALLER)
    tables.add_memory(STACK + 4100, slot[4:])
    tables.add_memory(STACK + 4096, slot[:4])

    assert len(parse(HostUnwinder(tables).unwind(world.deferred())).frames) == 2
    with pytest.raises(ValueError, match="File exists"):
        tables.add_memory(STACK + 4099, b"xx")
    tables.drop_memory()
    assert parse(HostUnwinder(tables).unwind(world.deferred())).fault == Fault.READ_STACK


def test_tables_refuse_what_would_be_read_out_of_bounds():
    tables = HostTables()
    bad_rule = table({0: 5})
    bad_page = table({0: rule()})
    bad_page.pages = struct.pack("=III", 0, 1, 1)

    with pytest.raises(ValueError, match="names rule 5"):
        tables.add_table(FILE, bad_rule)
    with pytest.raises(ValueError, match="rows up to 2"):
        tables.add_table(FILE, bad_page)
    with pytest.raises(ValueError, match="add a mapping"):
        tables.add_mapping(SPACE, PAGE, PAGE)
    with pytest.raises(ValueError, match="Invalid"):
        tables.add_chunk(256, ffi.NULL, 8)
    assert lib.oa_host_update(tables.handle, 0, ffi.NULL, 4, ffi.NULL, 4) < 0

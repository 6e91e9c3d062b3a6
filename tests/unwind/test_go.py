# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
import struct

import pytest

from otelagent.abi import _generated as abi
from otelagent.formats.elf import BytesSource, ElfFile
from otelagent.unwind.extract import extract
from tests.builders.pclntab import GoFunction, build_pclntab

MAIN = GoFunction("main.main", 0x1060, ((0, 4), (8, 4), (264, 100), (8, 4), (0, 4)))
FUNCTIONS = [
    GoFunction("runtime.goexit", 0x1000, ((0, 16),), func_id=3, flags=1),
    GoFunction("runtime.sigreturn__sigaction", 0x1010, ((0, 16),), flags=4),
    GoFunction("runtime.systemstack", 0x1020, ((0, 4), (8, 56), (0, 4)), func_id=9, flags=2),
    MAIN,
]


def make_elf(table, *, name=".gopclntab", machine=62, kind=2):
    """A file with code at 0x1000, the table at 0x2000 and, unless `name` is empty, sections."""
    strings = b"\0.text\0.shstrtab\0" + name.encode() + b"\0"
    sections_at = (0x2000 + len(table) + len(strings) + 7) & ~7
    count = 4 if name else 0
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        *(b"\x7fELF\x02\x01\x01" + bytes(9), kind, machine, 1, 0, 64),
        *(sections_at if name else 0, 0, 64, 56, 3, 64, count, count and 3),
    )
    note = struct.pack("<III", 4, 4, 4) + b"Go\0\0" + b"abcd"
    segments = [
        (1, 5, 0x1000, 0x1000, 0, 0x1000, 0x1000, 0x1000),
        (1, 4, 0x2000, 0x2000, 0, len(table), len(table), 0x1000),
        (4, 4, 0x800, 0x800, 0, len(note), len(note), 4),
    ]
    data = header + b"".join(struct.pack("<IIQQQQQQ", *segment) for segment in segments)
    data = data.ljust(0x800, b"\0") + note
    data = data.ljust(0x2000, b"\0") + table + strings
    rows = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 1, 6, 0x1000, 0x1000, 0x1000, 0, 0, 16, 0),
        (17, 1, 2, 0x2000, 0x2000, len(table), 0, 0, 16, 0),
        (7, 3, 0, 0, 0x2000 + len(table), len(strings), 0, 0, 1, 0),
    ]
    data = data.ljust(sections_at, b"\0") + b"".join(struct.pack("<IIQQQQIIQQ", *r) for r in rows)
    return ElfFile(BytesSource(data))


def rule_at(table, addr):
    index = table.find(addr)
    assert not index & abi.Row.COMMAND, abi.Row(index)
    return table.rule(index)


@pytest.mark.parametrize("version", ["1.16", "1.18", "1.20"])
def test_every_change_of_the_stack_pointer_is_a_row(version):
    table = extract(make_elf(build_pclntab(FUNCTIONS, version=version)))

    offsets = [
        rule_at(table, a).cfa_offset for a in (0x1060, 0x1064, 0x1068, 0x10CB, 0x10CC, 0x10D0)
    ]
    assert offsets == [8, 16, 272, 272, 16, 8]
    assert rule_at(table, 0x1060).fp_kind == abi.RegKind.SAME
    assert (rule_at(table, 0x1068).fp_kind, rule_at(table, 0x1068).fp_offset) == (
        abi.RegKind.CFA,
        -16,
    )
    assert table.find(0x10D4 + 16) == abi.Row.NONE


def test_goroutines_end_and_signals_return():
    table = extract(make_elf(build_pclntab(FUNCTIONS)))

    assert table.find(0x1000) == table.find(0x100E) == abi.Row.STOP
    assert [table.find(a) for a in (0x100F, 0x1010, 0x101F)] == [abi.Row.SIGNAL] * 3


def test_function_that_switches_stacks_is_followed_by_the_frame_pointer():
    """But not at its entry, nor between the push and the move that set the frame pointer."""
    table = extract(make_elf(build_pclntab(FUNCTIONS)))

    assert rule_at(table, 0x1020).cfa_offset == 8
    assert rule_at(table, 0x1024).cfa_offset == 16
    assert table.find(0x1024 + 3) == table.find(0x105B) == abi.Row.FRAME_POINTER
    assert rule_at(table, 0x105C).cfa_offset == 8


def test_function_without_a_frame_that_switches_stacks_has_its_callers_frame_pointer():
    """Go 1.20 and older: asmcgocall leaves the frame pointer alone from its first byte on."""
    functions = [GoFunction("runtime.asmcgocall.abi0", 0x1000, ((0, 64),), func_id=1, flags=6)]
    table = extract(make_elf(build_pclntab(functions, version="1.18")))

    assert {table.find(a) for a in range(0x1000, 0x1040)} == {abi.Row.FRAME_POINTER}


@pytest.mark.parametrize(("depth", "move"), [(32, 5), (128, 5), (136, 8)])
def test_frame_pointer_of_old_go_is_saved_and_moved_after_the_frame_was_made(depth, move):
    """`sub $32,%rsp; mov %rbp,24(%rsp); lea 24(%rsp),%rbp`, with longer forms from 136 bytes on."""
    functions = [GoFunction("runtime.cgocallback", 0x1000, ((0, 4), (depth, 56), (0, 4)), flags=6)]
    table = extract(make_elf(build_pclntab(functions, version="1.18")))

    made, saved = rule_at(table, 0x1004), rule_at(table, 0x1004 + move)
    assert (made.cfa_offset, made.fp_kind) == (depth + 8, abi.RegKind.SAME)
    assert (saved.cfa_offset, saved.fp_kind, saved.fp_offset) == (depth + 8, abi.RegKind.CFA, -16)
    assert table.find(0x1004 + 2 * move - 1) != abi.Row.FRAME_POINTER
    assert table.find(0x1004 + 2 * move) == table.find(0x103B) == abi.Row.FRAME_POINTER
    assert rule_at(table, 0x103C).cfa_offset == 8


def test_arm64_keeps_the_link_register_at_the_stack_pointer():
    functions = [GoFunction("main.f", 0x1000, ((0, 4), (64, 32), (0, 4)))]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    leaf, body = rule_at(table, 0x1000), rule_at(table, 0x1010)
    assert (leaf.ra_kind, leaf.ra_reg) == (abi.RegKind.IN, abi.Reg.ARM_LR)
    assert (body.cfa_offset, body.ra_offset, body.fp_offset) == (64, -64, -72)


def test_arm64_switches_stacks_by_a_frame_pointer_below_the_frame():
    """The frame's size comes from the table; direction does not count."""
    depths = ((0, 4), (48, 56), (0, 4))
    functions = [GoFunction("runtime.cgocallback", 0x1000, depths, func_id=9, flags=2)]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    before, own = rule_at(table, 0x1004), rule_at(table, 0x1004 + 8)
    assert (before.cfa_kind, before.cfa_reg) == (abi.CfaKind.REG, abi.Reg.ARM_SP)
    assert (own.cfa_kind, own.cfa_reg, own.cfa_offset) == (
        *(abi.CfaKind.OTHER_STACK, abi.Reg.ARM_FP),
        56,
    )
    assert (own.ra_offset, own.fp_offset) == (-48, -56)


def test_arm64_calls_c_from_what_it_kept_on_the_other_stack():
    """The code at 0x1000 has `blr x1` as its third instruction."""
    depths = ((0, 4), (16, 56), (0, 4))
    functions = [GoFunction("runtime.asmcgocall", 0x1000, depths, flags=2)]
    elf = make_elf(build_pclntab(functions, quantum=4), machine=183)
    data = bytearray(elf.source.read_at(0, elf.source.size))
    data[0x1010:0x1014] = (0xD63F0020).to_bytes(4, "little")
    table = extract(ElfFile(BytesSource(bytes(data))))

    call, behind = rule_at(table, 0x1010), rule_at(table, 0x1014)
    assert (call.cfa_kind, call.cfa_add, call.ra_offset) == (abi.CfaKind.GO_CALL, 16, -16)
    assert behind.cfa_kind == abi.CfaKind.OTHER_STACK


def test_arm64_goes_back_to_the_goroutine_when_c_has_returned():
    """blr x1; mov x9,x0; mov sp,x5; str; ldr x30,[sp],#16; ret."""
    words = (0xD63F0020, 0xAA0003E9, 0x910000BF, 0xB9002BE0, 0xF84107FE, 0xD65F03C0)
    functions = [GoFunction("runtime.asmcgocall", 0x1000, ((0, 4), (16, 32), (0, 28)), flags=2)]
    elf = make_elf(build_pclntab(functions, quantum=4), machine=183)
    data = bytearray(elf.source.read_at(0, elf.source.size))
    data[0x1010:0x1028] = struct.pack("<6I", *words)
    table = extract(ElfFile(BytesSource(bytes(data))))

    rules = [rule_at(table, 0x1010 + 4 * i) for i in range(6)]
    assert [rule.cfa_kind for rule in rules] == [abi.CfaKind.GO_CALL] * 3 + [abi.CfaKind.REG] * 3
    assert [(rule.cfa_offset, rule.ra_offset) for rule in rules[3:5]] == [(16, -16)] * 2
    assert rules[5].ra_kind == abi.RegKind.IN


def test_arm64_keeps_the_link_register_where_it_was_when_the_stack_pointer_moves_on():
    """callCgoMmap makes room of 16 bytes in its frame of 16."""
    depths = ((0, 4), (16, 16), (32, 8), (16, 8), (0, 4), (16, 8), (32, 16))
    functions = [GoFunction("runtime.callCgoMmap", 0x1000, depths, flags=4)]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    places = [rule_at(table, at) for at in (0x1004, 0x1014, 0x101C, 0x1028, 0x1030)]
    assert [(rule.cfa_offset, rule.ra_offset, rule.fp_offset) for rule in places] == [
        *((16, -16, -24), (32, -16, -24), (16, -16, -24)),
        *((16, -16, -24), (32, -16, -24)),
    ]


def test_arm64_depths_that_no_stack_has_are_refused():
    depths = ((0, 4), (2**31 - 8, 16), (32, 8), (0, 4))
    functions = [GoFunction("runtime.callCgoMmap", 0x1000, depths, flags=4)]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    rows = [table.find(at) for at in (0x1004, 0x1014)]
    assert rows == [abi.Row.UNSUPPORTED] * 2


@pytest.mark.parametrize("name", ["runtime.asyncPreempt", "runtime.sigpanic"])
def test_arm64_calls_that_a_signal_handler_makes_have_a_link_register_behind_them(name):
    """Its 16 bytes lie between the two frames; a longer name is another function's."""
    flags = 4 if name.endswith("Preempt") else 0
    depths = ((0, 4), (64, 56), (0, 4))
    functions = [
        GoFunction(name, 0x1000, depths, func_id=3, flags=flags),
        GoFunction(f"{name}2", 0x1040, depths, func_id=3, flags=flags),
    ]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    entry, body, other = (rule_at(table, at) for at in (0x1000, 0x1008, 0x1048))
    assert {entry.cfa_kind, body.cfa_kind} == {abi.CfaKind.GO_INJECTED}
    assert {entry.cfa_add, body.cfa_add} == {16}
    assert (entry.cfa_offset, entry.ra_kind) == (0, abi.RegKind.IN)
    assert (body.cfa_offset, body.ra_offset, body.fp_offset) == (64, -80, -88)
    assert other.cfa_kind == abi.CfaKind.REG


def test_arm64_grows_stacks_before_the_link_register_was_saved():
    depths = ((0, 8),)
    functions = [
        GoFunction("runtime.morestack_noctxt", 0x1000, depths, flags=6),
        GoFunction("gogo", 0x1008, depths, flags=6),
    ]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    rule = rule_at(table, 0x1004)
    assert (rule.cfa_kind, rule.cfa_reg2) == (abi.CfaKind.GO_ENTRY, 3)
    assert table.find(0x1008) == abi.Row.STOP


def test_arm64_is_called_by_c_with_its_registers_at_the_top_of_the_frame():
    functions = [GoFunction("crosscall2", 0x1000, ((0, 4), (192, 56), (0, 4)), flags=4)]
    table = extract(make_elf(build_pclntab(functions, quantum=4), machine=183))

    rule = rule_at(table, 0x1020)
    assert (rule.cfa_offset, rule.ra_offset, rule.fp_offset) == (192, -8, -16)


@pytest.mark.parametrize("name", [".data.rel.ro.gopclntab", ""])
def test_table_is_found_in_position_independent_and_stripped_files(name):
    table = extract(make_elf(build_pclntab(FUNCTIONS), name=name))

    assert rule_at(table, 0x1070).cfa_offset == 272


def test_text_start_comes_from_the_code_where_the_header_has_none():
    """Go 1.26 leaves it out."""
    table = extract(make_elf(build_pclntab(FUNCTIONS, header_text=0)))

    assert rule_at(table, 0x1070).cfa_offset == 272


def test_table_of_an_unknown_kind_is_named_and_left_out():
    table = extract(make_elf(b"\xfb\xff\xff\xff" + build_pclntab(FUNCTIONS)[4:]))

    assert table.row_count == 0
    assert any("not a function table" in line for line in table.sources)


def test_cut_table_does_no_harm():
    whole = build_pclntab(FUNCTIONS)
    for size in range(0, len(whole), 7):
        assert extract(make_elf(whole[:size])).is_consistent()


def test_go_program_without_a_table_says_so():
    with_note_only = make_elf(bytes(200), name="")

    assert any("without a function table" in s for s in extract(with_note_only).sources)

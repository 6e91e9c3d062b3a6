# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Call frame information made by hand: what compilers write rarely, and what only attackers do."""

import struct

import pytest

from otelagent.abi._generated import CfaKind, RegKind, Row
from otelagent.unwind.describe import describe_row
from otelagent.unwind.extract import extract
from tests.builders.cfi import ARM_START, cie, eh_frame, make_elf


def rows_of(program, *, size=64, machine=62, **options):
    """The rows of one function at 0x1000, in words, by offset."""
    table = extract(make_elf(eh_frame((0x1000, size, program), **options), machine=machine))
    words, before = {}, None
    for offset in range(size):
        said = describe_row(table, 0x1000 + offset, machine)
        if said != before:
            words[offset] = said.replace("rbp same; ", "")
        before = said
    return words


def advance(count):
    return bytes([0x40 + count])


def offset(value):
    return bytes([0x0E, value])


def expression(*ops):
    return bytes([0x0F, len(ops), *ops])


ENTRY = "CFA = rsp+8; return at CFA-8"
STOP = "the first frame of a thread"
UNSUPPORTED = "covered by a rule that cannot be expressed"


def test_pushes_and_frame_pointer():
    program = advance(1) + offset(16) + b"\x86\x02" + advance(3) + b"\x0d\x06"

    assert rows_of(program) == {
        0: ENTRY,
        1: "CFA = rsp+16; rbp at CFA-16; return at CFA-8",
        4: "CFA = rbp+16; rbp at CFA-16; return at CFA-8",
    }


def test_wide_advances():
    program = b"\x02\x05" + offset(16) + b"\x03\x00\x01" + offset(24)
    program += b"\x04\x00\x10\x00\x00" + offset(32)
    offsets = list(rows_of(program, size=0x1400))

    assert offsets == [0, 5, 0x105, 0x1105]


def test_states_are_remembered_nine_deep():
    program = b"".join(b"\x0a" + advance(1) + offset(16 + 8 * i) for i in range(9))
    program += b"".join(advance(1) + b"\x0b" for _ in range(9))
    words = list(rows_of(program).values())

    assert words == words[::-1]
    assert words[0] == ENTRY
    assert len(words) == 19


def test_restore_without_remember_is_unsupported_from_there_on():
    assert rows_of(advance(4) + b"\x0b" + advance(4) + offset(16)) == {0: ENTRY, 4: UNSUPPORTED}


def test_undefined_return_address_ends_the_stack():
    assert rows_of(b"\x07\x10") == {0: STOP}


def test_popped_return_address_ends_the_stack():
    """CFA = rsp+0: the slot is below the stack pointer, as in the child of musl's clone."""
    assert rows_of(advance(2) + offset(0)) == {0: ENTRY, 2: STOP}


def test_return_address_in_a_register():
    assert rows_of(b"\x09\x10\x05" + offset(0)) == {0: "CFA = rsp+0; return in rdi"}


@pytest.mark.parametrize(
    ("ops", "said"),
    [
        # GCC's linkage table: rsp+8, and 8 more where rip & 15 >= 11
        (
            (0x77, 8, 0x80, 0, 0x3F, 0x1A, 0x3B, 0x2A, 0x33, 0x24, 0x22),
            "CFA = rsp+8, and 8 more from byte 11 of each 16 on; return at CFA-8",
        ),
        ((0x76, 0x78, 0x06), "CFA = *(rbp-8)+0; return at CFA-8"),
        ((0x77, 0x28, 0x06, 0x23, 0x08), "CFA = *(rsp+40)+8; return at CFA-8"),
        (
            (0x77, 0x08, 0x38, 0x79, 0x00, 0x1E, 0x22, 0x06, 0x23, 0x08),
            "CFA = *(rsp+8+r9*8)+8; return at CFA-8",
        ),
        (
            (0x77, 0x00, 0x79, 0x00, 0x33, 0x24, 0x22, 0x06),
            "CFA = *(rsp+0+r9*8)+0; return at CFA-8",
        ),
        ((0x7A, 0x00), "CFA = r10+0; return at CFA-8"),
        ((0x92, 0x07, 0x10), "CFA = rsp+16; return at CFA-8"),
        ((0x38, 0x77, 0x00, 0x22), "CFA = rsp+8; return at CFA-8"),
        ((0x77, 0x00, 0x06, 0x06), UNSUPPORTED),
        ((0x77, 0x00, 0x16), UNSUPPORTED),
        ((), UNSUPPORTED),
    ],
)
def test_expressions_of_the_frame_address(ops, said):
    assert rows_of(expression(*ops)) == {0: said}


def test_register_after_an_expression_keeps_the_offset_from_before_it():
    """As libgcc does, and as libgcrypt relies on."""
    program = advance(1) + offset(24) + advance(1) + expression(0x77, 8, 0x06)
    program += advance(1) + b"\x0d\x07" + advance(1) + offset(8)

    assert list(rows_of(program).values()) == [
        ENTRY,
        "CFA = rsp+24; return at CFA-8",
        "CFA = *(rsp+8)+0; return at CFA-8",
        "CFA = rsp+24; return at CFA-8",
        ENTRY,
    ]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        (b"\x10\x06\x02\x76\x00", "rbp at rbp+0"),  # GCC's realigned stacks
        (b"\x10\x06\x02\x23\x10", "rbp at CFA+16"),
        (b"\x16\x06\x02\x77\x00", "rbp in rsp"),
        (b"\x16\x06\x03\x77\x10\x06", "rbp at rsp+16"),
        (b"\x16\x06\x02\x23\x08", "rbp = CFA+8"),
        (b"\x14\x06\x02", "rbp = CFA-16"),
        (b"\x07\x06", "rbp lost"),
        (b"\x10\x06\x03\x77\x00\x16", "rbp lost"),
    ],
)
def test_rules_of_the_frame_pointer(program, said):
    assert rows_of(program) == {0: f"CFA = rsp+8; {said}; return at CFA-8"}


def test_instructions_without_meaning_for_unwinding_are_skipped():
    assert rows_of(b"\x2e\x10" + b"\x00" + b"\x08\x03" + b"\x83\x02" + b"\xc3") == {0: ENTRY}


def test_unknown_instruction_is_unsupported_and_counted():
    table = extract(make_elf(eh_frame((0x1000, 64, advance(4) + b"\x3f"))))

    assert table.find(0x1003) != Row.UNSUPPORTED
    assert table.find(0x1004) == Row.UNSUPPORTED
    assert "1 rows: unknown instruction" in table.sources[0]


def test_arm64_keeps_the_return_address_in_the_link_register():
    """Also under pointer authentication with the B key and memory tagging (letters B and G)."""
    program = advance(1) + b"\x0e\x10\x9d\x02\x9e\x01" + b"\x2d" + advance(1) + b"\x0e\x00\xde\xdd"
    head = cie(ARM_START, augmentation=b"zRBG", ra=30)

    assert rows_of(program, machine=183, head=head) == {
        0: "CFA = sp+0; x29 same; return in x30",
        1: "CFA = sp+16; x29 at CFA-16; return at CFA-8",
        2: "CFA = sp+0; x29 same; return in x30",
    }


def test_signal_frames():
    head = cie(augmentation=b"zRS")

    assert rows_of(b"", head=head) == {0: "a signal trampoline: registers are in the signal frame"}


def test_personality_and_language_data_are_skipped():
    head = cie(augmentation=b"zPLR", data=b"\x9b\x01\x02\x03\x04\x1b\x1b")
    section = eh_frame((0x1000, 64, b""), head=head)

    assert extract(make_elf(section)).find(0x1000) == 0


def test_64_bit_dwarf():
    assert rows_of(advance(1) + offset(16), dwarf64=True) == {
        0: ENTRY,
        1: "CFA = rsp+16; return at CFA-8",
    }


def test_found_through_the_program_header_of_a_stripped_file():
    section = eh_frame((0x1000, 64, b""), (0x1100, 64, offset(16)))
    table = extract(make_elf(section, has_sections=False))

    assert table.rule(table.find(0x1100)).cfa_offset == 16
    assert table.sources[0].startswith("PT_GNU_EH_FRAME: 2 functions")


def test_gap_between_functions_has_no_row_but_padding_belongs_to_the_function_before():
    section = eh_frame((0x1000, 0x31, b""), (0x1040, 16, offset(16)), (0x1060, 16, offset(24)))
    table = extract(make_elf(section))

    assert table.find(0x103F) == table.find(0x1000)
    assert table.find(0x1050) == table.find(0x105F) == Row.NONE
    assert table.find(0x1070) == Row.NONE


def test_functions_in_any_order_and_overlapping():
    """The later start wins while it lasts, then the outer one goes on."""
    section = eh_frame(
        (0x1200, 16, offset(32)), (0x1000, 0x100, offset(16)), (0x1040, 0x20, offset(24))
    )
    table = extract(make_elf(section))
    offsets = [table.rule(table.find(a)).cfa_offset for a in (0x103F, 0x1040, 0x105F, 0x1060)]

    assert offsets == [16, 24, 24, 16]
    assert table.rule(table.find(0x1200)).cfa_offset == 32


def test_function_over_several_pages_begins_each_page_anew():
    section = eh_frame((0x1000, 0x30000, advance(1) + offset(16)))
    section = section.ljust(0x100, b"\0")
    table = extract(make_elf(section, code_bytes=0x2000))

    assert table.is_consistent()
    assert table.find(0x2FFF) == table.find(0x1001)
    assert table.find(0x3000) == Row.NONE  # the code ends here, whatever the entry claims


def test_entry_of_a_removed_function_is_left_out():
    section = eh_frame((0, 64, offset(16)), (0x1000, 16, b""))
    table = extract(make_elf(section))

    assert "1 entries outside of the code" in table.sources[0]
    assert table.rule(table.find(0x1000)).cfa_kind == CfaKind.REG
    assert table.rule(table.find(0x1000)).ra_kind == RegKind.CFA


def test_damaged_section_keeps_what_came_before():
    section = eh_frame((0x1000, 16, b""))[:-4] + struct.pack("<I", 0x7FFFFFFF) + bytes(20)
    table = extract(make_elf(section))

    assert table.find(0x1000) == 0
    assert "damaged at offset" in table.sources[0]


def test_cut_section_does_no_harm():
    section = eh_frame((0x1000, 64, advance(1) + offset(16)), (0x1100, 64, b"\x0a\x0b"))
    for size in range(len(section)):
        assert extract(make_elf(section[:size])).is_consistent()

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""The eval loop is found with the parts that the compiler moved away, and nothing else."""

import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, PT_GNU_EH_FRAME
from otelagent.interpreters.python.eval_loop import (
    MAX_FUNCTION_BYTES,
    FrameRanges,
    find_eval_loop,
    iter_jumps_arm,
    iter_jumps_x86,
)

TABLE = 0x9000
MAIN, COLD, HELPER = 0x2000, 0x1000, 0x3000


def jump(at, target):
    return b"\xe9" + struct.pack("<i", target - at - 5)


class FakeElf:
    """An ELF file of one segment with code from 0x1000 on, and a search table of FDEs."""

    def __init__(self, functions, machine=EM_X86_64, count=None):
        self.machine = machine
        self.memory = bytearray(0x10000)
        table = b""
        for at, (start, code, size) in enumerate(functions):
            self.memory[start : start + len(code)] = code
            fde = 0xA000 + at * 32
            struct.pack_into("<IIiI", self.memory, fde, 20, 0, 0, size)
            table += struct.pack("<ii", start - TABLE, fde - TABLE)
        count = len(functions) if count is None else count
        head = bytes((1, 0x1B, 3, 0x3B)) + struct.pack("<iI", 0, count)
        self.memory[TABLE : TABLE + 12 + len(table)] = head + table
        size = 12 + len(table)
        self.segments = (SimpleNamespace(type=PT_GNU_EH_FRAME, vaddr=TABLE, filesz=size),)

    def read_address(self, addr, size):
        if addr < 0 or addr + size > len(self.memory):
            raise BadElf("outside")
        return bytes(self.memory[addr : addr + size])


def test_moved_part_is_found_and_a_tail_call_is_not():
    """Both are jumped to; only the part jumps back into the middle."""
    main = b"\x90" * 8 + jump(MAIN + 8, COLD) + jump(MAIN + 13, HELPER) + b"\xc3"
    cold = b"\x90" * 4 + b"\x0f\x84" + struct.pack("<i", MAIN + 8 - COLD - 10)
    helper = b"\x90" * 4 + jump(HELPER + 4, MAIN)  # calls the loop last, from its start
    elf = FakeElf([(COLD, cold, 16), (MAIN, main, 64), (HELPER, helper, 16)])

    assert find_eval_loop(elf, MAIN, 64) == ((COLD, COLD + 16), (MAIN, MAIN + 64))


def test_part_of_a_part_is_found():
    other = 0x4000
    main = b"\x90" * 8 + jump(MAIN + 8, COLD)
    cold = jump(COLD, MAIN + 8) + b"\x90" * 8 + jump(COLD + 13, other + 2)
    deep = b"\x90" * 4 + jump(other + 4, COLD + 13)
    elf = FakeElf([(COLD, cold, 32), (MAIN, main, 64), (other, deep, 16)])

    assert find_eval_loop(elf, MAIN, 0) == (
        (COLD, COLD + 32),
        (MAIN, MAIN + 64),
        (other, other + 16),
    )


def test_without_a_search_table_the_symbol_counts():
    elf = FakeElf([], count=0)

    assert find_eval_loop(elf, MAIN, 64) == ((MAIN, MAIN + 64),)


@pytest.mark.parametrize("size", [0, MAX_FUNCTION_BYTES + 1])
def test_function_without_a_size_is_bad(size):
    with pytest.raises(BadElf):
        find_eval_loop(FakeElf([], count=0), MAIN, size)


@pytest.mark.parametrize("count", [1 << 31, 5000])
def test_table_that_lies_about_its_size_is_left_out(count):
    ranges = FrameRanges(FakeElf([(MAIN, b"\xc3", 1)], count=count))

    assert ranges.find(MAIN) is None


def test_arm_branches():
    """B, b.cond, cbz, tbz forward and back (targets by the Arm manual's encodings)."""
    code = struct.pack(
        "<6I", 0x14000004, 0x17FFFFFF, 0x54000041, 0xB4FFFFE0, 0x36000060, 0xD503201F
    )

    assert list(iter_jumps_arm(code, 0x1000)) == [0x1010, 0x1000, 0x1010, 0x1008, 0x101C]


@given(st.binary(max_size=400))
def test_any_bytes_are_safe(code):
    assert len(list(iter_jumps_x86(code, 0x1000))) <= len(code)
    assert len(list(iter_jumps_arm(code, 0x1000))) <= len(code)
    elf = FakeElf([(MAIN, code, 400)], machine=EM_AARCH64)
    assert find_eval_loop(elf, MAIN, 400)[-1] == (MAIN, MAIN + 400)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Register sets of ptrace and core files."""

import struct

import pytest

from otelagent.abi._generated import Reg
from otelagent.formats.elf import EM_AARCH64, EM_X86_64
from otelagent.formats.registers import GP_COUNT, parse_registers
from tests.builders.cores import status


def x86(**regs):
    return parse_registers(EM_X86_64, status(1, **regs)[112:])


def test_x86_registers_are_by_their_dwarf_numbers():
    names = "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15".split()  # noqa: SIM905
    found = x86(**{name: 100 + at for at, name in enumerate(names)}, rip=7, fs_base=9)

    assert found.gp[:16] == tuple(range(100, 116))
    assert found.gp[Reg.X86_RSP] == 107
    assert len(found.gp) == GP_COUNT
    assert (found.pc, found.thread_pointer, found.is_32_bit) == (7, 9, False)


@pytest.mark.parametrize(("number", "is_call"), [(0, True), (34, True), ((1 << 64) - 1, False)])
def test_x86_tells_a_system_call_by_its_number(number, is_call):
    assert x86(orig_rax=number).in_syscall == is_call


def test_x86_tells_32_bit_code_by_its_segment():
    assert x86(cs=0x23).is_32_bit


def test_arm64_registers_and_its_thread_pointer():
    data = struct.pack("<34Q", *range(31), 0x700, 0x400, 0)

    found = parse_registers(EM_AARCH64, data, 0x900)

    assert found.gp[Reg.ARM_FP : Reg.ARM_SP + 1] == (29, 30, 0x700)
    assert (found.pc, found.thread_pointer, found.is_32_bit) == (0x400, 0x900, False)
    assert parse_registers(EM_AARCH64, data[:-8] + struct.pack("<Q", 0x10)).is_32_bit


@pytest.mark.parametrize(("machine", "size"), [(EM_X86_64, 215), (EM_AARCH64, 271), (3, 400)])
def test_what_is_too_short_or_unknown_gives_nothing(machine, size):
    assert parse_registers(machine, bytes(size)) is None

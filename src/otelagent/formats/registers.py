# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""A thread's registers, as ptrace and core files give them (`elf_gregset_t`).

Layouts: arch/x86/include/asm/user_64.h (`struct user_regs_struct`) and
arch/arm64/include/uapi/asm/ptrace.h (`struct user_pt_regs`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from otelagent.formats.elf import EM_AARCH64, EM_X86_64

GP_COUNT = 32
_X86 = struct.Struct("<27Q")
_ARM = struct.Struct("<34Q")
# DWARF number → index in user_regs_struct (System V ABI x86-64, figure 3.36).
_X86_BY_DWARF = (10, 12, 11, 5, 13, 14, 4, 19, 9, 8, 7, 6, 3, 2, 1, 0)
_X86_ORIG_RAX, _X86_RIP, _X86_CS, _X86_FS_BASE = 15, 16, 17, 21
_USER32_CS = 0x23  # arch/x86/include/asm/segment.h
_ARM_PSR_MODE32 = 0x10  # arch/arm64/include/uapi/asm/ptrace.h


@dataclass(frozen=True, slots=True)
class Registers:
    """The registers of a thread that does not run.

    Attributes:
        gp: General registers by DWARF number.
        pc: The instruction that comes next.
        in_syscall: The thread is in a system call: the one before `pc`.
        thread_pointer: Where its own storage is (fs_base, tpidr_el0); 0: not known.
        is_32_bit: It runs 32-bit code.
    """

    gp: tuple[int, ...]
    pc: int
    in_syscall: bool = False
    thread_pointer: int = 0
    is_32_bit: bool = False


def parse_registers(machine: int, data: bytes, thread_pointer: int = 0) -> Registers | None:
    """Read an `elf_gregset_t`; None where it is too short or of an unknown machine.

    Args:
        machine: EM_* of the process.
        data: The register set.
        thread_pointer: Of arm64, where it is in a set of its own.
    """
    if machine == EM_X86_64 and len(data) >= _X86.size:
        return _x86(_X86.unpack_from(data))
    if machine == EM_AARCH64 and len(data) >= _ARM.size:
        words = _ARM.unpack_from(data)
        # Nothing tells a system call from other code; the pc of one is behind `svc` already.
        is_32 = bool(words[33] & _ARM_PSR_MODE32)
        return Registers(words[:32], words[32], False, thread_pointer, is_32)
    return None


def _x86(words: tuple[int, ...]) -> Registers:
    gp = tuple(words[at] for at in _X86_BY_DWARF)
    return Registers(
        gp + (0,) * (GP_COUNT - len(gp)),
        words[_X86_RIP],
        in_syscall=words[_X86_ORIG_RAX] < 1 << 63,
        thread_pointer=words[_X86_FS_BASE],
        is_32_bit=words[_X86_CS] == _USER32_CS,
    )

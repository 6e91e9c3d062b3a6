# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes core files as the kernel does (fs/binfmt_elf.c), also such as lie."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

NT_PRSTATUS, NT_PRPSINFO, NT_AUXV, NT_FILE = 1, 3, 6, 0x46494C45
AT_SYSINFO_EHDR = 33
R, W, X = 4, 2, 1
PAGE = 4096
EM_X86_64 = 62

# struct user_regs_struct, arch/x86/include/asm/user_64.h
_LOW_REGS = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8"),
    *("rax", "rcx", "rdx", "rsi", "rdi", "orig_rax", "rip", "cs"),
)


def note(kind: int, data: bytes, name: bytes = b"CORE\0") -> bytes:
    padded = data.ljust(len(data) + 3 & -4, b"\0")
    return struct.pack("<III", len(name), len(data), kind) + name.ljust(8, b"\0") + padded


def status(tid: int, *, signal: int = 0, **regs: int) -> bytes:
    """Make a `struct elf_prstatus` of x86-64; registers by their names in `names`."""
    names = (*_LOW_REGS, "eflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs", "gs")
    values = {"orig_rax": (1 << 64) - 1, "cs": 0x33} | regs
    words = [values.get(name, 0) for name in names]
    head = struct.pack("<iiiHxxQQIIII", signal, 0, 0, signal, 0, 0, tid, 1, 1, 1)
    return head.ljust(112, b"\0") + struct.pack("<27Q", *words) + bytes(8)


def psinfo(pid: int, name: str, arguments: str) -> bytes:
    head = struct.pack("<4BxxxxQIIIIII", 0, 82, 0, 0, 0, 0, 0, pid, 1, 1, 1)
    return head + name.encode().ljust(16, b"\0") + arguments.encode().ljust(80, b"\0")


def files(*entries: tuple[int, int, int, str], unit: int = PAGE) -> bytes:
    """Make NT_FILE of (start, end, offset in units, path)."""
    ranges = b"".join(struct.pack("<QQQ", *entry[:3]) for entry in entries)
    names = b"".join(entry[3].encode() + b"\0" for entry in entries)
    return struct.pack("<QQ", len(entries), unit) + ranges + names


@dataclass
class Core:
    """A core file to be; `loads` are (address, bytes, size in memory, flags)."""

    notes: list[bytes] = field(default_factory=list)
    loads: list[tuple[int, bytes, int, int]] = field(default_factory=list)
    machine: int = EM_X86_64
    kind: int = 4

    def load(self, addr: int, data: bytes = b"", size: int = 0, flags: int = R | W) -> None:
        self.loads.append((addr, data, size or len(data), flags))

    def write(self) -> bytes:
        count = len(self.loads) + 1
        notes = b"".join(self.notes)
        at = 64 + 56 * count
        headers = [struct.pack("<IIQQQQQQ", 4, 0, at, 0, 0, len(notes), 0, 0)]
        at = (at + len(notes) + PAGE - 1) & -PAGE
        body = b""
        for addr, data, size, flags in self.loads:
            place = at + len(body)
            headers.append(
                struct.pack("<IIQQQQQQ", 1, flags, place, addr, 0, len(data), size, PAGE)
            )
            body += data
        head = struct.pack(
            "<16sHHIQQQIHHHHHH",
            *(b"\x7fELF\x02\x01\x01" + bytes(9), self.kind, self.machine, 1, 0, 64, 0, 0),
            *(64, 56, count, 0, 0, 0),
        )
        return (head + b"".join(headers) + notes).ljust(at, b"\0") + body

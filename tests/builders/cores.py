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


CODE, STACK, VDSO = 0x10_0000, 0x7FFD_0000_0000, 0x7FFF_0000_0000
CALL = b"\xe8" + bytes(4)


def crashed(*, vdso: bytes = b"", frames: int = 4, path: str = "/no/such/file") -> Core:
    """Make the core of a process with two threads, one in code that no file has.

    Its frames are linked by frame pointers, and each return address follows a call.
    """
    links = [
        struct.pack(
            "<QQ", STACK + 32 * (at + 1) if at + 1 < frames else 0, CODE + 32 * (at % 100) + 5
        )
        for at in range(frames)
    ]
    stack = b"".join(link.ljust(32, b"\0") for link in links)
    made = Core()
    made.notes = [
        note(NT_PRSTATUS, status(7, signal=11, rip=CODE + 1, rsp=STACK, rbp=STACK)),
        note(NT_PRPSINFO, psinfo(7, "made", "made up")),
        note(NT_AUXV, struct.pack("<QQQQ", 9, 1, AT_SYSINFO_EHDR, VDSO if vdso else 0)),
        note(NT_FILE, files((0x40_0000, 0x40_2000, 1, path))),
        note(NT_PRSTATUS, status(8, rip=0x40_0010, rsp=STACK, rbp=STACK)),
    ]
    made.load(CODE, (CALL + bytes(27)) * 101, PAGE, R | X)
    made.load(0x40_0000, b"", 2 * PAGE, R | X)
    made.load(STACK, stack, max(PAGE, len(stack)))
    if vdso:
        made.load(VDSO, vdso, flags=R | X)
    return made

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""x86-64 code that is recognised by its bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otelagent.abi._generated import CfaKind, Reg, RegKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.unwind.rows import RowBuilder

# `xor %ebp,%ebp` (glibc, musl), perhaps behind endbr64; `mov %rsp,%rdi; call` (glibc's ld.so)
ENTRY = re.compile(rb"(\xf3\x0f\x1e\xfa)?(\x48?\x31\xed|\x48\x89\xe7\xe8)", re.DOTALL)
# mov $15,%rax; syscall: rt_sigreturn
SIGNAL_RETURN = re.compile(rb"\x48\xc7\xc0\x0f\x00\x00\x00\x0f\x05")
# musl: xor %ebp,%ebp; pop %rdi; call *%r9; mov %eax,%edi
CLONE_CHILD = re.compile(rb"\x31\xed\x5f\x41\xff\xd1\x89\xc7")
# mov %rax,%rdi or mov %eax,%edi; call
_HAND_ON = re.compile(rb"\x48?\x89\xc7\xe8(?=(.{4}))", re.DOTALL)
# crti.o and crtn.o: [endbr64] sub $8,%rsp; whatever is called; add $8,%rsp; ret
_INIT = re.compile(
    rb"(?P<before>(\xf3\x0f\x1e\xfa)?\x48\x83\xec\x08).*(?P<after>\x48\x83\xc4\x08)\xc3", re.DOTALL
)
_LAZY_ENTRY_BYTES = 16
# glibc's __start_context: [endbr64] mov %rbx,%rsp
CONTEXT_START = re.compile(rb"(\xf3\x0f\x1e\xfa)?\x48\x89\xdc")
CONTEXT_NAME, CONTEXT_SYMBOL = "__start_context", "makecontext"
CONTEXT_BYTES_BEHIND = 0
# lea disp(%rip),%reg
_LEA = re.compile(rb"[\x48\x4c]\x8d[\x05\x0d\x15\x1d\x25\x2d\x35\x3d](?=(.{4}))", re.DOTALL)


def context_starts(data: bytes, addr: int) -> Iterator[int]:
    """Find the addresses that `makecontext` takes."""
    for match in _LEA.finditer(data):
        yield addr + match.end() + 4 + int.from_bytes(match[1], "little", signed=True)


def calls_after_return(data: bytes, addr: int) -> Iterator[tuple[int, int, int]]:
    """Find where a function's result is handed on at once: (address, size, function called)."""
    for match in _HAND_ON.finditer(data):
        end = addr + match.end() + 4
        target = end + int.from_bytes(match[1], "little", signed=True)
        yield addr + match.start(), len(match[0]) + 4, target


def add_linkage(builder: RowBuilder, addr: int, size: int, code: bytes, rank: int) -> None:
    """Describe linkage entries: jumps, of which lazy ones push an index first."""
    returns = {"ra_kind": RegKind.CFA, "ra_offset": -8, "cfa_reg": Reg.X86_RSP}
    if code[:2] != b"\xff\x35":  # does not begin with `push GOT+8`: nothing is pushed
        builder.add(addr, size, rank, builder.rule(cfa_offset=8, **returns))
        return
    # The first entry pushes a second word, six bytes in.
    builder.add(addr, 6, rank, builder.rule(cfa_offset=16, **returns))
    builder.add(addr + 6, 10, rank, builder.rule(cfa_offset=24, **returns))
    has_endbr = code[16:20] == b"\xf3\x0f\x1e\xfa"
    pushed_at = 9 if has_endbr else 11  # endbr64; push or jmp *GOT; push
    lazy = builder.rule(cfa_kind=CfaKind.PLT, cfa_offset=8, cfa_add=pushed_at, **returns)
    if size > _LAZY_ENTRY_BYTES:
        builder.add(addr + _LAZY_ENTRY_BYTES, size - _LAZY_ENTRY_BYTES, rank, lazy)


def add_init(builder: RowBuilder, addr: int, code: bytes, rank: int) -> bool:
    """Describe `.init` or `.fini`, which glibc's start files leave without information."""
    match = _INIT.match(code)
    if match is None:
        return False
    returns = {"ra_kind": RegKind.CFA, "ra_offset": -8, "cfa_reg": Reg.X86_RSP}
    bare, pushed = (builder.rule(cfa_offset=offset, **returns) for offset in (8, 16))
    begin, end = match.end("before"), match.end("after")
    builder.add(addr, begin, rank, bare)
    builder.add(addr + begin, end - begin, rank, pushed)
    builder.add(addr + end, 1, rank, bare)
    return True

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""arm64 code that is recognised by its bytes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otelagent.abi._generated import Reg, RegKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.unwind.rows import RowBuilder


def _words(*values: int) -> bytes:
    return re.escape(b"".join(value.to_bytes(4, "little") for value in values))


# mov x29,#0; mov x30,#0 (glibc, musl), perhaps behind bti c or nop; mov x0,sp; bl (glibc's ld.so)
ENTRY = re.compile(
    rb"(%s|%s)?(%s|%s)"
    % (
        _words(0xD503245F),
        _words(0xD503201F),
        _words(0xD280001D, 0xD280001E),
        _words(0x910003E0) + rb"...[\x94-\x97]",
    ),
    re.DOTALL,
)
# mov x8,#139; svc #0: rt_sigreturn. What fills up behind it (nop, in the vDSO with its bytes
# swapped) counts too: an interrupt that waited while the system call was entered finds the pc
# behind svc and nothing that tells a system call.
SIGNAL_RETURN = re.compile(
    rb"%s(?:%s|%s)?" % (_words(0xD2801168, 0xD4000001), _words(0xD503201F), _words(0x1F2003D5))
)
# musl: ldp x1,x0,[sp],#16; blr x1
CLONE_CHILD = re.compile(_words(0xA8C103E1, 0xD63F0020) + rb"....", re.DOTALL)

# glibc's __startcontext: bti c or nop; mov x0,x19; cbnz x0,setcontext
CONTEXT_START = re.compile(
    rb"(%s|%s)?%s...\xb5" % (_words(0xD503245F), _words(0xD503201F), _words(0xAA1303E0)), re.DOTALL
)
CONTEXT_NAME, CONTEXT_SYMBOL = "__startcontext", "setcontext"
CONTEXT_BYTES_BEHIND = 192


def context_starts(data: bytes, addr: int) -> Iterator[int]:
    """Find what may be `__startcontext` in the code of `setcontext` and behind it."""
    for match in CONTEXT_START.finditer(data):
        yield addr + match.start()


def calls_after_return(data: bytes, addr: int) -> Iterator[tuple[int, int, int]]:
    """Find where a function's result is handed on at once: (address, size, function called).

    A result stays in x0, so two calls stand side by side: `blr xN; bl exit`.
    """
    for at in range(4, len(data) - 3, 4):
        word = int.from_bytes(data[at : at + 4], "little")
        before = int.from_bytes(data[at - 4 : at], "little")
        if word >> 26 == 0x25 and before & 0xFFFFFC1F == 0xD63F0000:
            distance = (word & 0x03FFFFFF) - ((word & 0x02000000) << 1)
            yield addr + at, 4, addr + at + distance * 4


def add_linkage(builder: RowBuilder, addr: int, size: int, code: bytes, rank: int) -> None:
    """Describe linkage entries: only the first one, which the lazy ones jump to, has a frame."""
    at_entry = builder.rule(cfa_reg=Reg.ARM_SP, ra_kind=RegKind.IN, ra_reg=Reg.ARM_LR)
    builder.add(addr, size, rank, at_entry)
    push = next((at for at in (0, 4) if code[at : at + 4] == b"\xf0\x7b\xbf\xa9"), None)
    if push is not None and size >= 32:  # stp x16,x30,[sp,#-16]!
        pushed = builder.rule(cfa_reg=Reg.ARM_SP, cfa_offset=16, ra_kind=RegKind.CFA, ra_offset=-8)
        builder.add(addr + push + 4, 28 - push, rank, pushed)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""libgcc's unwinder on its way to a landing pad (x86-64).

`_Unwind_RaiseException`, `_Unwind_Resume` and the like end in `uw_install_context`
(libgcc/unwind-dw2.c, alike in GCC 4.5 to 15): `uw_install_context_1` copies the
registers of the frame with the handler, its return address too, over those that the
function itself had saved. From there on its call frame information does not lead to
its caller, but to a mixture of two frames.

The `struct _Unwind_Context` of that frame is what is copied from, and still tells all of
it. So the rows of the last piece of these functions say: the caller is the frame with
the handler. Those between are being discarded and never run again.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from otelagent.abi._generated import CfaKind, Reg, RegKind
from otelagent.formats.elf import EM_X86_64

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.formats.elf import ElfFile
    from otelagent.unwind.rows import RowBuilder

RANK_OVERRULE = 0
MAX_CODE_BYTES = 16 << 20
MAX_FUNCTION_BYTES = 4096
MAX_NAMES_BYTES = 4 << 20
# struct _Unwind_Context: pointers to saved registers by DWARF number, 16 the return address
CONTEXT_CFA = 18 * 8
CONTEXT_RBP = Reg.X86_RBP * 8
CONTEXT_RETURN = 16 * 8
_ANY_REG = rb"[\x85\x8d\x95\x9d\xa5\xad\xb5\xbd]"  # modrm: disp32(%rbp), any register
_CALL = re.compile(rb"\xe8(?=(.{4}))", re.DOTALL)
_LOAD = re.compile(rb"[\x48\x4c]\x8b" + _ANY_REG + rb"(.{4})", re.DOTALL)  # mov disp(%rbp),%reg
_LOAD_RDI = re.compile(rb"\x48\x8b\xbd(.{4})", re.DOTALL)
_RESTORE_RBP = b"\x48\x8b\x6d\x00"  # mov 0(%rbp),%rbp
_CALL_BYTES = 5
_WINDOW = 48
"""Bytes behind the call of uw_install_context_1 up to that of _Unwind_DebugHook."""


class Landing(NamedTuple):
    """Where a function installs the context of the frame with the handler.

    `after` is the return address of the call of `target`, uw_install_context_1; from `end` on
    its call frame information is right again. `cfa` is where the handler's frame keeps its
    CFA, relative to rbp.
    """

    after: int
    end: int
    target: int
    cfa: int


def code_ranges(elf: ElfFile) -> list[tuple[int, int]]:
    """List (file offset, size) of the code that may be libgcc's, which is looked at.

    That is libgcc_s, or a file that handles exceptions without it.
    """
    if elf.machine != EM_X86_64:
        return []
    if not elf.soname.startswith("libgcc_s"):
        if elf.section(".gcc_except_table") is None:
            return []
        names = elf.section(".dynstr")
        if names and b"libgcc_s" in elf.source.read_at(
            names.offset, min(names.size, MAX_NAMES_BYTES)
        ):
            return []
    ranges = [(s.offset, s.filesz) for s in elf.executable_loads()]
    return ranges if sum(size for _, size in ranges) <= MAX_CODE_BYTES else []


def add_landings(builder: RowBuilder, elf: ElfFile, functions: list[tuple[int, int]]) -> str:
    """Overrule the rows of functions that install a context. Returns one line, for people.

    `functions` are those that end by `__builtin_eh_return`: (start, end).
    """
    found = []
    for start, end in functions:
        offset = elf.offset_of(start)
        if offset is not None and end - start <= MAX_FUNCTION_BYTES:
            code = elf.source.read_at(offset, end - start)
            found.append(find_landing(code, start, lambda pc: _is_code(elf, pc)))
    landings = [landing for landing in found if landing]
    if len({landing.target for landing in landings}) != 1 or not code_ranges(elf):
        return ""
    for landing in landings:
        _overrule(builder, landing)
    return f"{len(landings)} functions that lead to landing pads"


def find_landing(code: bytes, addr: int, is_code: Callable[[int], bool]) -> Landing | None:
    """Find where a function that ends by `__builtin_eh_return` calls uw_install_context_1.

    The CFA and the landing pad of the context are loaded behind it, as what follows is
    `_Unwind_DebugHook (context.cfa, handler)`; that the context begins where a struct
    _Unwind_Context would is seen by its address being taken.
    """
    for load in _LOAD_RDI.finditer(code):
        cfa = _signed(load[1])
        after, target = _call_before(code, load.start(), addr, is_code)
        end = code.find(_RESTORE_RBP, load.end())
        loads = {_signed(match[1]) for match in _LOAD.finditer(code, after, after + _WINDOW)}
        if after and end >= 0 and cfa + 8 in loads and _takes_address(code, cfa - CONTEXT_CFA):
            return Landing(addr + after, addr + end + len(_RESTORE_RBP), target, cfa)
    return None


def _call_before(
    code: bytes, at: int, addr: int, is_code: Callable[[int], bool]
) -> tuple[int, int]:
    """Find the last call that ends a few bytes before `at`: where it ends, and its target."""
    found = (0, 0)
    for call in _CALL.finditer(code, max(at - _WINDOW, 0), at):
        after = call.start() + _CALL_BYTES
        target = addr + after + _signed(call[1])
        if after <= at and is_code(target):  # 0xe8 is also a part of other instructions
            found = (after, target)
    return found


def _is_code(elf: ElfFile, addr: int) -> bool:
    return any(s.vaddr <= addr < s.vaddr + s.filesz for s in elf.executable_loads())


def _signed(raw: bytes) -> int:
    return int(struct.unpack("<i", raw)[0])


def _takes_address(code: bytes, offset: int) -> bool:
    """Tell whether there is a `lea offset(%rbp),%reg`."""
    wanted = rb"[\x48\x4c]\x8d" + _ANY_REG + re.escape(struct.pack("<i", offset))
    return re.search(wanted, code, re.DOTALL) is not None


def _overrule(builder: RowBuilder, landing: Landing) -> None:
    context = landing.cfa - CONTEXT_CFA
    common: dict[str, Any] = {
        "cfa_kind": CfaKind.DEREF,
        "cfa_reg": Reg.X86_RBP,
        "cfa_offset": landing.cfa,
        "fp_reg": Reg.X86_RBP,
        "ra_reg": Reg.X86_RBP,
        "bx_kind": RegKind.UNDEFINED,
    }
    # While they are copied only the context has all of them.
    copying = builder.rule(
        **common,
        fp_kind=RegKind.AT_AT,
        fp_offset=context + CONTEXT_RBP,
        ra_kind=RegKind.AT_AT,
        ra_offset=context + CONTEXT_RETURN,
    )
    # Then what was saved is theirs; the context's own are about to be overwritten.
    copied = builder.rule(
        **common, fp_kind=RegKind.AT, fp_offset=0, ra_kind=RegKind.AT, ra_offset=8
    )
    builder.add(landing.after - 1, 1, RANK_OVERRULE, copying)
    builder.add(landing.after, landing.end - landing.after, RANK_OVERRULE, copied)

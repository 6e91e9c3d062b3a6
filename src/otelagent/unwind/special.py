# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Code that has no call frame information, or whose information does not end the stack.

- The entry point of programs and of the dynamic loader: nothing called it.
- musl has no information at all: its signal trampoline, its `clone` and what
  calls `main` and thread functions are found by their code, so that stacks end.
- `.init` and `.fini` of glibc's start files.
- What functions of glibc's `makecontext` return to: nothing called it.
- What greenlet (gevent, eventlet) starts a greenlet with: whose frames lie behind it changes.
- Procedure linkage tables of linkers that do not describe them (lld).

Ranks: 0 overrules everything, 3 only fills what nothing else covers.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from otelagent.abi import _generated as abi
from otelagent.errors import BadElf
from otelagent.formats.elf import DT_SONAME, EM_AARCH64, EM_X86_64, ET_DYN, ET_EXEC
from otelagent.unwind import aarch64, x86_64

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otelagent.formats.elf import ElfFile
    from otelagent.unwind.rows import RowBuilder

RANK_OVERRULE, RANK_FILL = 0, 3
MAX_ENTRY_BYTES = 64
MAX_CODE_BYTES = 16 << 20
PT_INTERP = 3
DT_FLAGS_1, DF_1_PIE = 0x6FFFFFFB, 0x08000000
MAX_CONTEXT_BYTES = 4096
MIN_GLIBC_BYTES = 1 << 20
MAX_EXTENSION_BYTES = 16 << 20
GREENLET_START = "_ZN8greenlet12UserGreenlet15inner_bootstrapEP9_greenletP7_object"
_C_LIBRARY = re.compile(r"libc\.so$|libc\.musl-|ld-musl-")
_CODE = {EM_X86_64: x86_64, EM_AARCH64: aarch64}


def add_special(builder: RowBuilder, elf: ElfFile, *, covered: bool) -> list[str]:
    """Add the special cases of a file. Returns lines about them, for people.

    `covered` says that call frame information was found for most of the code:
    then the search for trampolines is not worth reading all of it.
    """
    lines: list[str] = []
    steps: list[Callable[[RowBuilder, ElfFile], str]] = [
        *(_add_entry, _add_linkage, _add_init, _add_context, _add_greenlet)
    ]
    if not covered and _is_c_library(elf):
        steps.append(_add_c_library)
    for step in steps:
        try:
            line = step(builder, elf)
        except BadElf as err:
            line = f"{step.__name__.removeprefix('_add_')}: {err}"
        if line:
            lines.append(line)
    return lines


def _is_c_library(elf: ElfFile) -> bool:
    """Tell musl, shared or linked in; glibc always has its own information.

    On arm64 the vDSO is like it: it has the trampoline that signal handlers return to.
    """
    if elf.machine == EM_AARCH64 and elf.soname.startswith("linux-vdso"):
        return True
    has_interpreter = any(s.type == PT_INTERP for s in elf.segments)
    return bool(_C_LIBRARY.search(elf.soname)) or (bool(elf.entry) and not has_interpreter)


def _add_entry(builder: RowBuilder, elf: ElfFile) -> str:
    """Nothing called the first function. Of shared libraries the entry means nothing."""
    if not elf.entry or elf.offset_of(elf.entry) is None:
        return ""
    is_program = elf.type == 2 or any(s.type == PT_INTERP for s in elf.segments)
    code = elf.source.read_at(elf.offset_of(elf.entry) or 0, 16)
    if not is_program and not _CODE[elf.machine].ENTRY.match(code):
        return ""
    is_covered, start, end = builder.around(elf.entry)
    if is_covered and start != elf.entry:
        start, end = elf.entry, min(end, elf.entry + MAX_ENTRY_BYTES)
    size = end - start if is_covered else min(end - start, MAX_ENTRY_BYTES)
    builder.add(start, size, RANK_OVERRULE, abi.Row.STOP)
    return f"entry point at {elf.entry:#x}: end of stack"


def _add_linkage(builder: RowBuilder, elf: ElfFile) -> str:
    """Fill in the procedure linkage table where the linker did not describe it."""
    added = 0
    for name in (".plt", ".plt.sec", ".plt.got", ".iplt"):
        section = elf.section(name)
        if section is None or not section.size or builder.around(section.addr)[0]:
            continue
        code = elf.read(section.offset, min(section.size, 64))
        _CODE[elf.machine].add_linkage(builder, section.addr, section.size, code, RANK_FILL)
        added += 1
    return f"procedure linkage table: {added} sections without information" if added else ""


def _add_init(builder: RowBuilder, elf: ElfFile) -> str:
    """Fill in the functions that call constructors and destructors."""
    if elf.machine != EM_X86_64:
        return ""  # arm64: they keep frame records
    added = []
    for name in (".init", ".fini"):
        section = elf.section(name)
        if section is None or builder.around(section.addr)[0]:
            continue
        code = elf.read(section.offset, min(section.size, 64))
        if x86_64.add_init(builder, section.addr, code, RANK_FILL):
            added.append(name)
    return f"{' and '.join(added)} by their code" if added else ""


def _is_glibc(elf: ElfFile) -> bool:
    """Tell glibc's libc.so.6, by little reading: it is a library that can be started."""
    can_start = bool(elf.entry) and any(s.type == PT_INTERP for s in elf.segments)
    is_library = can_start and DT_SONAME in elf.dynamic and elf.source.size >= MIN_GLIBC_BYTES
    return is_library and elf.soname == "libc.so.6"


def _is_static(elf: ElfFile) -> bool:
    """Tell a program that has its libraries in it. Those of Go are large, and have no glibc."""
    is_program = elf.type == ET_EXEC or bool(elf.dynamic.get(DT_FLAGS_1, 0) & DF_1_PIE)
    has_loader = any(s.type == PT_INTERP for s in elf.segments)
    return is_program and not has_loader and elf.section(".gopclntab") is None


def _add_context(builder: RowBuilder, elf: ElfFile) -> str:
    """End the stacks that glibc's makecontext made, which its information leads out of."""
    for at in _context_starts(elf):
        is_covered, start, end = builder.around(at)
        where = elf.offset_of(at)
        if is_covered and start == at and where is not None:
            if not _CODE[elf.machine].CONTEXT_START.match(elf.source.read_at(where, 16)):
                continue
            # it is a return address: looked up one byte before
            builder.add(start - 1, 1, RANK_OVERRULE, abi.Row.BEGIN)
            builder.add(start, end - start, RANK_OVERRULE, abi.Row.STOP)
            return f"stacks made by makecontext end at {start:#x}"
    return ""


def _context_starts(elf: ElfFile) -> Iterator[int]:
    """Find what may be what functions of `makecontext` return to.

    Programs with a C library in them have its name, if they are not stripped. Of the shared
    library it is not exported: `makecontext` loads its address (x86-64), or it follows
    `setcontext`, which it goes back to (arm64).
    """
    code = _CODE[elf.machine]
    is_library = _is_glibc(elf)
    if not is_library and not _is_static(elf):
        return
    name = code.CONTEXT_SYMBOL if is_library else code.CONTEXT_NAME
    symbol = elf.find_symbols(name).get(name)
    offset = elf.offset_of(symbol.value) if symbol else None
    if symbol is None or offset is None:
        return
    if not is_library:
        yield symbol.value
        return
    size = min(symbol.size, MAX_CONTEXT_BYTES) + code.CONTEXT_BYTES_BEHIND
    yield from code.context_starts(elf.source.read_at(offset, size), symbol.value)


def _add_greenlet(builder: RowBuilder, elf: ElfFile) -> str:
    """End the stack of a greenlet where it began (greenlet 2.0 and newer).

    A greenlet's stack is moved to the heap while others run on the same addresses. What
    lies behind its first function belongs to any of them, and may be half overwritten.
    """
    is_library = elf.type == ET_DYN and not elf.entry and DT_SONAME not in elf.dynamic
    if not is_library or elf.source.size > MAX_EXTENSION_BYTES:
        return ""
    # It is C++ that catches; of extension modules in C no symbol needs to be read.
    if elf.section(".gcc_except_table") is None:
        return ""
    symbol = elf.find_symbols(GREENLET_START).get(GREENLET_START)
    if symbol is None or not symbol.size:
        return ""
    builder.add(symbol.value, symbol.size, RANK_OVERRULE, abi.Row.STOP)
    return f"stacks of greenlets end at {symbol.value:#x}"


def _add_c_library(builder: RowBuilder, elf: ElfFile) -> str:
    """Find what musl does not describe: signal return, clone, and the callers of `main`."""
    code = _CODE[elf.machine]
    ends = signals = 0
    last_calls = {s.value for s in elf.find_symbols("exit", "pthread_exit").values()}
    for addr, data in _code(elf):
        for match in code.SIGNAL_RETURN.finditer(data):
            # a handler's return address is its first byte: looked up one byte before
            start = addr + match.start() - 1
            builder.add(start, len(match[0]) + 1, RANK_OVERRULE, abi.Row.SIGNAL)
            signals += 1
        for match in code.CLONE_CHILD.finditer(data):
            builder.add(addr + match.start(), len(match[0]), RANK_OVERRULE, abi.Row.STOP)
            ends += 1
        for at, size, target in code.calls_after_return(data, addr):
            if target in last_calls:
                builder.add(at - 1, size + 1, RANK_OVERRULE, abi.Row.STOP)
                ends += 1
    return f"C library: {signals} signal trampolines, {ends} ends of stacks found by their code"


def _code(elf: ElfFile) -> Iterator[tuple[int, bytes]]:
    for segment in elf.executable_loads():
        size = min(segment.filesz, MAX_CODE_BYTES)
        yield segment.vaddr, elf.source.read_at(segment.offset, size)

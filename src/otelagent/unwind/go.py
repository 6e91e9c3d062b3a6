# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Finds a Go program's function table (pclntab) and hands it to the C core.

The table is in `.gopclntab`, in `.data.rel.ro.gopclntab` of position-independent
programs, or, where section headers are missing, found by its magic. Since Go
1.26 its header no longer says where the code begins: the module data does.
See `docs/gopclntab.md`.
"""

from __future__ import annotations

import errno
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.abi._generated import CfaKind, Reg, RegKind
from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, MAX_SECTION_BYTES, PF_W, SHF_COMPRESSED
from otelagent.unwind.rows import RowBuilder, check_memory

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

RANK_GO = 1
MAGICS = {0xFFFFFFFA: "1.16", 0xFFFFFFF0: "1.18", 0xFFFFFFF1: "1.20"}
SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
MAX_SEARCH_BYTES = 128 << 20
MAX_SWITCH_BYTES = 4096
_PIECE = 4 << 20
_HEAD_BYTES = 32
_BLR_X1 = b"\x20\x00\x3f\xd6"
_MOV_TO_SP = re.compile(rb"[\x1f\x3f\x5f\x7f\x9f\xbf\xdf\xff][\x00-\x03]\x00\x91", re.DOTALL)
"""`mov sp, xN`"""
_POP_LINK = b"\xfe\x07\x41\xf8"
"""`ldr x30, [sp], #16`"""
_SWITCH_FRAME = 16
"""Bytes of the frame of `asmcgocall` on arm64: of its link register, aligned."""
_MODULE_TEXT = 176
"""Offset of `text` in `runtime.moduledata`, Go 1.16 to 1.26 (runtime/symtab.go)."""
_DT_RELA, _DT_RELASZ = 7, 8
_RELATIVE = {62: 8, 183: 1027}
"""R_X86_64_RELATIVE and R_AARCH64_RELATIVE."""


@dataclass(frozen=True, slots=True)
class GoTable:
    """Where a pclntab is, from its magic on; what follows it may be included.

    Attributes:
        data: Its bytes; None: they are in the file, at `offset`.
        text: What function entries are relative to; 0: the header or the entries say it.
    """

    addr: int
    size: int
    offset: int
    data: bytes | None
    text: int
    found: str

    def read(self, elf: ElfFile) -> bytes:
        """Give its bytes."""
        return self.data or elf.read(self.offset, self.size)


def is_go(elf: ElfFile) -> bool:
    """Tell a Go program by its notes and sections; a stripped one may hide."""
    names = (*SECTIONS, ".go.buildinfo", ".note.go.buildid")
    return bool(elf.go_build_id) or any(elf.section(name) for name in names)


def find_go_table(elf: ElfFile) -> GoTable | None:
    """Read the table, or None if this is not a Go program.

    Raises:
        BadElf: It is one, but its table was not found or is of an unknown kind.
    """
    for name in SECTIONS:
        section = elf.section(name)
        if section is not None and section.flags & SHF_COMPRESSED:
            data = elf.section_data(section)
            text = _text_start(elf, data[:_HEAD_BYTES], section.addr)
            return GoTable(section.addr, len(data), 0, data, text, name)
        if section is not None:
            return _make_table(elf, section.addr, section.offset, section.size, name)
    if not is_go(elf):
        return None
    place = _search(elf)
    if place is None:
        raise BadElf("a Go program without a function table")
    return _make_table(elf, *place, "function table found by its magic")


def _make_table(elf: ElfFile, addr: int, offset: int, size: int, found: str) -> GoTable:
    """Describe a table in the file, which the C core reads by itself if it can."""
    if size > MAX_SECTION_BYTES:
        raise BadElf(f"{found} claims {size} bytes")
    elf.read(offset + size, 0)  # it must not reach beyond the file
    data = elf.read(offset, size) if elf.descriptor < 0 else None
    head = elf.read(offset, min(size, _HEAD_BYTES))
    return GoTable(addr, size, offset, data, _text_start(elf, head, addr), found)


def add_go(builder: RowBuilder, elf: ElfFile, table: GoTable) -> str:
    """Add the rows of all Go functions. Returns one line about it, for people."""
    described = ffi.new(
        "struct oa_go_table *",
        {
            "data": ffi.NULL if table.data is None else ffi.from_buffer("uint8_t[]", table.data),
            "size": table.size,
            "offset": table.offset,
            "fd": elf.descriptor,
            "text": table.text,
            "machine": elf.machine,
            "rank": RANK_GO,
        },
    )
    stats = ffi.new("struct oa_go_stats *")
    status = lib.oa_go_parse(builder.raw, described, stats)
    if status == -errno.EIO:
        raise BadElf("the file was cut while it was read")
    if status == -errno.EINVAL:
        raise BadElf(f"{table.found}: not a function table of Go 1.16 or newer")
    check_memory(status)
    if elf.machine == EM_AARCH64 and stats.calls_c:
        _add_calls_of_c(builder, elf, stats.calls_c, stats.calls_c_size)
    line = (
        f"{table.found}: {stats.functions} Go functions (format of Go {MAGICS[stats.magic]}), "
        f"{stats.stops} ends of stacks, {stats.switching} that switch stacks"
    )
    return line + (f"; {stats.bad} entries not readable" if stats.bad else "")


def _add_calls_of_c(builder: RowBuilder, elf: ElfFile, addr: int, size: int) -> None:
    """Describe what arm64's `asmcgocall` does from its calls on.

    Its frame pointer is the thread's own there. When C has returned, what was kept is still
    at the stack pointer, up to the move that goes back to the goroutine's stack.
    """
    code = elf.read_address(addr, min(size, MAX_SWITCH_BYTES))
    rule = builder.rule(
        cfa_kind=CfaKind.GO_CALL,
        cfa_reg=Reg.ARM_SP,
        cfa_add=_SWITCH_FRAME,
        ra_kind=RegKind.CFA,
        ra_offset=-_SWITCH_FRAME,
        fp_kind=RegKind.CFA,
        fp_offset=-_SWITCH_FRAME - 8,
    )
    back = builder.rule(
        cfa_reg=Reg.ARM_SP,
        cfa_offset=_SWITCH_FRAME,
        ra_kind=RegKind.CFA,
        ra_offset=-_SWITCH_FRAME,
        fp_kind=RegKind.CFA,
        fp_offset=-_SWITCH_FRAME - 8,
    )
    for at in range(0, len(code) - 3, 4):
        if code[at : at + 4] != _BLR_X1:
            continue
        moves = next((i for i in range(at, len(code) - 3, 4) if _MOV_TO_SP.match(code, i)), None)
        if moves is None:
            builder.add(addr + at, 4, 0, rule)
            continue
        builder.add(addr + at, moves + 4 - at, 0, rule)
        pop = code.find(_POP_LINK, moves)
        if pop >= 0 and pop % 4 == 0:
            builder.add(addr + moves + 4, pop - moves, 0, back)


def _text_start(elf: ElfFile, head: bytes, addr: int) -> int:
    """Find the address that function entries are relative to; 0 if the header or entries say it."""
    if len(head) < 32 or struct.unpack_from("<I", head)[0] == 0xFFFFFFFA:
        return 0
    (text,) = struct.unpack_from("<Q", head, 24)
    if text and elf.type == 2:
        return int(text)
    module = _module_data(elf, addr)
    if module is not None:
        text = _pointer(elf, module + _MODULE_TEXT)
        if _is_code(elf, text):
            return text
    section = elf.section(".text")
    return section.addr if section else 0


def _is_code(elf: ElfFile, addr: int) -> bool:
    return any(s.vaddr <= addr < s.vaddr + s.filesz for s in elf.executable_loads())


def _module_data(elf: ElfFile, table_addr: int) -> int | None:
    """Find `runtime.firstmoduledata`: its first word points to the table."""
    section = elf.section(".go.module")
    if section is not None:
        return section.addr
    wanted = struct.pack("<Q", table_addr)
    for segment in elf.loads():
        if not segment.flags & PF_W:
            continue
        data = elf.source.read_at(segment.offset, min(segment.filesz, MAX_SEARCH_BYTES))
        at = data.find(wanted)
        while at >= 0:
            text = data[at + _MODULE_TEXT : at + _MODULE_TEXT + 8]
            if at % 8 == 0 and len(text) == 8 and _is_code(elf, int.from_bytes(text, "little")):
                return segment.vaddr + at
            at = data.find(wanted, at + 1)
    return next((place for place, addend in _relocations(elf) if addend == table_addr), None)


def _relocations(elf: ElfFile) -> list[tuple[int, int]]:
    """List relative relocations as (place, value): the pointers of a position-independent file."""
    addr, size = elf.dynamic.get(_DT_RELA, 0), elf.dynamic.get(_DT_RELASZ, 0)
    offset = elf.offset_of(addr) if addr else None
    if offset is None:
        return []
    data = elf.source.read_at(offset, min(size, MAX_SEARCH_BYTES))
    entries = struct.iter_unpack("<QQq", data[: len(data) // 24 * 24])
    kind = _RELATIVE.get(elf.machine)
    return [(place, addend) for place, info, addend in entries if info == kind]


def _pointer(elf: ElfFile, addr: int) -> int:
    try:
        value = int.from_bytes(elf.read_address(addr, 8), "little")
    except BadElf:
        value = 0
    return value or next((v for place, v in _relocations(elf) if place == addr), 0)


def _search(elf: ElfFile) -> tuple[int, int, int] | None:
    """Search segments that are not code for a header: address, file offset and bytes left."""
    quantum = 4 if elf.machine == 183 else 1
    for magic in MAGICS:
        head = struct.pack("<IHBB", magic, 0, quantum, 8)
        for segment in elf.loads():
            limit = min(segment.filesz, MAX_SEARCH_BYTES)
            for start in range(0, limit, _PIECE):
                data = elf.source.read_at(segment.offset + start, _PIECE + 80)
                at = data.find(head)
                while at >= 0:
                    if _is_header(data[at : at + 80], limit - start - at):
                        place = start + at
                        return segment.vaddr + place, segment.offset + place, limit - place
                    at = data.find(head, at + 1)
    return None


def _is_header(head: bytes, room: int) -> bool:
    """Check counts and offsets of a possible header against the bytes that follow it."""
    if len(head) < 80:
        return False
    first = 24 if head[0] == 0xFA else 32
    functions = int.from_bytes(head[8:16], "little")
    offsets = struct.unpack_from("<5Q", head, first)
    return 0 < functions < room // 8 and all(
        a <= b < room for a, b in zip((first + 40, *offsets), offsets, strict=False)
    )

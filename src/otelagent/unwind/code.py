# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows for code that nothing describes, from its instructions (x86-64 only).

The C core follows every path through a function and keeps count of the stack
and of the frame pointer; a function whose paths contradict one another gets no
rows. So what there is can be trusted like call frame information.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.formats.elf import EM_X86_64
from otelagent.unwind.rows import PAGE_ENTRY_BYTES, RowTable, check_memory

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile, Segment
    from otelagent.unwind.rows import RowBuilder

RANK_CODE = 3
MAX_CODE_BYTES = 64 << 20
"""Larger segments are not looked at."""
MAX_GAPS = 65_536
MIN_GAP_BYTES = 1024
"""Less is what start files have: it runs only when a program begins and ends."""
_SYMBOL_BYTES = 24


def find_gaps(table: RowTable, start: int, end: int) -> list[tuple[int, int]]:
    """List the ranges of [start, end) without rows that are more than padding."""
    pages = ffi.from_buffer("struct oa_page_entry[]", table.pages)
    described = ffi.new("struct oa_rows_table *")
    rows = ffi.from_buffer("uint32_t[]", table.rows)
    described.pages, described.rows = pages, rows
    described.page_count = len(table.pages) // PAGE_ENTRY_BYTES
    described.row_count = table.row_count
    found = ffi.new("struct oa_range[]", MAX_GAPS)
    count = lib.oa_code_gaps(described, start, end, found, MAX_GAPS)
    return [(found[i].start, found[i].end) for i in range(min(count, MAX_GAPS))]


@dataclass(frozen=True, slots=True)
class Undescribed:
    """Code of a segment without rows: its gaps, as ELF address ranges."""

    segment: Segment
    gaps: list[tuple[int, int]]

    @property
    def size(self) -> int:
        """Bytes in all gaps."""
        return sum(end - start for start, end in self.gaps)


def find_undescribed(elf: ElfFile, table: RowTable) -> list[Undescribed]:
    """List code that `table`, what all other sources gave, says nothing about; empty if little."""
    if elf.machine != EM_X86_64:
        return []
    found = [
        Undescribed(segment, gaps)
        for segment in elf.executable_loads()
        if (gaps := find_gaps(table, segment.vaddr, segment.vaddr + _looked_at(segment)))
    ]
    return found if sum(each.size for each in found) >= MIN_GAP_BYTES else []


def _looked_at(segment: Segment) -> int:
    return segment.filesz if segment.filesz <= MAX_CODE_BYTES else 0


def add_code(builder: RowBuilder, elf: ElfFile, found: list[Undescribed]) -> str:
    """Add the rows of undescribed code. Returns a line for people.

    Raises:
        BadElf: A symbol table cannot be read.
    """
    stats = ffi.new("struct oa_code_stats *")
    symbols = read_symbols(elf)
    for each in found:
        data = elf.source.read_at(each.segment.offset, _looked_at(each.segment))
        wanted = ffi.new("struct oa_range[]", each.gaps)
        held = [ffi.from_buffer("uint8_t[]", piece) for piece in (data, symbols)]
        described = ffi.new(
            "struct oa_code *",
            {
                "data": held[0],
                "size": len(data),
                "addr": each.segment.vaddr,
                "gaps": wanted,
                "gap_count": len(each.gaps),
                "symbols": held[1],
                "symbol_count": len(symbols) // _SYMBOL_BYTES,
                "machine": elf.machine,
                "rank": RANK_CODE,
            },
        )
        check_memory(lib.oa_code_rows(builder.raw, described, stats))
    line = f"code: {stats.functions - stats.wrong} functions by their instructions"
    return f"{line}; {stats.wrong} not understood" if stats.wrong else line


def read_symbols(elf: ElfFile) -> bytes:
    """Read the entries of `.symtab` and `.dynsym`, one after the other.

    Raises:
        BadElf: They cannot be read.
    """
    tables = (table for table, _ in elf.symbol_tables())
    return b"".join(table[: len(table) // _SYMBOL_BYTES * _SYMBOL_BYTES] for table in tables)

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Rows for code that nothing describes, from its instructions.

The C core follows every path through a function and keeps count of the stack
and of the frame pointer; a function whose paths contradict one another gets no
rows. So what there is can be trusted like call frame information. There is much less such
code for arm64, and `code_arm64` does the same for it.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otelagent._native import ffi, lib
from otelagent.abi._generated import Row
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, SHF_EXECINSTR
from otelagent.unwind import code_arm64
from otelagent.unwind.rows import PAGE_ENTRY_BYTES, RowBuilder, RowTable, check_memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otelagent.formats.elf import ElfFile, Segment

RANK_CODE = 3
MAX_CODE_BYTES = 1 << 30
"""Larger segments are not looked at."""
FRAMES_BYTES = 24 << 20
"""Of more undescribed code than this only samples are read, to see if it keeps frame pointers."""
MIN_FRAMES_SHARE = 0.95
MAX_GAPS = 65_536
MIN_GAP_BYTES, MIN_GAP_SHARE = 1024, 1 / 4096
"""Less is what start files have: it runs only when a program begins and ends."""
MIN_BUILTINS_BYTES = 64 << 10
"""V8's built-in functions are larger."""
_BLOB = ("v8_Default_embedded_blob_code_", "v8_Default_embedded_blob_code_size_")
_SYMBOL_BYTES = 24
_SAMPLES, _SAMPLE_BYTES = 64, 32 << 10


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

    @property
    def is_large(self) -> bool:
        """Whether only samples of it are read."""
        return self.size > FRAMES_BYTES

    def pieces(self) -> Iterator[tuple[int, int]]:
        """List what of the gaps is read: all, or samples at equal distances."""
        if not self.is_large:
            yield from self.gaps
            return
        step, at = self.size // _SAMPLES, 0
        for start, end in self.gaps:
            for sample in range(-(-at // step) * step, at + end - start, step):
                first = start + sample - at
                yield first, min(first + _SAMPLE_BYTES, end)
            at += end - start

    def read(self, elf: ElfFile, start: int, end: int) -> bytes:
        """Read its code at ELF addresses."""
        return elf.source.read_at(start - self.segment.vaddr + self.segment.offset, end - start)

    def read_gaps(self, elf: ElfFile) -> mmap.mmap:
        """Read the code of all gaps, from the first one's start on; between them are zeros."""
        first = self.gaps[0][0]
        code = mmap.mmap(-1, self.gaps[-1][1] - first)  # pages that are not written cost nothing
        for start, end in self.gaps:
            data = self.read(elf, start, end)
            code[start - first : start - first + len(data)] = data
        return code


def find_undescribed(elf: ElfFile, table: RowTable) -> list[Undescribed]:
    """List code that `table`, what all other sources gave, says nothing about; empty if little."""
    found = [
        Undescribed(segment, gaps)
        for segment in elf.executable_loads()
        if (gaps := find_gaps(table, segment.vaddr, segment.vaddr + _looked_at(elf, segment)))
    ]
    if elf.machine == EM_AARCH64:
        found = [only for each in found if (only := _only_code(elf, each)).gaps]
    whole = sum(each.segment.filesz for each in found)
    enough = max(MIN_GAP_BYTES, whole * MIN_GAP_SHARE)
    return found if sum(each.size for each in found) >= enough else []


def _only_code(elf: ElfFile, found: Undescribed) -> Undescribed:
    """Leave out what sections show to be none: the vDSO's headers are in the same segment."""
    code = [
        (s.addr, s.addr + s.size)
        for s in elf.sections
        if s.flags & SHF_EXECINSTR and not s.addr & 3
    ]
    gaps = [
        (max(start, first), min(end, last))
        for start, end in found.gaps
        for first, last in code
        if start < last and first < end
    ]
    return Undescribed(found.segment, gaps if code else found.gaps)


def _looked_at(elf: ElfFile, segment: Segment) -> int:
    """Tell how many bytes of a segment are looked at: those that are in the file."""
    there = min(segment.filesz, max(elf.source.size - segment.offset, 0))
    return there if there <= MAX_CODE_BYTES else 0


def add_code(builder: RowBuilder, elf: ElfFile, found: list[Undescribed]) -> str:
    """Add the rows of undescribed code. Returns a line for people.

    Raises:
        BadElf: A symbol table cannot be read.
    """
    if elf.machine == EM_AARCH64:
        return _add_arm64(builder, elf, found)
    stats = ffi.new("struct oa_code_stats *")
    for each in found:
        if each.is_large:
            return _add_frames(builder, elf, each)
        code, symbols = each.read_gaps(elf), read_symbols(elf, each.gaps)
        framed = _framed_calls(elf) if each.size >= MIN_BUILTINS_BYTES else (0, 0)
        _derive(builder, (each.gaps[0][0], code), each.gaps, symbols, stats, framed_calls=framed)
    line = f"code: {stats.functions - stats.wrong} functions by their instructions"
    return f"{line}; {stats.wrong} not understood" if stats.wrong else line


def _add_arm64(builder: RowBuilder, elf: ElfFile, found: list[Undescribed]) -> str:
    whole = sum(each.size for each in found)
    if whole > code_arm64.MAX_CODE_BYTES:
        return f"code: {whole} bytes without information are too many to look at"
    covered = 0
    for each in found:
        for start, end in each.gaps:
            symbols = struct.iter_unpack("<IBBHQQ", read_symbols(elf, [(start, end)]))
            starts = [value for _, _, _, _, value, _ in symbols if not value & 3]
            code = each.read(elf, start, end)
            covered += code_arm64.add_rows(builder, start, code, starts, RANK_CODE)
    return f"code: {covered} of {whole} bytes by their instructions"


def _framed_calls(elf: ElfFile) -> tuple[int, int]:
    """Find V8's built-in functions: it walks its stacks by frame pointers, so calls have one.

    Some of them cannot be followed, such as those that pop the return address and go on with
    a number of arguments that is known at run time only.
    """
    found = elf.find_symbols(*_BLOB)
    if len(found) < len(_BLOB):
        return 0, 0
    start, size = (found[name].value for name in _BLOB)
    return start, start + int.from_bytes(elf.read_address(size, 4), "little")


def _derive(
    builder: RowBuilder,
    code: tuple[int, bytes | mmap.mmap],
    gaps: list[tuple[int, int]],
    symbols: bytes,
    stats: Any,  # noqa: ANN401 (cdata)
    *,
    frames: bool = False,
    framed_calls: tuple[int, int] = (0, 0),
) -> None:
    """Let the C core add rows for the gaps of some code at an address."""
    addr, data = code
    wanted = ffi.new("struct oa_range[]", gaps)
    held = [ffi.from_buffer("uint8_t[]", piece) for piece in (data, symbols)]
    described = ffi.new(
        "struct oa_code *",
        {
            "data": held[0],
            "size": len(data),
            "addr": addr,
            "gaps": wanted,
            "gap_count": len(gaps),
            "symbols": held[1],
            "symbol_count": len(symbols) // _SYMBOL_BYTES,
            "machine": EM_X86_64,
            "rank": RANK_CODE,
            "frames": frames,
            "framed_calls": framed_calls,
        },
    )
    check_memory(lib.oa_code_rows(builder.raw, described, stats))


def _add_frames(builder: RowBuilder, elf: ElfFile, large: Undescribed) -> str:
    """Look at samples of much code; say of all of it that it keeps frame pointers if they do."""
    stats = ffi.new("struct oa_code_stats *")
    scratch = RowBuilder([(large.segment.vaddr, large.segment.vaddr + large.segment.filesz)])
    for start, end in large.pieces():
        code = (start, large.read(elf, start, end))
        _derive(scratch, code, [(start, end)], b"", stats, frames=True)
    share = stats.framed / max(stats.known, 1)
    if share < MIN_FRAMES_SHARE:
        return f"code: no frame pointers in {1 - share:.1%} of its samples"
    for start, end in large.gaps:
        builder.add(start, end - start, RANK_CODE, Row.FRAME_CODE)
    return f"code: frame pointers, to judge from samples ({share:.1%} of them)"


def read_symbols(elf: ElfFile, gaps: Iterable[tuple[int, int]]) -> bytes:
    """Read the entries of `.symtab` and `.dynsym` of functions that begin in sorted ranges.

    Parts of functions that lie elsewhere (`f.cold`) are left out: no function begins there.

    Raises:
        BadElf: They cannot be read.
    """
    ranges = ffi.new("struct oa_range[]", list(gaps))
    kept = []
    for symbols, strings in elf.symbol_tables():
        count = len(symbols) // _SYMBOL_BYTES
        wanted = ffi.new("uint8_t[]", count * _SYMBOL_BYTES)
        held = ffi.from_buffer("uint8_t[]", symbols), ffi.from_buffer("char[]", strings)
        found = lib.oa_code_symbols(
            held[0], count, held[1], len(strings), ranges, len(ranges), wanted
        )
        kept.append(bytes(ffi.buffer(wanted, found * _SYMBOL_BYTES)))
    return b"".join(kept)

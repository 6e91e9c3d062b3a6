# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where in an ELF file CPython's eval loop lies.

That is the function `_PyEval_EvalFrameDefault` and the parts that the compiler
moved away from it (`.cold`; in some builds nearly the whole loop). A part has a
frame description entry (FDE) of its own and no symbol in stripped files. It is
told from an ordinary function that the loop calls last by jumps: a part jumps
back into the middle of the function.

In tail-calling interpreters (3.14, `--with-tail-call-interp`) each instruction
is a function called from this one; those stay native frames.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, PT_GNU_EH_FRAME, ElfFile

if TYPE_CHECKING:
    from collections.abc import Iterator

Range = tuple[int, int]

FUNCTION = "_PyEval_EvalFrameDefault"
MAX_FUNCTION_BYTES = 1 << 20
MAX_PARTS = 8
MAX_ROUNDS = 4
_MAX_TABLE_ENTRIES = 1 << 20
_HEADER = struct.Struct("<4B")
_TABLE_ENCODINGS = (1, 0x1B, 0x03, 0x3B)  # version; sdata4 pcrel, udata4, sdata4 datarel


class FrameRanges:
    """Address ranges of FDEs, by the search table of `.eh_frame_hdr`. Empty if there is none."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self._base = 0
        self._table = array("i")  # pairs: start, FDE; sorted, and relative to the table
        for segment in elf.segments:
            if segment.type == PT_GNU_EH_FRAME and segment.filesz >= 12:
                self._read_table(segment.vaddr, segment.filesz)

    def _read_table(self, base: int, size: int) -> None:
        head = self._elf.read_address(base, 12)
        if tuple(_HEADER.unpack_from(head)) != _TABLE_ENCODINGS:
            return
        (count,) = struct.unpack_from("<I", head, 8)
        if count > _MAX_TABLE_ENTRIES or 12 + count * 8 > size:
            return
        self._base = base
        self._table = array("i", self._elf.read_address(base + 12, count * 8))

    def find(self, addr: int) -> Range | None:
        """Find the range of the FDE that covers an ELF address."""
        pairs = range(len(self._table) // 2)
        at = bisect_right(pairs, addr - self._base, key=lambda pair: self._table[2 * pair]) - 1
        if at < 0:
            return None
        start = self._base + self._table[2 * at]
        try:
            size = self._size(self._base + self._table[2 * at + 1])
        except BadElf:
            return None
        return (start, start + size) if addr < start + size <= start + MAX_FUNCTION_BYTES else None

    def _size(self, fde: int) -> int:
        """Read the length of code that an FDE covers: behind length, CIE pointer and start.

        Pointers of 4 bytes (pcrel sdata4) are what every linker with a search
        table writes; anything else would not fit the size check of `find`.
        """
        (size,) = struct.unpack("<I", self._elf.read_address(fde + 12, 4))
        return int(size)


def iter_jumps_x86(code: bytes, addr: int) -> Iterator[int]:
    """Iterate over targets of what looks like `jmp rel32` (e9) or `jcc rel32` (0f 8x).

    Instructions are not decoded, so some are false: who asks must confirm them.
    """
    for opcode in (b"\xe9", *(bytes((0x0F, 0x80 + condition)) for condition in range(16))):
        at = code.find(opcode)
        while 0 <= at <= len(code) - len(opcode) - 4:
            end = at + len(opcode) + 4
            yield addr + end + int(struct.unpack_from("<i", code, end - 4)[0])
            at = code.find(opcode, at + 1)


def iter_jumps_arm(code: bytes, addr: int) -> Iterator[int]:
    """Iterate over targets of b, b.cond, cbz/cbnz and tbz/tbnz."""
    for at in range(0, len(code) & ~3, 4):
        (word,) = struct.unpack_from("<I", code, at)
        if word & 0xFC000000 == 0x14000000:
            bits, shift = 26, 0
        elif word & 0xFF000010 == 0x54000000 or word & 0x7E000000 == 0x34000000:
            bits, shift = 19, 5
        elif word & 0x7E000000 == 0x36000000:
            bits, shift = 14, 5
        else:
            continue
        offset = word >> shift & (1 << bits) - 1
        yield addr + at + 4 * (offset - (offset >> (bits - 1) << bits))


_JUMPS = {EM_X86_64: iter_jumps_x86, EM_AARCH64: iter_jumps_arm}


def _jumps(elf: ElfFile, part: Range) -> set[int]:
    code = elf.read_address(part[0], part[1] - part[0])
    return set(_JUMPS[elf.machine](code, part[0]))


def _is_inside(addr: int, part: Range) -> bool:
    """Tell whether an address lies behind the first instruction of a range."""
    return part[0] < addr < part[1]


def find_eval_loop(elf: ElfFile, start: int, size: int) -> tuple[Range, ...]:
    """List the ranges of the eval loop, by address.

    Args:
        elf: The file.
        start: ELF address of `_PyEval_EvalFrameDefault`.
        size: Of the symbol; 0 if it is not known.

    Raises:
        BadElf: The function's bytes are not in the file, or it has no size.
    """
    frames = FrameRanges(elf)
    covered = frames.find(start)
    if covered and covered[0] == start:
        size = max(size, covered[1] - start)
    if not 0 < size <= MAX_FUNCTION_BYTES or elf.machine not in _JUMPS:
        raise BadElf(f"{FUNCTION} has {size} bytes")
    parts = [(start, start + size)]
    rejected: set[Range] = set()
    for _ in range(MAX_ROUNDS):
        news = _find_parts(elf, frames, parts, rejected)
        parts += news
        if not news or len(parts) > MAX_PARTS:
            break
    return tuple(sorted(parts[:MAX_PARTS]))


def _find_parts(
    elf: ElfFile, frames: FrameRanges, parts: list[Range], rejected: set[Range]
) -> list[Range]:
    """Find ranges that the parts known so far jump to and that jump back into them."""
    news: list[Range] = []
    for target in sorted({target for part in parts for target in _jumps(elf, part)}):
        if any(start <= target < end for start, end in (*parts, *news)):
            continue
        found = frames.find(target)
        if not found or found in rejected:
            continue
        back = _jumps(elf, found)
        if any(_is_inside(addr, part) for addr in back for part in parts):
            news.append(found)
        else:
            rejected.add(found)
    return news

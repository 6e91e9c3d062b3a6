# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Blanks what an ELF file says of functions that are in no stack.

Symbols become undefined ones without a name; frame description entries (FDEs) of
neighbours become one, so that their code stays described, if not rightly. What is
left is what the file says.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otelagent.errors import BadElf, TargetError
from otelagent.formats.elf import ElfFile
from otelagent.namers import detect
from otelagent.symbolize.symtab import symbol_sections

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.formats.elf import Section, Source

Edit = tuple[int, bytes]
"""A file offset and what is to be there."""
_SYMBOL = struct.Struct("<IBBHQQ")
KEPT_NAMES = re.compile(
    rb"_PyRuntime|Py_Version|PyInterpreterState_Head|_PyEval_EvalFrameDefault.*|exit|pthread_exit"
    rb"|makecontext|setcontext|runtime\..*|go:.*"
)
"""Names that are looked up."""
NEAR_BYTES = 64 << 10
"""A symbol without a size may own addresses up to here."""
MIN_RECORDS = 160
"""So many records stay: files with few are taken for such that describe nothing."""


def blank_symbols(source: Source, addresses: set[int]) -> list[Edit]:
    """Blank the symbols that own none of some ELF addresses, and their names."""
    try:
        elf = ElfFile(source)
        sections = list(symbol_sections(elf))
        return [edit for pair in sections for edit in _blank_table(elf, pair, addresses)]
    except BadElf:
        return []


def _blank_table(elf: ElfFile, pair: tuple[Section, Section], addresses: set[int]) -> list[Edit]:
    symbols, strings = pair
    table, names = bytearray(elf.section_data(symbols)), elf.section_data(strings)
    kept: list[tuple[int, bytes]] = []
    left = bytearray(names)  # with what symbols do not name, such as the library's own name
    for at in range(0, len(table) // _SYMBOL.size * _SYMBOL.size, _SYMBOL.size):
        name_at, _, _, _, value, size = _SYMBOL.unpack_from(table, at)
        end = names.find(b"\0", name_at)
        name = names[name_at:end]
        reach = size or NEAR_BYTES
        is_owner = any(value <= each < value + reach for each in addresses)
        if value and (is_owner or KEPT_NAMES.fullmatch(name)):
            kept.append((name_at, name))
        else:
            left[name_at:end] = bytes(len(name))
            table[at : at + _SYMBOL.size] = bytes(_SYMBOL.size)
    for name_at, name in kept:  # linkers let a name be the tail of a longer one
        left[name_at : name_at + len(name)] = name
    return [(symbols.offset, bytes(table)), (strings.offset, bytes(left))]


@dataclass(frozen=True, slots=True)
class _Record:
    """An FDE: file offsets of its bytes, offset of its CIE, and the code that it describes."""

    start: int
    end: int
    cie: int
    first: int
    last: int


def blank_frames(source: Source, addresses: set[int]) -> list[Edit]:
    """Join the FDEs of `.eh_frame` that describe none of some ELF addresses."""
    try:
        elf = ElfFile(source)
        section = elf.section(".eh_frame")
        if section is None:
            return []
        data = elf.section_data(section)
        interpreter = detect(elf)
    except TargetError:
        return []
    loop = interpreter.eval_loop if interpreter else ()  # its parts are found by their FDEs
    wanted = addresses | {start for start, _ in loop}
    records = list(_records(data, section.addr))
    if any(record is None for record in records):
        return []
    run_most = max(len(records) // MIN_RECORDS, 1)
    edits: list[Edit] = []
    run: list[_Record] = []
    for record in [*records, None]:
        if run and (record is None or not _joins(run, record, wanted) or len(run) >= run_most):
            edits += _join(run, section.addr, section.offset)
            run = []
        if record is not None and not any(record.first <= a < record.last for a in wanted):
            run.append(record)
    return edits


def _joins(run: list[_Record], record: _Record, wanted: set[int]) -> bool:
    previous = run[-1]
    is_next = previous.end == record.start and previous.cie == record.cie
    is_free = not any(run[0].first <= each < record.last for each in wanted)
    return is_next and previous.last <= record.first and is_free


def _records(data: bytes, addr: int) -> Iterator[_Record | None]:
    """Go through the FDEs of plain kind: 32-bit, positions relative and of 4 bytes."""
    at = 0
    while at + 16 <= len(data):
        length, pointer = struct.unpack_from("<II", data, at)
        if not length:
            return
        end = at + 4 + length
        if length == 0xFFFFFFFF or end > len(data):
            yield None
            return
        if pointer and length >= 12:
            cie = at + 4 - pointer
            if cie < 0 or not _is_plain(data, cie):
                yield None
                return
            begin, size = struct.unpack_from("<iI", data, at + 8)
            first = addr + at + 8 + begin
            yield _Record(at, end, cie, first, first + size)
        at = end


def _is_plain(data: bytes, cie: int) -> bool:
    """Tell whether the augmentation of a CIE is `zR`, or more."""
    return data[cie + 8 : cie + 11] == b"\x01zR" or data[cie + 8 : cie + 11] == b"\x01zP"


def _join(run: list[_Record], addr: int, offset: int) -> list[Edit]:
    """Make one FDE of a run, with nothing but the rules of its CIE."""
    first, last = run[0], run[-1]
    size = last.end - first.start
    head = struct.pack(
        "<IIiI",
        size - 4,
        first.start + 4 - first.cie,
        first.first - (addr + first.start + 8),
        last.last - first.first,
    )
    return [(offset + first.start, head + bytes(size - len(head)))]

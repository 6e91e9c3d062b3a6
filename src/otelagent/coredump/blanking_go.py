# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Blanks what a Go program's function table says of functions that are in no stack.

Of the formats of Go 1.18 and newer (see `formats.gopclntab`). Other functions keep their
place in the table, and share descriptions: a frame of no size.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import ElfFile
from otelagent.unwind.go import find_go_table

if TYPE_CHECKING:
    from otelagent.coredump.blanking import Edit
    from otelagent.formats.elf import Source

_MAGICS = (0xFFFFFFF0, 0xFFFFFFF1)
_FUNC = struct.Struct("<IiiIIIII")  # entry, name, args, deferreturn, pcsp, pcfile, pcln, npcdata
_MOST_BYTES = 16 << 10
"""A table of one function is not longer."""


def blank_go(source: Source, addresses: set[int]) -> list[Edit]:
    """Blank the tables of Go functions that own none of some ELF addresses."""
    try:
        elf = ElfFile(source)
        table = find_go_table(elf)
        offset = elf.offset_of(table.addr) if table else None
    except BadElf:
        return []
    if table is None or offset is None or table.size < 72:
        return []
    data = bytearray(table.read(elf))
    if struct.unpack_from("<I", data)[0] not in _MAGICS:
        return []
    try:
        _blank(data, {each - table.text for each in addresses})
    except struct.error:
        return []
    return [(offset, bytes(data))]


def _blank(data: bytearray, wanted: set[int]) -> None:
    count, _, _, _, _, _, pctab, pcln = struct.unpack_from("<8Q", data, 8)
    entries = list(struct.iter_unpack("<II", data[pcln : pcln + count * 8]))
    # Behind the last function is where the code ends.
    ends = [entry for entry, _ in entries[1:]]
    ends += struct.unpack_from("<I", data, pcln + count * 8)
    kept: set[int] = set()
    others = []
    for (entry, at), end in zip(entries, ends, strict=True):
        if any(entry <= each < end for each in wanted):
            kept |= _tables(data, pcln + at)
        else:
            others.append((pcln + at, end - entry))
    starts = sorted(kept.union(*(_tables(data, at) for at, _ in others)) | {pcln - pctab})
    pieces = []
    for start in kept:
        stop = next(each for each in starts if each > start)
        stop = min(stop, start + _MOST_BYTES)
        pieces.append((pctab + start, bytes(data[pctab + start : pctab + stop])))
    data[pctab:pcln] = bytes(pcln - pctab)
    for at, piece in pieces:
        data[at : at + len(piece)] = piece
    room = _Room(data, pieces, pctab, pcln)
    for at, code_bytes in others:
        shared = room.place(code_bytes)
        entry, _, _, _, _, _, _, tables = _FUNC.unpack_from(data, at)
        _FUNC.pack_into(data, at, entry, 0, 0, 0, shared - pctab, 0, 0, tables)
        size = _more_bytes(data) + 4 * tables
        data[at + _FUNC.size : at + _FUNC.size + size] = bytes(size)


def _tables(data: bytearray, at: int) -> set[int]:
    """List where in the table of values those of a function begin."""
    _, _, _, _, pcsp, pcfile, pcln, tables = _FUNC.unpack_from(data, at)
    first = at + _FUNC.size + _more_bytes(data)
    others = struct.unpack_from(f"<{min(tables, 64)}I", data, first)
    return {pcsp, pcfile, pcln, *others} - {0}


def _more_bytes(data: bytearray) -> int:
    """Tell what lies between a function's fixed fields and its list of tables."""
    return 12 if struct.unpack_from("<I", data)[0] == _MAGICS[1] else 8


class _Room:
    """What is free of the table of values; holds one table for each size of function."""

    def __init__(
        self, data: bytearray, pieces: list[tuple[int, bytes]], start: int, end: int
    ) -> None:
        self._data = data
        self._taken = sorted((at, at + len(piece)) for at, piece in pieces)
        self._at = start + 1
        self._end = end
        self._places: dict[int, int] = {}

    def place(self, code_bytes: int) -> int:
        """Give the table of a function of a size: from the value -1 to 0, for all of it."""
        found = self._places.get(code_bytes)
        if found is None:
            table = b"\x02" + _varint(code_bytes) + b"\0"
            for start, end in self._taken:
                if start < self._at + len(table) and self._at < end:
                    self._at = end
            found = min(self._at, self._end - len(table))
            self._data[found : found + len(table)] = table
            self._places[code_bytes] = found
            self._at = found + len(table)
        return found


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])

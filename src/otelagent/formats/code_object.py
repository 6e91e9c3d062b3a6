# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Line tables of CPython code objects: offset of an instruction → source line.

Three formats, each documented in CPython's own tree: `co_lnotab` up to 3.9
(`Objects/lnotab_notes.txt`), `co_linetable` of 3.10 (the same file, 3.10), the
location table from 3.11 on (`Objects/locations.md`). Offsets are in bytes, and
the tables come from memory that may change while it is read: whatever the bytes
are, the answer is a number, at the latest after one pass over them.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NO_LINE = 0
_MAX_VARINT_BYTES = 6  # 36 bits: more than any line number has


class LineTable(Enum):
    """Which of the three formats."""

    LNOTAB = "lnotab"
    RANGES = "ranges"
    LOCATIONS = "locations"


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def iter_lnotab(table: bytes, first_line: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over `(start, end, line)` of a `co_lnotab`; the last end is open (2^31)."""
    start, at, line = 0, 0, first_line
    for step, delta in zip(table[::2], table[1::2], strict=False):
        if step:
            if at + step > start:
                yield start, at + step, line
            at += step
            start = at
        line += _signed(delta)
    yield start, 1 << 31, line


def iter_ranges(table: bytes, first_line: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over `(start, end, line)` of 3.10's `co_linetable`; without a line: `NO_LINE`."""
    start, line = 0, first_line
    for size, delta in zip(table[::2], table[1::2], strict=False):
        has_line = delta != 128
        if has_line:
            line += _signed(delta)
        if size:
            yield start, start + size, line if has_line else NO_LINE
        start += size


def _varint(table: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned number of 6-bit groups, lowest first: (value, where it ends)."""
    value = 0
    for group in range(_MAX_VARINT_BYTES):
        if at >= len(table):
            break
        byte = table[at]
        at += 1
        value |= (byte & 63) << (6 * group)
        if not byte & 64:
            break
    return value, at


def _line_delta(table: bytes, at: int, code: int) -> int:
    """How far an entry's line is from the one before."""
    if code in (13, 14):
        value, _ = _varint(table, at)
        return -(value >> 1) if value & 1 else value >> 1
    return code - 10 if 10 <= code <= 12 else 0


def iter_locations(table: bytes, first_line: int) -> Iterator[tuple[int, int, int]]:
    """Iterate over `(start, end, line)` of a location table (3.11 and later)."""
    start, line, at = 0, first_line, 0
    while at < len(table):
        head = table[at]
        code = head >> 3 & 15
        end = start + ((head & 7) + 1) * 2
        line += _line_delta(table, at + 1, code)
        yield start, end, NO_LINE if code == 15 else line
        start = end
        at += 1
        while at < len(table) and not table[at] & 128:  # an entry begins with the top bit
            at += 1


ITERATORS = {
    LineTable.LNOTAB: iter_lnotab,
    LineTable.RANGES: iter_ranges,
    LineTable.LOCATIONS: iter_locations,
}


def find_line(kind: LineTable, table: bytes, first_line: int, offset: int) -> int:
    """Find the line of the instruction at `offset`, or `NO_LINE`.

    A frame that has not begun has a negative offset; as in CPython, its line is
    the function's first.
    """
    if offset < 0:
        return first_line
    for start, end, line in ITERATORS[kind](table, first_line):
        if start <= offset < end:
            return line if 0 < line < 1 << 31 else NO_LINE
    return NO_LINE

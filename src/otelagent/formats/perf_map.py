# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`/tmp/perf-PID.map`: code that a JIT compiler made, one `START SIZE name` a line.

Both numbers are hexadecimal. Memory is used again: of two lines for one
address the later one holds.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right

MAX_ENTRIES = 500_000
MAX_NAME_BYTES = 4096
_MAX_CODE_BYTES = 1 << 30
_LOOK_BACK = 32


class CodeMap:
    """Ranges of code with their names, where later ones hide earlier ones.

    Names stay where they are: an entry has a number that the owner gives a
    meaning to (an offset in a file, an index in a list). Not to be shared between threads.
    """

    def __init__(self) -> None:
        self._starts = array("Q")
        self._ends = array("Q")
        self._numbers = array("Q")
        self._orders = array("L")
        self._added: list[tuple[int, int, int, int]] = []
        self._next = 0

    def __len__(self) -> int:
        return len(self._starts) + len(self._added)

    def add(self, start: int, size: int, number: int) -> bool:
        """Add a range; False if there is no more room, or it is none."""
        if not 0 < size <= _MAX_CODE_BYTES or not 0 <= start < (1 << 64) - size:
            return False
        if self._next >= MAX_ENTRIES:
            return False
        self._added.append((start, self._next, start + size, number))
        self._next += 1
        return True

    def find(self, addr: int) -> tuple[int, int] | None:
        """Find the newest range that holds `addr`: its start and number."""
        if self._added:
            self._merge()
        at = bisect_right(self._starts, addr) - 1
        best = -1
        for i in range(at, max(at - _LOOK_BACK, -1), -1):
            if addr < self._ends[i] and (best < 0 or self._orders[i] > self._orders[best]):
                best = i
        return None if best < 0 else (self._starts[best], self._numbers[best])

    def _merge(self) -> None:
        """Sort the new ranges in; one that begins where an old one began replaces it."""
        rows = {
            row[0]: (row[3], row[1], row[2])
            for row in zip(self._starts, self._ends, self._numbers, self._orders, strict=True)
        }
        for start, order, end, number in self._added:
            rows[start] = (order, end, number)
        self._added.clear()
        ordered = sorted(rows)
        self._starts = array("Q", ordered)
        self._orders = array("L", (rows[start][0] for start in ordered))
        self._ends = array("Q", (rows[start][1] for start in ordered))
        self._numbers = array("Q", (rows[start][2] for start in ordered))


def parse_perf_map(data: bytes, into: CodeMap, base: int = 0) -> int:
    """Add the whole lines of `data` to a map; the number of a range is its name's offset.

    Args:
        data: A piece of the file that begins at the start of a line.
        into: Where ranges are added.
        base: The piece's offset in the file.

    Returns:
        Bytes used: up to the end of the last whole line.
    """
    at = 0
    while (end := data.find(b"\n", at)) >= 0:
        parts = data[at : min(end, at + 64)].split(b" ", 2)
        if len(parts) == 3:
            try:
                start, size = int(parts[0], 16), int(parts[1], 16)
            except ValueError:
                size = start = 0
            into.add(start, size, base + at + len(parts[0]) + len(parts[1]) + 2)
        at = end + 1
    return at

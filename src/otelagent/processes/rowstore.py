# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where unwind rows live for BPF: a pool of mmapable chunks, a page table, shared rules.

Rows of a file are copied into the pool page by page (a page never straddles
two chunks), with the file's own rule numbers replaced by those of the whole
machine. A freed range is used again only after a grace period: a program may
still hold a page that it looked up before.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from otelagent._native import ffi, lib
from otelagent.abi._generated import Limit
from otelagent.errors import AgentError, KernelError, TargetError

if TYPE_CHECKING:
    from collections.abc import Callable

    from otelagent.bpf.maps import ArrayOfMaps, HashMap, InnerArray, Mapped
    from otelagent.unwind.extract import RowTable

_PAGE = struct.Struct("=III")
_PAGE_KEY = struct.Struct("=QQ")
_PAGE_VALUE = struct.Struct("=IIII")
GRACE_NS = 1_000_000_000


@dataclass(slots=True)
class Stored:
    """Rows of one file in the pool, to be given back with `RowStore.unload`."""

    keys: bytes
    runs: list[tuple[int, int, int]] = field(default_factory=list)
    """(chunk, first row, rows) that it occupies."""

    @property
    def rows(self) -> int:
        """How many rows of the pool it occupies."""
        return sum(count for _, _, count in self.runs)


class RowStore:
    """The only writer of the maps `rows`, `rules` and `pages`. Used by one thread."""

    def __init__(
        self,
        chunks: ArrayOfMaps,
        rules: Mapped,
        pages: HashMap,
        now_ns: Callable[[], int],
        max_chunks: int = Limit.MAX_CHUNKS,
    ) -> None:
        self._outer = chunks
        self._rules = rules
        self._pages = pages
        self._now_ns = now_ns
        self._max_chunks = max_chunks
        self._rule_numbers: dict[bytes, int] = {}
        self._chunks: list[tuple[InnerArray, Mapped]] = []
        self._free: list[tuple[int, int, int]] = []
        self._graveyard: deque[tuple[int, list[tuple[int, int, int]]]] = deque()
        self.page_count = 0
        """Entries of the map `pages`."""

    @property
    def chunk_pointers(self) -> list[Mapped]:
        """The chunks' memory, by number: the host build searches the same rows."""
        return [mapped for _, mapped in self._chunks]

    def load(self, file_id: int, table: RowTable) -> Stored:
        """Copy a file's rows into the pool and make them visible to BPF.

        Raises:
            TargetError: The pool or the rule table is full.
        """
        numbers = self._number_rules(table.rules)
        stored = Stored(b"")
        try:
            values = self._place(file_id, table, numbers, stored)
            if values:
                self._pages.update_many(stored.keys, values)
            self.page_count += len(stored.keys) // _PAGE_KEY.size
        except AgentError as err:
            self._take_back(stored)
            if isinstance(err, KernelError):
                raise TargetError(f"unwind rows cannot be stored: {err}") from err
            raise
        return stored

    def _place(self, file_id: int, table: RowTable, numbers: bytes, stored: Stored) -> bytes:
        """Copy rows into the pool; returns the values that go with `stored.keys`."""
        keys, values = bytearray(), bytearray()
        at = 0
        listed = list(_PAGE.iter_unpack(table.pages))
        while at < len(listed):
            taken, run = self._take(listed, at)
            stored.runs.append(run)
            chunk, start, count = run
            first_row = listed[at][1]
            self._copy(table.rows, first_row, count, chunk, start, numbers)
            for page, first, rows in listed[at : at + taken]:
                keys += _PAGE_KEY.pack(file_id, page)
                values += _PAGE_VALUE.pack(chunk, start + first - first_row, rows, 0)
            at += taken
        stored.keys = bytes(keys)
        return bytes(values)

    def unload(self, stored: Stored) -> None:
        """Take a file's rows away; their room is used again after the grace period."""
        self.page_count -= len(stored.keys) // _PAGE_KEY.size
        self._take_back(stored)

    def fills(self) -> dict[str, tuple[int, int]]:
        """Tell how much of the pool and of the rules is taken, and how much there is."""
        return {
            "rows": (len(self._chunks), self._max_chunks),
            "rules": (len(self._rule_numbers), int(Limit.MAX_RULES)),
        }

    def _take_back(self, stored: Stored) -> None:
        if stored.keys:
            self._pages.delete_many(stored.keys)
        self._graveyard.append((self._now_ns() + GRACE_NS, stored.runs))

    def _number_rules(self, rules: bytes) -> bytes:
        """Give each of a file's rules its machine-wide number: u32 each."""
        size = ffi.sizeof("struct oa_rule")
        numbers = bytearray()
        for at in range(0, len(rules), size):
            rule = rules[at : at + size]
            number = self._rule_numbers.get(rule)
            if number is None:
                number = len(self._rule_numbers)
                if number >= Limit.MAX_RULES:
                    raise TargetError("more distinct unwind rules than there is room for")
                self._rules.buffer[number * size : (number + 1) * size] = rule
                self._rule_numbers[rule] = number
            numbers += number.to_bytes(4, "little")
        return bytes(numbers)

    def _copy(
        self, rows: bytes, first: int, count: int, chunk: int, start: int, numbers: bytes
    ) -> None:
        target = ffi.cast("u32 *", self._chunks[chunk][1].pointer) + start
        source = ffi.cast("const u32 *", ffi.from_buffer(rows)) + first
        table = ffi.cast("const u32 *", ffi.from_buffer(numbers))
        if lib.oa_rows_remap(source, count, table, len(numbers) // 4, target):
            raise TargetError("rows name a rule that is not there")

    def _take(self, pages: list[tuple[int, int, int]], at: int) -> tuple[int, tuple[int, int, int]]:
        """Find room for pages from `at` on: how many pages fit, and their (chunk, first, rows)."""
        self._bury()
        first = pages[at][1]
        wanted = pages[-1][1] + pages[-1][2] - first
        best = max(self._free, key=lambda run: run[2], default=(0, 0, 0))
        fitting = [run for run in self._free if run[2] >= wanted]
        if fitting:
            best = min(fitting, key=lambda run: run[2])
        elif best[2] < min(wanted, Limit.CHUNK_ROWS // 2) and self._can_grow:
            best = self._grow()
        taken = 0
        rows = 0
        for _, start, count in pages[at:]:
            if start + count - first > best[2]:
                break
            rows = start + count - first
            taken += 1
        if not taken:
            best, taken, rows = self._grow(), 1, pages[at][2]
        self._free.remove(best)
        chunk, start, size = best
        if size > rows:
            self._free.append((chunk, start + rows, size - rows))
        return taken, (chunk, start, rows)

    @property
    def _can_grow(self) -> bool:
        return len(self._chunks) < self._max_chunks

    def _grow(self) -> tuple[int, int, int]:
        number = len(self._chunks)
        if not self._can_grow:
            raise TargetError("the pool of unwind rows is full")
        inner = self._outer.create_inner(number, 8, Limit.CHUNK_ROWS // 2)
        self._chunks.append((inner, inner.mmap()))
        run = (number, 0, int(Limit.CHUNK_ROWS))
        self._free.append(run)
        return run

    def _bury(self) -> None:
        """Make room free whose grace period is over, and join it with its neighbours."""
        now = self._now_ns()
        if not self._graveyard or self._graveyard[0][0] > now:
            return
        while self._graveyard and self._graveyard[0][0] <= now:
            self._free.extend(self._graveyard.popleft()[1])
        joined: list[tuple[int, int, int]] = []
        for chunk, start, count in sorted(self._free):
            if joined and joined[-1][0] == chunk and joined[-1][1] + joined[-1][2] == start:
                joined[-1] = (chunk, joined[-1][1], joined[-1][2] + count)
            else:
                joined.append((chunk, start, count))
        self._free = joined

    def close(self) -> None:
        """Give the chunks back."""
        for inner, mapped in self._chunks:
            mapped.close()
            inner.close()
        self._chunks.clear()

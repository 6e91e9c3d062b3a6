# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Unwind rows of one file: the finished arrays, and what collects them in the C core.

The formats are those of `ebpf/oa_abi.h` ("A row is a u32 …").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otelagent._native import ffi, lib
from otelagent.errors import BadElf

if TYPE_CHECKING:
    from collections.abc import Sequence

RULE_BYTES = 32
PAGE_ENTRY_BYTES = 12
MAX_ADDRESS = 1 << 48
MAX_CODE_BYTES = 16 << 30
"""Executable bytes of a file, at most: bounds the pages that a lying header can ask for."""


@dataclass(frozen=True, slots=True)
class RowTable:
    """Map-ready rows of one file.

    Attributes:
        pages: Triples of u32 (page, first row, count) by ascending page; page is the ELF
            address >> 16.
        rows: u32 each: low 16 bits of the address, then the index: below 32768 one of `rules`,
            else a command (`enum oa_row`). The first row of every page begins at 0.
        rules: `struct oa_rule` each, no two alike.
        sources: What was used, and what could not be used and why; for people.
    """

    pages: bytes
    rows: bytes
    rules: bytes
    sources: tuple[str, ...] = ()

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return len(self.rows) // 4

    @property
    def rule_count(self) -> int:
        """Number of rules."""
        return len(self.rules) // RULE_BYTES

    def find(self, elf_addr: int) -> int:
        """Find what holds at an address: a rule's index, or a command (`Row.NONE` if nothing)."""
        return int(
            lib.oa_find_row(
                ffi.from_buffer("struct oa_page_entry[]", self.pages),
                len(self.pages) // PAGE_ENTRY_BYTES,
                ffi.from_buffer("uint32_t[]", self.rows),
                self.row_count,
                elf_addr,
            )
        )

    def rule(self, index: int) -> Any:  # noqa: ANN401 (cdata)
        """Give a rule as `struct oa_rule` (cdata that lives as long as the table)."""
        return ffi.from_buffer("struct oa_rule[]", self.rules)[index]

    def is_consistent(self) -> bool:
        """Check that no row or page points outside of the arrays, as after reading them back."""
        if len(self.pages) % PAGE_ENTRY_BYTES or len(self.rows) % 4 or len(self.rules) % RULE_BYTES:
            return False
        return bool(
            lib.oa_rows_check(
                ffi.from_buffer("struct oa_page_entry[]", self.pages),
                len(self.pages) // PAGE_ENTRY_BYTES,
                ffi.from_buffer("uint32_t[]", self.rows),
                self.row_count,
                self.rule_count,
            )
        )


class RowBuilder:
    """Collects fragments of rows in the C core; `finish` makes the table.

    Ranks say which fragment wins where two overlap: 0 the strongest, 3 the weakest.

    Args:
        ranges: Executable ELF address ranges (start, end); all else is dropped.

    Raises:
        BadElf: The ranges are not those of a real file.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]]) -> None:
        merged: list[list[int]] = []
        for start, end in sorted(ranges):
            if merged and start <= merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], end)
            else:
                merged.append([start, end])
        total = sum(end - start for start, end in merged)
        if total > MAX_CODE_BYTES or (merged and merged[-1][1] > MAX_ADDRESS):
            raise BadElf(f"the file claims {total} bytes of code")
        rows = lib.oa_rows_new(ffi.new("struct oa_range[]", merged), len(merged))
        if rows == ffi.NULL:
            raise BadElf(f"rows cannot be kept for {len(merged)} executable ranges")
        self.raw = ffi.gc(rows, lib.oa_rows_free)

    @property
    def fragments(self) -> int:
        """Number of fragments so far."""
        return int(lib.oa_rows_fragments(self.raw))

    def around(self, addr: int) -> tuple[bool, int, int]:
        """Tell if a fragment covers `addr` and its range; else the gap from there to the next."""
        found = ffi.new("struct oa_range *")
        covered = bool(lib.oa_rows_around(self.raw, addr, found))
        return covered, int(found.start), int(found.end)

    def add(self, start: int, size: int, rank: int, index: int) -> None:
        """Say that one rule or command holds in a whole range."""
        check_memory(lib.oa_rows_add(self.raw, start, size, rank, index))

    def rule(self, **fields: int) -> int:
        """Find or add a rule with these fields of `struct oa_rule`; the rest is 0."""
        return int(lib.oa_rows_rule(self.raw, ffi.new("struct oa_rule *", fields)))

    def finish(self, sources: Sequence[str]) -> RowTable:
        """Make the table."""
        table = ffi.new("struct oa_rows_table *")
        check_memory(lib.oa_rows_finish(self.raw, table))
        return RowTable(
            _bytes(table.pages, table.page_count * PAGE_ENTRY_BYTES),
            _bytes(table.rows, table.row_count * 4),
            _bytes(table.rules, table.rule_count * RULE_BYTES),
            tuple(sources),
        )


def check_memory(status: int) -> None:
    """Turn the C core's status into an exception: it fails only without memory."""
    if status < 0:
        raise MemoryError


def _bytes(pointer: Any, size: int) -> bytes:  # noqa: ANN401 (cdata)
    return bytes(ffi.buffer(pointer, size)) if size else b""

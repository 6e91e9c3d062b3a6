# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""ELF symbol tables as disjoint ranges: which symbol owns an address.

The face of `src/native/symtab.c`. The symbols are streamed out of the file;
names stay in it and are read one by one, so a string table of 100 MB costs
nothing. An address is owned only inside a symbol's size (size 0: up to the
next symbol), and never past the end of its section. Where only exported symbols are
left, local functions lie between them: then one without a size ends where its
function does (`extent.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from otelagent.errors import BadElf
from otelagent.formats.elf import SHF_COMPRESSED, SHT_DYNSYM, SHT_STRTAB, SHT_SYMTAB
from otelagent.symbolize.extent import Extents

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from otelagent.formats.elf import ElfFile, Section, Source

SHF_EXECINSTR = 4
MAX_NAME_BYTES = 16_384
MAX_TABLE_BYTES = 512 << 20
SMALL_BYTES = 64
"""A section of this size has one function: `.init`, `.fini`."""
_CHUNK_BYTES = 24 << 15
_DOUBTFUL_AT_ONCE = 4096
_MAX_DOUBTFUL = 200_000
_LABELS = (b"$", b".L", b".annobin", b"L\x01")


@dataclass(frozen=True, slots=True)
class Strings:
    """A string table that stays in its file."""

    source: Source
    offset: int
    size: int

    def read(self, at: int) -> bytes:
        """Read the name at offset `at`, cut at `MAX_NAME_BYTES`."""
        size = 128
        while True:
            data = self.source.read_at(self.offset + at, max(0, min(size, self.size - at)))
            end = data.find(b"\0")
            if end >= 0:
                return data[:end]
            if len(data) < size or size >= MAX_NAME_BYTES:
                return data[:MAX_NAME_BYTES]
            size *= 8


def executable_spans(elf: ElfFile) -> list[tuple[int, int]]:
    """List the address ranges of code, sorted and disjoint: sections, else segments."""
    spans = [(s.addr, s.addr + s.size) for s in elf.sections if s.flags & SHF_EXECINSTR]
    if not spans:
        spans = [(s.vaddr, s.vaddr + s.memsz) for s in elf.executable_loads()]
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        start = max(start, found[-1][1]) if found else start  # noqa: PLW2901 (overlap: cut)
        if start < end < 1 << 64:
            found.append((start, end))
    return found


class SymbolTable:
    """The symbols of one file, from one or more ELF files that describe it.

    Look-ups may be made from any thread; building is done by one.
    """

    def __init__(self, spans: list[tuple[int, int]]) -> None:
        from otelagent._native import ffi, lib  # noqa: PLC0415 (not needed for --help)

        self._lib: Any = lib
        self._ffi: Any = ffi
        text = self._ffi.new("struct oa_span[]", spans)
        self._table = self._ffi.gc(self._lib.oa_symtab_new(text, len(spans)), lib.oa_symtab_free)
        if not self._table:
            raise MemoryError
        self._found = None
        self._strings: list[Strings] = []
        self.count = 0

    @classmethod
    def read(cls, files: Iterable[ElfFile]) -> SymbolTable:
        """Read the tables of all `files`; the first file says where code is.

        Raises:
            BadElf: A file lies about its tables, or they are too large.
        """
        files = list(files)
        table = cls(executable_spans(files[0]))
        for elf in files:
            for symbols, strings in symbol_sections(elf):
                table._add(elf, symbols, strings)
        if all(s.type != SHT_SYMTAB for elf in files for s, _ in symbol_sections(elf)):
            table._bound(files[0])
        table._finish()
        return table

    def _add(self, elf: ElfFile, symbols: Section, strings: Section) -> None:
        index = len(self._strings)
        if index >= self._lib.OA_SYMTAB_TABLES:
            return
        self._strings.append(Strings(elf.source, strings.offset, strings.size))
        end = symbols.offset + symbols.size // 24 * 24
        for offset in range(symbols.offset, end, _CHUNK_BYTES):
            data = elf.read(offset, min(_CHUNK_BYTES, end - offset))
            raw = self._ffi.from_buffer("u8[]", data)
            if self._lib.oa_symtab_add(self._table, raw, len(data), index, strings.size):
                raise BadElf("more symbols than can be handled")

    def _bound(self, elf: ElfFile) -> None:
        """Let functions bound what has no size, and begin where no symbol is left."""
        extents = Extents(elf)
        raw = self._ffi.from_buffer("u8[]", extents.pairs)
        unsized = sorted(self._unsized())
        ends = [*(addr for addr, _ in unsized[1:]), 1 << 64]
        for (addr, index), end in zip(unsized, ends, strict=False):
            size = extents.size_at(addr, end)
            if size is not None:
                self._lib.oa_symtab_bound(self._table, index, size)
        if self._lib.oa_symtab_add_ends(self._table, raw, len(extents.pairs), extents.base):
            raise BadElf("more symbols than can be handled")

    def _unsized(self) -> Iterator[tuple[int, int]]:
        """Give (address, index) of functions without a size."""
        addrs = self._ffi.new("u64[]", _DOUBTFUL_AT_ONCE)
        indices = self._ffi.new("u32[]", _DOUBTFUL_AT_ONCE)
        at, room = self._ffi.new("u64 *"), _DOUBTFUL_AT_ONCE
        for _ in range(_MAX_DOUBTFUL // room):
            count = self._lib.oa_symtab_unsized(self._table, SMALL_BYTES, at, addrs, indices, room)
            yield from ((addrs[i], indices[i]) for i in range(count))
            if not count:
                return

    def _finish(self) -> None:
        for index, strings in enumerate(self._strings):
            self._drop_labels(index, strings)
        self.count = self._lib.oa_symtab_finish(self._table)
        if self.count < 0:
            raise BadElf("more symbols than can be handled")

    def _drop_labels(self, index: int, strings: Strings) -> None:
        names = self._ffi.new("u32[]", _DOUBTFUL_AT_ONCE)
        indices = self._ffi.new("u32[]", _DOUBTFUL_AT_ONCE)
        at = self._ffi.new("u32 *")
        seen = 0
        while seen < _MAX_DOUBTFUL:
            count = self._lib.oa_symtab_doubtful(
                self._table, index, at, names, indices, _DOUBTFUL_AT_ONCE
            )
            if not count:
                return
            seen += count
            for i in range(count):
                start = strings.source.read_at(strings.offset + names[i], 8)
                if start.startswith(_LABELS):
                    self._lib.oa_symtab_drop(self._table, indices[i])

    def find(self, addr: int) -> tuple[int, int, bytes] | None:
        """Find the symbol that owns `addr`: start and length of its range, and its raw name."""
        if not 0 <= addr < 1 << 64:
            return None
        found = self._ffi.new("struct oa_symbol *")
        if not self._lib.oa_symtab_find(self._table, addr, found):
            return None
        return found.addr, found.size, self._name(found.name)

    def at(self, index: int) -> tuple[int, int, bytes] | None:
        """Give the range number `index`, as `find` does."""
        found = self._ffi.new("struct oa_symbol *")
        if not self._lib.oa_symtab_at(self._table, index, found):
            return None
        return found.addr, found.size, self._name(found.name)

    def _name(self, word: int) -> bytes:
        bits: int = self._lib.OA_SYMTAB_NAME_BITS
        table, offset = word >> bits, word & ((1 << bits) - 1)
        return self._strings[table].read(offset)


def symbol_sections(elf: ElfFile) -> list[tuple[Section, Section]]:
    """List (symbols, strings) sections that can be streamed: `.symtab` before `.dynsym`."""
    found = []
    for kind in (SHT_SYMTAB, SHT_DYNSYM):
        for section in elf.sections:
            if section.type != kind or section.link >= len(elf.sections):
                continue
            strings = elf.sections[section.link]
            if strings.type != SHT_STRTAB or (section.flags | strings.flags) & SHF_COMPRESSED:
                continue
            if section.size <= MAX_TABLE_BYTES and strings.size <= MAX_TABLE_BYTES * 2:
                found.append((section, strings))
    return found

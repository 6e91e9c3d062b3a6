# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Go's `.gopclntab`: names, files, lines and inlined calls, Go 1.16 and newer.

Nothing is read in advance but two headers: each address costs a few small
reads, so a binary of any size is opened at once. The layouts (Go's
`src/runtime/symtab.go`, `runtime2.go`, `symtabinl.go` at the tags named):

| magic | Go | differences |
| --- | --- | --- |
| `0xfffffffa` | 1.16, 1.17 | absolute entries, funcdata are pointers, inline tree of 20 bytes |
| `0xfffffff0` | 1.18, 1.19 | offsets from `text`, funcdata are offsets from `gofunc` |
| `0xfffffff1` | 1.20 … | start lines, inline tree of 16 bytes; 1.26: no text address |

`text` and `gofunc` are in the module data, which is found by its first word:
the address of the table.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from otelagent.errors import BadElf
from otelagent.formats.elf import SHT_NOBITS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.formats.elf import ElfFile, Section

SECTIONS = (".gopclntab", ".data.rel.ro.gopclntab")
MAX_NAME_BYTES = 4096
MAX_INLINED = 128
MAX_PCVALUE_BYTES = 4 << 20
MAX_SCANNED_BYTES = 64 << 20
_V116, _V118, _V120 = 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
_GO_MARKS = {".go.buildinfo", ".note.go.buildid"}
_PCDATA_INLINE, _FUNCDATA_INLINE = 2, 3
# Offsets in the module data (runtime/symtab.go, `type moduledata`).
_MODULE_TEXT, _MODULE_ETEXT = 176, 184
_MODULE_GOFUNC = {_V118: 304, _V120: 320}
_SHT_RELA, _R_RELATIVE = 4, (8, 1027)


class _Library(Protocol):
    def oa_pcvalue(self, *args: object) -> int: ...


@dataclass(frozen=True, slots=True)
class GoLine:
    """One function at an address: `line` is of the address, `start_line` of the function."""

    name: str
    file: str
    line: int
    start_line: int


def find_section(elf: ElfFile) -> Section | None:
    """Find the table: by its section's name, else by its magic where a linker merged it.

    GNU ld puts `.data.rel.ro.gopclntab` of position-independent programs into
    `.data.rel.ro`. Only files with Go's marks are searched.
    """
    names = {section.name: section for section in elf.sections if section.type != SHT_NOBITS}
    for name in SECTIONS:
        if name in names:
            return names[name]
    if not names.keys() & _GO_MARKS:
        return None
    for name in (".data.rel.ro", ".rodata"):
        section = names.get(name)
        if section is None or section.size > MAX_SCANNED_BYTES * 4:
            continue
        data = elf.read(section.offset, section.size)
        for magic in (_V120, _V118, _V116):
            at = _find_aligned(data, magic.to_bytes(4, "little") + b"\0\0")
            if at is not None and data[at + 6] in {1, 4} and data[at + 7] == 8:
                return replace(
                    *(section,),
                    addr=section.addr + at,
                    offset=section.offset + at,
                    size=section.size - at,
                )
    return None


def _find_aligned(data: bytes, needle: bytes) -> int | None:
    at = data.find(needle)
    while at >= 0 and (at % 8 or at + 72 > len(data)):
        at = data.find(needle, at + 1)
    return at if at >= 0 else None


@dataclass(frozen=True, slots=True)
class _Func:
    """A decoded `_func`."""

    entry: int
    name_at: int
    pcsp: int
    pcfile: int
    pcln: int
    unit: int
    start_line: int
    inline_index: int
    inline_tree: int


class GoTable:
    """Looks addresses up in one file's pclntab. Not to be shared between threads.

    Raises:
        BadElf: There is no table, or one of a layout that is not known.
    """

    def __init__(self, elf: ElfFile) -> None:
        from otelagent._native import ffi, lib  # noqa: PLC0415 (not needed for --help)

        self._ffi: Any = ffi
        self._lib: _Library = lib
        self._elf = elf
        section = find_section(elf)
        if section is None:
            raise BadElf("no .gopclntab")
        self._section: Section = section
        head = self._read(0, 72)
        self._magic, pads, self._quantum, pointer = struct.unpack_from("<IHBB", head)
        if pads or pointer != 8 or self._quantum not in {1, 4}:
            raise BadElf("unknown layout of .gopclntab")
        if self._magic == _V116:
            self._count, _, *tables = struct.unpack_from("<7Q", head, 8)
            self._header_text = 0
        elif self._magic in {_V118, _V120}:
            self._count, _, self._header_text, *tables = struct.unpack_from("<8Q", head, 8)
        else:
            raise BadElf("unknown layout of .gopclntab")
        self._names, self._units, self._files, self._pctab, self._funcs = tables
        self._entry_size = 16 if self._magic == _V116 else 8
        if self._count > section.size // self._entry_size:
            raise BadElf(".gopclntab claims more functions than it has room for")

    def _read(self, at: int, size: int) -> bytes:
        """Read up to `size` bytes of the section; fewer at its end."""
        if at < 0 or at >= self._section.size:
            return b""
        size = min(size, self._section.size - at)
        return self._elf.source.read_at(self._section.offset + at, size)

    def _text_at(self, at: int) -> str:
        for size in (128, MAX_NAME_BYTES):
            data = self._read(at, size)
            end = data.find(b"\0")
            if end >= 0 or len(data) < size:
                break
        return data[: end if end >= 0 else len(data)].decode("utf-8", "replace")

    def _unpack(self, layout: str, at: int) -> tuple[int, ...]:
        size = struct.calcsize(layout)
        data = self._read(at, size)
        if len(data) != size:
            raise BadElf("an offset in .gopclntab lies outside of it")
        return struct.unpack(layout, data)

    @cached_property
    def _module(self) -> int | None:
        """ELF address of the module data, or None."""
        pclntab = self._section.addr
        needle = pclntab.to_bytes(8, "little")
        own = self._elf.section(".go.module")
        if own and self._word(own.addr) == pclntab:
            return own.addr
        for section in self._elf.sections:
            is_data = section.flags & 3 == 3 and section.type != SHT_NOBITS
            if not is_data or section.size > MAX_SCANNED_BYTES:
                continue
            data = self._elf.read(section.offset, section.size)
            at = data.find(needle)
            while at >= 0:
                if at % 8 == 0 and self._is_module(section.addr + at):
                    return section.addr + at
                at = data.find(needle, at + 1)
        for offset, addend in self._relocations.items():
            if addend == pclntab and self._is_module(offset):
                return offset
        return None

    def _is_module(self, addr: int) -> bool:
        """Tell whether the words after the header's address point into the table."""
        return (
            self._word(addr) == self._section.addr
            and self._word(addr + 8) == self._section.addr + self._names
            and self._word(addr + 32) == self._section.addr + self._units
        )

    @cached_property
    def _relocations(self) -> dict[int, int]:
        """R_*_RELATIVE of a position-independent file whose data hold no addresses."""
        section = self._elf.section(".rela.dyn")
        if section is None or section.type != _SHT_RELA or section.size > MAX_SCANNED_BYTES:
            return {}
        data = self._elf.read(section.offset, section.size // 24 * 24)
        low = min((s.addr for s in self._elf.sections if s.flags & 3 == 3), default=0)
        return {
            offset: addend
            for offset, info, addend in struct.iter_unpack("<QQq", data)
            if info in _R_RELATIVE and offset >= low and addend >= 0
        }

    def _word(self, addr: int) -> int:
        try:
            value = int.from_bytes(self._elf.read_address(addr, 8), "little")
        except BadElf:
            return 0
        return value or self._relocations.get(addr, 0)

    @cached_property
    def _text(self) -> int:
        if self._magic == _V116:
            return 0
        if self._module is not None:
            return self._word(self._module + _MODULE_TEXT)
        if self._header_text:
            return self._header_text
        section = self._elf.section(".text")
        if section is None:
            raise BadElf("the start of Go's code is not known")
        return section.addr

    @cached_property
    def _gofunc(self) -> int:
        offset = _MODULE_GOFUNC.get(self._magic)
        if offset is None or self._module is None:
            return 0
        return self._word(self._module + offset)

    def _functab(self, index: int) -> tuple[int, int]:
        """Entry (ELF address) and offset of function `index`; the last one only has an entry."""
        at = self._funcs + index * self._entry_size
        word = "<Q" if self._magic == _V116 else "<I"
        entry = self._text + self._unpack(word, at)[0]
        if index == self._count:
            return entry, 0
        return entry, self._unpack(word, at + self._entry_size // 2)[0]

    @property
    def count(self) -> int:
        """How many functions there are."""
        return int(self._count)

    def entry(self, index: int) -> int:
        """ELF address of function `index`; of `count`: the end of the last one."""
        return self._functab(index)[0]

    def _find(self, addr: int) -> _Func | None:
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._functab(middle)[0] <= addr:
                low = middle + 1
            else:
                high = middle
        if low == 0 or (low == self._count and addr >= self._functab(low)[0]):
            return None
        return self._decode(*self._functab(low - 1))

    def _decode(self, entry: int, offset: int) -> _Func:
        at = self._funcs + offset
        fields = 9 if self._magic != _V120 else 10
        skip = 4 if self._magic == _V116 else 0  # the entry has 8 bytes there
        words = self._unpack(f"<{fields}I", at + skip)
        at += skip + fields * 4
        _, _, _, funcdata_count = self._unpack("<4B", at)
        at += 4
        pcdata_count = words[7]
        inline_index = 0
        if pcdata_count > _PCDATA_INLINE:
            inline_index = self._unpack("<I", at + 4 * _PCDATA_INLINE)[0]
        at += 4 * pcdata_count
        tree = 0
        if funcdata_count > _FUNCDATA_INLINE:
            tree = self._inline_tree(at)
        start_line = words[9] if fields == 10 else 0
        return _Func(
            *(entry, words[1], words[4], words[5], words[6], words[8], start_line),
            inline_index=inline_index,
            inline_tree=tree,
        )

    def _inline_tree(self, at: int) -> int:
        if self._magic == _V116:
            at += (self._section.addr + at) & 4  # pointers are aligned
            addr = self._section.addr + at + 8 * _FUNCDATA_INLINE
            return self._unpack("<Q", at + 8 * _FUNCDATA_INLINE)[0] or self._word(addr)
        offset = self._unpack("<I", at + 4 * _FUNCDATA_INLINE)[0]
        if offset == 0xFFFFFFFF or not self._gofunc:
            return 0
        return self._gofunc + offset

    def _value(self, table: int, target: int) -> int | None:
        """Look up a pc-value table; -1 if there is none, None past its end."""
        if not table:
            return -1
        size = 512
        value = self._ffi.new("s32 *")
        while True:
            data = self._read(self._pctab + table, size)
            raw = self._ffi.from_buffer("u8[]", data)
            status = self._lib.oa_pcvalue(raw, len(data), self._quantum, target, value)
            if status == 0:
                return int(value[0])
            if status == 1 or len(data) < size or size >= MAX_PCVALUE_BYTES:
                return None
            size *= 8

    def _file(self, func: _Func, target: int) -> str:
        number = self._value(func.pcfile, target)
        if number is None or number < 0:
            return ""
        at = self._units + 4 * ((func.unit + number) & 0xFFFFFFFF)
        offset = self._unpack("<I", at)[0]
        return "" if offset == 0xFFFFFFFF else self._text_at(self._files + offset)

    def _inlined(self, func: _Func, index: int) -> tuple[int, int, int]:
        """Name offset, parent's pc and start line of an inlined call."""
        if self._magic == _V120:
            data = self._elf.read_address(func.inline_tree + 16 * index, 16)
            name, parent, start = struct.unpack_from("<iii", data, 4)
            return name, parent, start
        data = self._elf.read_address(func.inline_tree + 20 * index, 20)
        name, parent = struct.unpack_from("<ii", data, 12)
        return name, parent, 0

    def _walk(self, func: _Func, target: int) -> Iterator[tuple[int, int, int]]:
        """Yield (name offset, start line, pc offset), innermost first."""
        for _ in range(MAX_INLINED):
            index = self._value(func.inline_index, target) if func.inline_tree else -1
            if index is None or index < 0:
                break
            name, parent, start_line = self._inlined(func, index)
            yield name, start_line, target
            target = parent
        yield func.name_at, func.start_line, target

    def find(self, addr: int) -> tuple[GoLine, ...]:
        """Name an ELF address, innermost inlined call first; empty if no function covers it.

        Raises:
            BadElf: The tables contradict one another.
        """
        func = self._find(addr)
        if func is None:
            return ()
        target = addr - func.entry
        if self._value(func.pcln or func.pcsp, target) is None:
            return ()  # the padding behind a function belongs to nobody
        found = []
        for name_at, start_line, at in self._walk(func, target):
            line = self._value(func.pcln, at) or 0
            name = self._text_at(self._names + name_at)
            found.append(GoLine(name, self._file(func, at), max(line, 0), max(start_line, 0)))
        return tuple(found) if found[-1].name else ()

# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Names of PLT stubs, `puts@plt`, from the stub's own code.

A stub jumps through a slot of the global offset table; the relocation of that
slot names the function. Nothing is concluded from the order of the stubs: a
linker may leave some out.
"""

from __future__ import annotations

import struct
from functools import cached_property
from typing import TYPE_CHECKING

from otelagent.errors import BadElf
from otelagent.formats.elf import EM_AARCH64, EM_X86_64, SHT_DYNSYM
from otelagent.symbolize.symtab import Strings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from otelagent.formats.elf import ElfFile, Section

MAX_RELOCATION_BYTES = 64 << 20
_SHT_RELA = 4
# R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT; R_AARCH64_GLOB_DAT, R_AARCH64_JUMP_SLOT
_SLOT_TYPES = {EM_X86_64: {6, 7}, EM_AARCH64: {1025, 1026}}
_ENDBR64, _BND = b"\xf3\x0f\x1e\xfa", b"\xf2"
_JUMP_SLOT, _PUSH = b"\xff\x25", b"\x68"
_BTI_C = 0xD503245F


class PltStubs:
    """Names addresses in `.plt`, `.plt.sec` and `.plt.got`. Not to be shared between threads."""

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        names = (".plt", ".iplt")
        self._stubs = [s for s in elf.sections if s.name.startswith(names) and s.flags & 4]

    def section_of(self, addr: int) -> Section | None:
        """Find the section of stubs that holds an ELF address."""
        return next((s for s in self._stubs if s.addr <= addr < s.addr + s.size), None)

    def name(self, addr: int) -> bytes | None:
        """Name the function that the stub at `addr` jumps to; None if that is not known.

        Raises:
            BadElf: A table that is needed lies outside of the file.
        """
        section = self.section_of(addr)
        if section is None:
            return None
        if self._elf.machine == EM_X86_64:
            slot = self._x86_slot(section, addr)
        elif self._elf.machine == EM_AARCH64:
            slot = self._arm_slot(section, addr)
        else:
            return None
        if slot is None:
            return None
        symbol = self._lazy_slots.get(slot)
        return self._symbol(self._other_slots.get(slot, 0) if symbol is None else symbol)

    def _x86_slot(self, section: Section, addr: int) -> int | None:
        size = section.entsize if section.entsize in {8, 16} else 16
        start = section.addr + (addr - section.addr) // size * size
        code = self._elf.read_address(start, size)
        at = 4 if code.startswith(_ENDBR64) else 0
        at += code.startswith(_BND, at)
        if code.startswith(_JUMP_SLOT, at):
            return start + at + 6 + int.from_bytes(code[at + 2 : at + 6], "little", signed=True)
        if code.startswith(_PUSH, at) and at:  # the lazy half of a stub with endbr64
            index = int.from_bytes(code[at + 1 : at + 5], "little")
            slots = list(self._lazy_slots) if index < len(self._lazy_slots) else []
            return slots[index] if slots else None
        return None

    def _arm_slot(self, section: Section, addr: int) -> int | None:
        start = addr & ~3
        if int.from_bytes(self._elf.read_address(start, 4), "little") == _BTI_C:
            start += 4
        for at in range(start, max(start - 20, section.addr - 4), -4):
            code = self._elf.read_address(at, 8)
            page, load = (int.from_bytes(code[i : i + 4], "little") for i in (0, 4))
            if page & 0x9F00001F != 0x90000010 or load & 0xFFC003FF != 0xF9400211:
                continue  # not adrp x16 followed by ldr x17, [x16, #…]
            pages = (page >> 29 & 3) | (page >> 5 & 0x7FFFF) << 2
            pages -= (pages & 1 << 20) << 1
            return (at & ~0xFFF) + (pages << 12) + (load >> 10 & 0xFFF) * 8
        return None

    def _relocations(self, name: str) -> Iterator[tuple[int, int]]:
        section = self._elf.section(name)
        if section is None or section.type != _SHT_RELA or section.size > MAX_RELOCATION_BYTES:
            return
        types = _SLOT_TYPES[self._elf.machine]
        data = self._elf.read(section.offset, section.size // 24 * 24)
        for offset, info, _ in struct.iter_unpack("<QQq", data):
            kind = info & 0xFFFFFFFF
            if kind in types:
                yield offset, info >> 32
            elif name == ".rela.plt":
                yield offset, 0  # keeps its place: stubs push the index

    @cached_property
    def _lazy_slots(self) -> dict[int, int]:
        return dict(self._relocations(".rela.plt"))

    @cached_property
    def _other_slots(self) -> dict[int, int]:
        return dict(self._relocations(".rela.dyn"))

    def _symbol(self, index: int) -> bytes | None:
        table = next((s for s in self._elf.sections if s.type == SHT_DYNSYM), None)
        if not index or table is None or (index + 1) * 24 > table.size:
            return None
        if table.link >= len(self._elf.sections):
            return None
        strings = self._elf.sections[table.link]
        at = int.from_bytes(self._elf.read(table.offset + index * 24, 4), "little")
        if at >= strings.size:
            raise BadElf("a symbol's name lies outside of its table")
        return Strings(self._elf.source, strings.offset, strings.size).read(at) or None

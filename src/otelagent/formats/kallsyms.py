# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""`/proc/kallsyms` and `/proc/modules`: symbols and ranges of kernel code.

The 100,000 to 300,000 lines of kallsyms go through the C core in one call
(`oa_symtab_add_kallsyms`); names are kept apart, joined by NUL.
"""

from __future__ import annotations

import zlib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Any

MAX_BYTES = 128 << 20
MAX_FUNCTION_BYTES = 1 << 20
PACKED_BYTES = 8192
"""So much of the names is unpacked for a look-up: 30 us."""
KERNEL = "[kernel.kallsyms]"
# Kernel addresses have their top bit set on x86-64 and arm64; the last byte ends no symbol.
_KERNEL_SPAN = (1 << 63, (1 << 64) - 1)


@dataclass(frozen=True, slots=True)
class ModuleRange:
    """A loaded module's name, first address and length; the address is 0 if it is hidden."""

    name: str
    start: int
    size: int


def parse_modules(text: str) -> list[ModuleRange]:
    """Parse `/proc/modules`: name, size, users, …, address; bad lines are left out."""
    found = []
    for line in text.splitlines()[:65_536]:
        parts = line.split()
        try:
            found.append(ModuleRange(parts[0], int(parts[5], 16), int(parts[1])))
        except (IndexError, ValueError):
            continue
    return sorted(found, key=lambda module: module.start)


class Kallsyms:
    """The functions of a running kernel, as one look-up table.

    A symbol ends where the next one begins, where its module ends, or after
    `MAX_FUNCTION_BYTES`. Look-ups may be made from any thread.
    """

    def __init__(self, data: bytes, modules: list[ModuleRange] | None = None) -> None:
        from otelagent._native import ffi, lib  # noqa: PLC0415 (not needed for --help)

        self._ffi: Any = ffi
        self._lib: Any = lib
        self._modules = [m for m in modules or [] if m.start]
        self._starts = [m.start for m in self._modules]
        text = self._ffi.new("struct oa_span[]", [_KERNEL_SPAN])
        self._table = self._ffi.gc(self._lib.oa_symtab_new(text, 1), self._lib.oa_symtab_free)
        if not self._table:
            raise MemoryError
        names = self._ffi.new("u8[]", len(data) + 1)
        hidden = self._ffi.new("u64 *")
        raw = self._ffi.from_buffer("u8[]", data)
        size = self._lib.oa_symtab_add_kallsyms(
            self._table, raw, len(data), MAX_FUNCTION_BYTES, names, hidden
        )
        for module in self._modules:
            self._lib.oa_symtab_add_end(self._table, module.start + module.size)
        self._names = bytes(self._ffi.buffer(names, max(size, 0)))
        self._packed: list[bytes] = []
        self.count: int = max(self._lib.oa_symtab_finish(self._table), 0)
        self.are_hidden: bool = self.count == 0 and hidden[0] > 0

    def find(self, addr: int) -> tuple[str, str] | None:
        """Find the function that owns `addr`: its name, and `KERNEL` or the module in brackets."""
        if not 0 <= addr < 1 << 64:
            return None
        found = self._ffi.new("struct oa_symbol *")
        if not self._lib.oa_symtab_find(self._table, addr, found):
            return None
        name, _, module = self._name_at(found.name).decode("utf-8", "replace").partition("\t")
        return name, module.strip() or KERNEL

    def pack(self) -> None:
        """Keep the names in a quarter of the memory, of which a kernel's are 3 MB: some 25 ms."""
        if names := self._names:
            places = range(0, len(names), PACKED_BYTES)
            self._packed = [zlib.compress(names[at : at + PACKED_BYTES], 1) for at in places]
            self._names = b""

    def _name_at(self, at: int) -> bytes:
        names = self._names
        if self._packed:
            block, at = divmod(at, PACKED_BYTES)
            names = zlib.decompress(self._packed[block])
            while names.find(b"\0", at) < 0:  # it goes on in the next one
                block += 1
                names += zlib.decompress(self._packed[block])
        return names[at : names.find(b"\0", at)]

    def module_of(self, addr: int) -> str:
        """Name the module that holds `addr`, as `[name]`; empty for the kernel or unknown."""
        at = bisect_right(self._starts, addr) - 1
        if at < 0 or addr >= self._modules[at].start + self._modules[at].size:
            return ""
        return f"[{self._modules[at].name}]"

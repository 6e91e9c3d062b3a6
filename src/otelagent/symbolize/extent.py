# Copyright The otelagent authors
# SPDX-License-Identifier: Apache-2.0
"""Where a function of a stripped file ends, if its symbol does not say.

`.eh_frame_hdr` lists where the functions begin that `.eh_frame` describes, and each entry of that
says how long one is. What is not described (assembly) ends where its code does.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from otelagent.formats.elf import ElfFile

MAX_UNWIND_BYTES = 64 << 20
MAX_CODE_BYTES = 16 << 10
"""What is looked at of a function's code."""
# DW_EH_PE_udata4 (count), DW_EH_PE_datarel | DW_EH_PE_sdata4 (table): what every linker writes.
_SORTED_TABLE = b"\x03\x3b"
_DESCRIPTION = struct.Struct("<IIiI")
"""Of a function, as GNU tools write it: length, CIE, begin (relative to itself), size."""
_BEGIN_OFFSET = 8


class Extents:
    """Used by one thread.

    Attributes:
        pairs: Of each function, sorted: s32 begin and s32 description, both relative to `base`.
    """

    def __init__(self, elf: ElfFile) -> None:
        self._elf = elf
        self.base, self.pairs = 0, b""
        section = elf.section(".eh_frame_hdr")
        if section is not None and 12 <= section.size <= MAX_UNWIND_BYTES:
            data = elf.read(section.offset, section.size)
            if data[0] == 1 and data[2:4] == _SORTED_TABLE:
                self.base, self.pairs = section.addr, data[12 : 12 + (len(data) - 12) // 8 * 8]
        self._begins = array("i", self.pairs)[::2]

    def size_at(self, addr: int, end: int) -> int | None:
        """Tell how far from `addr` its function goes on; None: that is not known.

        Where the next one begins (`end`) is known, and it is looked no farther.
        """
        at = bisect_right(self._begins, addr - self.base)
        if at:
            described = self._described_end(at - 1)
            if described is None or addr < described:
                return described and described - addr
        most = min(MAX_CODE_BYTES, end - addr)
        if at < len(self._begins):
            most = min(most, self.base + self._begins[at] - addr)
        return self._code_size(addr, most)

    def _described_end(self, index: int) -> int | None:
        begin = self.base + self._begins[index]
        (relative,) = struct.unpack_from("<i", self.pairs, index * 8 + 4)
        place = self.base + relative
        offset = self._elf.offset_of(place)
        raw = self._elf.source.read_at(offset, _DESCRIPTION.size) if offset is not None else b""
        if len(raw) < _DESCRIPTION.size:
            return None
        _, _, distance, size = _DESCRIPTION.unpack(raw)
        # Else it is encoded in another way.
        return begin + size if place + _BEGIN_OFFSET + distance == begin else None

    def _code_size(self, addr: int, most: int) -> int | None:
        from otelagent._native import ffi, lib  # noqa: PLC0415 (not needed for --help)

        offset = self._elf.offset_of(addr)
        if offset is None:
            return None
        code = self._elf.source.read_at(offset, most)
        return int(lib.oa_code_extent(ffi.from_buffer("u8[]", code), len(code), self._elf.machine))
